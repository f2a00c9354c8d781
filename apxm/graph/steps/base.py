"""What the typed methods stand on: `add`, and the mark of a keyword that was not given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apxm.graph.builder import Input, Ref


class _Unset:
    """Stands for no value where None is a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()


class Adding:
    """Something that steps can be added to."""

    __slots__ = ()

    def add(self, op: str, *inputs: Input, **keywords: Any) -> Ref:
        """Add a node of any operation."""
        raise NotImplementedError
