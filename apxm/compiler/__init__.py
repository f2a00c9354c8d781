"""From a graph to an artifact: check, lower, optimise where that is safe, and say what was done and what was not."""
