"""Which module binds which operation. The only place that knows all families of handlers."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from apxm.errors import BindError
from apxm.executor import handlers

if TYPE_CHECKING:
    from apxm.executor.bind import Binder, NodeSpec

COMPILED_AWAY = frozenset(("LOOP_START", "LOOP_END"))  # a pair of them becomes one LOOP when a graph is lowered


@cache
def binders() -> dict[str, Binder]:
    """Operation name -> binder, for every operation that has a handler."""
    found: dict[str, Binder] = {}
    for family in sorted(module.name for module in iter_modules(handlers.__path__)):
        found.update(import_module(f"{handlers.__name__}.{family}").BINDERS)
    return found


def binder_of(spec: NodeSpec) -> Binder:
    """The binder of a node's operation; BindError when its handler does not exist yet."""
    binder = binders().get(spec.op.name)
    if binder is None:
        close = get_close_matches(spec.op.name, binders(), n=1)
        text = f"node `{spec.name}` of flow `{spec.flow}`: {spec.op.name} is valid, but has no handler in this version"
        raise BindError(text, hint=f"`{close[0]}` has one" if close else "`apxm ops list` marks the operations that run")
    return binder
