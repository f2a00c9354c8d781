"""Named places where a test may step in: kill the process, raise, wait. Off, and next to free, unless a test installs a hook."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_hook: Callable[[str], None] | None = None


def fault(site: str) -> None:
    """Stand at a named place. Only for places where something durable happens just before or just after, never on a hot path."""
    if _hook is not None:
        _hook(site)


@contextmanager
def at_faults(hook: Callable[[str], None]) -> Iterator[None]:
    """Call `hook(site)` at every named place of this process while the block runs; what it raises is raised there."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before
