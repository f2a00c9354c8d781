"""Where code runs that nobody has to trust: a sandbox of bubblewrap, and everything that limits and ends it."""
