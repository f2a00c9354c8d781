"""The `apxm` command: reads what a person typed, runs it on the public API, and says what happened. Decides nothing else."""
