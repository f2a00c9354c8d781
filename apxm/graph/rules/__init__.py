"""The rules that a graph must keep, by what they look at. `apxm.graph.validate` applies them all."""
