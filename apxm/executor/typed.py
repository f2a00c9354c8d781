"""A function that looks at the types of its arguments first, as cheaply as plain Python can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TYPES_MAX = 256  # combinations of types that one node remembers as accepted


def typed(fn: Callable[..., Any], allowed: Sequence[frozenset[type]], refuse: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, called when every argument has one of the types allowed in its place; otherwise `refuse(*arguments)` raises.

    The short forms cost about 35 ns for each argument above the call, the one for any number about 250 ns in all.
    """
    if len(allowed) == 1:
        return _one(fn, allowed[0], refuse)
    if len(allowed) == 2:
        return _two(fn, allowed[0], allowed[1], refuse)
    if len(allowed) == 3:
        return _three(fn, allowed[0], allowed[1], allowed[2], refuse)
    return _many(fn, allowed, refuse)


def _one(fn: Callable[..., Any], first: frozenset[type], refuse: Callable[..., Any]) -> Callable[..., Any]:
    def one(a: Any) -> Any:
        return fn(a) if type(a) in first else refuse(a)

    return one


def _two(
    fn: Callable[..., Any], first: frozenset[type], second: frozenset[type], refuse: Callable[..., Any]
) -> Callable[..., Any]:
    def two(a: Any, b: Any) -> Any:
        return fn(a, b) if type(a) in first and type(b) in second else refuse(a, b)

    return two


def _three(
    fn: Callable[..., Any],
    first: frozenset[type],
    second: frozenset[type],
    third: frozenset[type],
    refuse: Callable[..., Any],
) -> Callable[..., Any]:
    def three(a: Any, b: Any, c: Any) -> Any:
        return fn(a, b, c) if type(a) in first and type(b) in second and type(c) in third else refuse(a, b, c)

    return three


def _many(fn: Callable[..., Any], allowed: Sequence[frozenset[type]], refuse: Callable[..., Any]) -> Callable[..., Any]:
    accepted: set[tuple[type, ...]] = set()

    def many(*arguments: Any) -> Any:
        types = tuple(map(type, arguments))
        if types not in accepted:
            if not all(kind in kinds for kind, kinds in zip(types, allowed)):
                return refuse(*arguments)
            if len(accepted) < TYPES_MAX:
                accepted.add(types)
        return fn(*arguments)

    return many
