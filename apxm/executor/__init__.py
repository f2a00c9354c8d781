"""HOW one operation is done: binders and handlers, by family. Never sees the scheduler."""
