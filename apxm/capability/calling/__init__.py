"""How one call runs: inline, on a thread, in a process of its own; with a timeout, and errors by class."""
