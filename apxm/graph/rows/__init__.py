"""The rows of the operation table, one module per family. `apxm.graph.ops` joins them."""
