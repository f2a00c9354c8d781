"""What a capability accepts and gives: schemas from type hints, and the checks compiled from them. Runs nothing."""

from __future__ import annotations

import collections.abc
import types
import typing
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Schema: TypeAlias = dict[str, Any]
Test: TypeAlias = "Callable[[Any], bool]"

SUPPORTED = "str, int, float, bool, bytes, None, list, dict, Optional, Union, Literal, Any, numpy.ndarray, torch.Tensor"
_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable)
_MAPS = (dict, collections.abc.Mapping)
_ARRAYS = (("numpy", "ndarray"), ("torch", "Tensor"))


@dataclass(frozen=True, slots=True)
class Hint:
    """What one parameter or result may be.

    `types` when the exact type decides alone; otherwise `test` does; neither: everything is accepted.
    """

    text: str
    schema: Schema
    types: frozenset[type] | None = None
    test: Test | None = None

    def accepts(self, value: Any) -> bool:
        if self.types is not None:
            return type(value) in self.types
        return self.test is None or self.test(value)

    @property
    def free(self) -> bool:
        """Nothing is ever refused."""
        return self.types is None and self.test is None


ANYTHING = Hint("any value", {})

_PLAIN: dict[Any, Hint] = {
    str: Hint("str", {"type": "string"}, frozenset((str,))),
    int: Hint("int", {"type": "integer"}, frozenset((int,))),
    float: Hint("float", {"type": "number"}, frozenset((float, int))),
    bool: Hint("bool", {"type": "boolean"}, frozenset((bool,))),
    bytes: Hint("bytes", {"type": "string", "format": "binary"}, frozenset((bytes,))),
    None: Hint("None", {"type": "null"}, frozenset((NoneType,))),
    NoneType: Hint("None", {"type": "null"}, frozenset((NoneType,))),
    Any: ANYTHING,
    object: ANYTHING,
}


class HintRefused(Exception):
    """A type hint that no schema can say. The caller adds whose it is."""


def compile_hint(hint: Any) -> Hint:
    """A type hint as a schema and a check; HintRefused for what is not SUPPORTED."""
    plain = _plain_hint(hint)
    if plain is not None:
        return plain
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return compile_hint(parts[0])
    if origin in (Union, types.UnionType):
        return _union([compile_hint(part) for part in parts])
    if origin is Literal:
        return _literal(parts)
    if hint in _LISTS or origin in _LISTS:
        return list_hint(compile_hint(parts[0]) if parts else ANYTHING)
    if hint in _MAPS or origin in _MAPS:
        if parts and parts[0] is not str:
            raise HintRefused(f"{hint} has keys that are not str")
        return _map(compile_hint(parts[1]) if parts else ANYTHING)
    if isinstance(hint, type) and (hint.__module__, hint.__name__) in _ARRAYS:
        return Hint(hint.__name__, {"description": f"a {hint.__module__}.{hint.__name__}"}, None, _instance_of(hint))
    raise HintRefused(f"{hint if typing.get_origin(hint) else getattr(hint, '__qualname__', hint)}")


def _plain_hint(hint: Any) -> Hint | None:
    try:
        return _PLAIN.get(hint)
    except TypeError:  # a hint that cannot be hashed is none of ours
        return None


def _instance_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _union(parts: Sequence[Hint]) -> Hint:
    text = " | ".join(part.text for part in parts)
    schema = {"anyOf": [part.schema for part in parts]}
    if any(part.free for part in parts):
        return Hint(text, {})
    exact = [part.types for part in parts if part.types is not None]
    if len(exact) == len(parts):
        return Hint(text, schema, frozenset().union(*exact))
    return Hint(text, schema, None, lambda value: any(part.accepts(value) for part in parts))


def _literal(choices: Sequence[Any]) -> Hint:
    if any(type(choice) not in (str, int, bool, bytes, NoneType) for choice in choices):
        raise HintRefused(f"Literal{list(choices)!r} has choices that are no plain values")
    allowed = frozenset((type(choice), choice) for choice in choices)
    scalars = frozenset(type(choice) for choice in choices)
    return Hint(
        "one of " + ", ".join(map(repr, choices)),
        {"enum": list(choices)},
        None,
        lambda value: type(value) in scalars and (type(value), value) in allowed,
    )


def list_hint(item: Hint) -> Hint:
    """A list of such items."""
    if item.free:
        return Hint("list", {"type": "array"}, frozenset((list,)))
    every = _every(item)

    def test(value: Any) -> bool:
        return type(value) is list and every(value)

    return Hint(f"list of {item.text}", {"type": "array", "items": item.schema}, None, test)


def _map(item: Hint) -> Hint:
    if item.free:
        return Hint("map", {"type": "object"}, frozenset((dict,)))
    every = _every(item)

    def test(value: Any) -> bool:
        return type(value) is dict and every(value.values())

    return Hint(f"map of {item.text}", {"type": "object", "additionalProperties": item.schema}, None, test)


def _every(item: Hint) -> Callable[[Iterable[Any]], bool]:
    types, test = item.types, item.test
    if types is not None:
        return lambda values: types.issuperset(map(type, values))
    return lambda values: all(map(test, values))  # type: ignore[arg-type]  # a free item never comes here


class JsonSchema:
    """A JSON Schema given by a host, compiled. Remote references are refused, patterns run in linear time."""

    __slots__ = ("_validator", "schema")

    def __init__(self, schema: Mapping[str, Any], whose: str) -> None:
        import jsonschema_rs

        self.schema: Schema = dict(schema)
        try:
            self._validator = jsonschema_rs.validator_for(
                self.schema, retriever=_no_reference, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, TypeError) as error:  # also ValidationError and ReferencingError
            raise InvalidError(f"the schema of {whose} is no valid JSON Schema: {getattr(error, 'message', error)}") from error

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, and where in it; None when it fits."""
        try:
            error = next(iter(self._validator.iter_errors(value)), None)
        except ValueError as refused:  # bytes, arrays: nothing a JSON Schema could speak about
            return str(refused)
        if error is None:
            return None
        path = "".join(f"[{step!r}]" for step in error.instance_path)
        return f"{error.message}" + (f" (at {path})" if path else "")


def _no_reference(uri: str) -> Any:
    raise ValueError(f"reference to {uri}: schemas must stand alone")


def shown(value: Any) -> str:
    """A value as an error message shows it: short, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"
