"""How one operation is done, by family. Each module has BINDERS: operation name -> binder (see apxm.executor.bind)."""
