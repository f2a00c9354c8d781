"""The parameters of a capability: read from a function, described as a JSON Schema, and filled with arguments. Calls nothing."""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from apxm.capability.schema import ANYTHING, SUPPORTED, Hint, HintRefused, JsonSchema, Schema, compile_hint, list_hint, shown
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")

_P = inspect.Parameter
_IN_ORDER = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)
# `name: text` or `name (type): text`, indented, as in Google docstrings; `:param name: text` as in Sphinx ones.
_DOC_LINE = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s+(.+)$")
_DOC_PARAM = re.compile(r"^\s*:param\s+(?:[\w\[\], |]+\s)?(\w+)\s*:\s*(.+)$")
_DOC_HEADS = ("args:", "arguments:", "parameters:")


@dataclass(slots=True)
class Placed(Generic[T]):
    """Arguments in their places: `args[i]` is for the parameter `names[i]`, None where a default was put to fill a gap."""

    args: list[T]
    names: list[str | None]
    kwargs: dict[str, T]


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of one function, as capabilities see them.

    `order` are those that positional arguments fill, `named` those that only a name reaches. `rest` and `extra` are the
    names of *args and **kwargs. With `whole`, the arguments are checked together against that schema instead of one by one.
    """

    order: tuple[str, ...]
    named: tuple[str, ...]
    required: frozenset[str]
    defaults: Mapping[str, Any]
    hints: Mapping[str, Hint]
    schema: Schema
    result: Hint
    rest: str | None = None
    extra: str | None = None
    by_name: frozenset[str] = frozenset()  # members of `order` that the function takes by name (schema + **kwargs)
    whole: JsonSchema | None = field(default=None, compare=False)

    def place(
        self,
        positional: Sequence[T],
        named: Mapping[str, T],
        whose: str,
        *,
        default: Callable[[Any], T],
        rest: Sequence[T] = (),
    ) -> Placed[T]:
        """Put arguments where they belong, or InvalidError: unknown, missing, too many.

        Positional ones fill, in order, the parameters that have none by name; what is left over, and `rest`, goes to
        *args. `default` wraps a default that has to be written out because a later parameter has an argument.
        """
        given = dict(named)
        self._refuse_unknown(given, whose)
        free = [name for name in self.order if name not in given]
        given.update(zip(free, positional))
        more = [*positional[len(free) :], *rest]
        if more and self.rest is None:
            raise InvalidError(
                f"{whose} has {_counted(len(free), 'parameter')} free and {_counted(len(positional), 'argument')} without a name",
                hint=self._usage(),
            )
        missing = [name for name in (*self.order, *self.named) if name in self.required and name not in given]
        if missing:
            raise InvalidError(f"{whose} lacks {_listed('argument', missing)}", hint=self._usage())
        return self._placed(given, more, default)

    def _placed(self, given: dict[str, T], more: list[T], default: Callable[[Any], T]) -> Placed[T]:
        spread = [name for name in self.order if name not in self.by_name]
        last = len(spread) if more else max((place + 1 for place, name in enumerate(spread) if name in given), default=0)
        args: list[T] = []
        names: list[str | None] = []
        for name in spread[:last]:
            if name in given:
                args.append(given.pop(name))
                names.append(name)
            else:
                args.append(default(self.defaults[name]))
                names.append(None)
        return Placed([*args, *more], [*names, *([self.rest] * len(more))], given)

    def hint(self, name: str | None) -> Hint:
        """What the parameter of this name accepts."""
        if name is None:
            return ANYTHING
        found = self.hints.get(name)
        return found if found is not None else self.hints.get(self.extra or "", ANYTHING)

    def verify(self, placed: Placed[Any], whose: str) -> None:
        """Check the values of arguments; InvalidError names the first that does not fit."""
        if self.whole is not None:
            problem = self.whole.problem(self.as_map(placed))
            if problem is not None:
                raise InvalidError(f"the arguments of {whose} do not fit its schema: {problem}")
            return
        for name, value in (*zip(placed.names, placed.args), *placed.kwargs.items()):
            hint = self.hint(name)
            if not hint.accepts(value):
                raise InvalidError(f"argument `{name}` of {whose} is {shown(value)}, expected {hint.text}")

    def as_map(self, placed: Placed[T]) -> dict[str, Any]:
        """Arguments by name, as a JSON Schema sees them; those of *args are a list under its name."""
        given: dict[str, Any] = dict(placed.kwargs)
        for name, value in zip(placed.names, placed.args):
            if name is not None and name == self.rest:
                given.setdefault(name, []).append(value)
            elif name is not None:
                given[name] = value
        return given

    def named_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """By name what the function is called with; what *args takes is a list under its name."""
        spread = [name for name in self.order if name not in self.by_name]
        given = dict(zip(spread, args))
        if len(args) > len(spread) and self.rest is not None:
            given[self.rest] = list(args[len(spread) :])
        return {**given, **kwargs}

    def _refuse_unknown(self, names: Iterable[str], whose: str) -> None:
        if self.extra is not None and self.whole is None:
            return
        known = (*self.order, *self.named)
        unknown = [name for name in names if name not in known]
        if unknown:
            close = get_close_matches(unknown[0], known, 1)
            raise InvalidError(
                f"{whose} has no {_listed('parameter', unknown)}",
                hint=f"close: `{close[0]}`" if close else self._usage(),
            )

    def _usage(self) -> str:
        parts = [name if name in self.required else f"{name}?" for name in self.order]
        parts += [f"*{self.rest}"] if self.rest else []
        parts += [name if name in self.required else f"{name}?" for name in self.named]
        return f"its parameters: {', '.join(parts) or 'none'}" + (", and any others" if self.extra and not self.whole else "")


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def takes(fn: Callable[..., Any], name: str) -> bool | None:
    """Whether a function has a parameter of this name; None when it would take it among any others."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False
    if name in parameters and parameters[name].kind in (_P.POSITIONAL_OR_KEYWORD, _P.KEYWORD_ONLY):
        return True
    return None if any(each.kind is _P.VAR_KEYWORD for each in parameters.values()) else False


def read_signature(
    fn: Callable[..., Any],
    whose: str,
    *,
    schema: Mapping[str, Any] | None,
    hidden: Iterable[str] = (),
    streams: bool = False,
) -> Signature:
    """The signature of a function; `schema` replaces its type hints, `hidden` parameters are not for callers.

    One that `streams` promises what its chunks make: text, bytes, or a list of them.
    """
    try:
        parameters = [each for each in inspect.signature(fn).parameters.values() if each.name not in hidden]
    except (TypeError, ValueError) as error:
        raise InvalidError(f"the parameters of {whose} cannot be read: {error}", hint="wrap it in a def") from None
    order = tuple(each.name for each in parameters if each.kind in _IN_ORDER)
    named = tuple(each.name for each in parameters if each.kind is _P.KEYWORD_ONLY)
    rest = next((each.name for each in parameters if each.kind is _P.VAR_POSITIONAL), None)
    extra = next((each.name for each in parameters if each.kind is _P.VAR_KEYWORD), None)
    defaults = {each.name: each.default for each in parameters if each.default is not _P.empty}
    required = frozenset(name for name in (*order, *named) if name not in defaults)
    raw = _type_hints(fn, whose, wanted=schema is None)
    result = _stream_hint(raw.pop("return", Any)) if streams else _result_hint(raw.pop("return", Any))
    base = Signature(order, named, required, defaults, {}, {}, result, rest, extra)
    if schema is not None:
        return _declared(base, dict(schema), whose)
    hints = {each.name: _hint(raw.get(each.name, Any), f"parameter `{each.name}` of {whose}") for each in parameters}
    base = replace(base, hints=hints)
    return replace(base, schema=_schema(base, _notes(fn, raw)))


def _declared(base: Signature, schema: Schema, whose: str) -> Signature:
    """The signature of a function whose parameters a JSON Schema describes."""
    closed = {"type": "object", "additionalProperties": False, **schema}
    properties = closed.get("properties", {})
    if closed["type"] != "object" or not isinstance(properties, dict):
        raise InvalidError(f"the schema of {whose} describes no object", hint='it needs {"type": "object", "properties": {…}}')
    by_name = tuple(name for name in properties if name not in (*base.order, *base.named, base.rest))
    if by_name and base.extra is None:
        raise InvalidError(f"the schema of {whose} has {_listed('property', by_name)}, which the function does not take")
    undeclared = sorted(name for name in base.required if name not in properties)
    if undeclared:
        raise InvalidError(f"the schema of {whose} does not describe {_listed('parameter', undeclared)}")
    return replace(
        base,
        order=tuple(name for name in base.order if name in properties) + by_name,
        named=tuple(name for name in base.named if name in properties),
        required=base.required | frozenset(name for name in closed.get("required", ()) if name in properties),
        schema=closed,
        rest=base.rest if base.rest in properties else None,
        extra=None,
        by_name=frozenset(by_name),
        whole=JsonSchema(closed, whose),
    )


def _type_hints(fn: Callable[..., Any], whose: str, *, wanted: bool) -> dict[str, Any]:
    target = inspect.unwrap(fn)
    while hasattr(target, "func"):  # functools.partial
        target = inspect.unwrap(target.func)
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = type(target).__call__
    try:
        return dict(typing.get_type_hints(target, include_extras=True))
    except Exception as error:  # whatever evaluating an annotation raises
        if not wanted:
            return {}
        raise InvalidError(
            f"the type hints of {whose} cannot be evaluated: {error}", hint="or give parameters={…}, a JSON Schema"
        ) from error


def _hint(raw: Any, whose: str) -> Hint:
    try:
        return compile_hint(raw)
    except HintRefused as refused:
        raise InvalidError(
            f"{whose} has the type hint {refused}, which has no schema", hint=f"supported are {SUPPORTED}; or give a JSON Schema"
        ) from None


def _result_hint(raw: Any) -> Hint:
    """What a function promises; nothing when no schema can say it: its results are checked as values all the same."""
    try:
        return compile_hint(raw)
    except HintRefused:
        return ANYTHING


def _stream_hint(raw: Any) -> Hint:
    """What the chunks of a generator make: `Iterator[str]` a text, `Iterator[int]` a list of int."""
    item = _result_hint(next(iter(typing.get_args(raw)), Any))
    if item.free:
        return ANYTHING
    return item if item.types in (frozenset((str,)), frozenset((bytes,))) else list_hint(item)


def _notes(fn: Callable[..., Any], raw: Mapping[str, Any]) -> dict[str, str]:
    """What is said about each parameter: in the docstring, or as a str inside Annotated."""
    notes: dict[str, str] = {}
    inside = False
    for line in (inspect.getdoc(fn) or "").splitlines():
        stripped = line.strip()
        if not line[:1].isspace():
            inside = stripped.lower() in _DOC_HEADS
        match = _DOC_PARAM.match(line) or (_DOC_LINE.match(line) if inside else None)
        if match:
            notes[match[1]] = match[2].strip()
    for name, hint in raw.items():
        if typing.get_origin(hint) is Annotated:
            notes.update((name, text) for text in hint.__metadata__ if isinstance(text, str))
    return notes


def _schema(base: Signature, notes: Mapping[str, str]) -> Schema:
    names = (*base.order, *base.named)
    properties = {name: dict(base.hints[name].schema) for name in names}
    if base.rest is not None:
        properties[base.rest] = {"type": "array", "items": base.hints[base.rest].schema}
    for name, note in notes.items():
        if name in properties:
            properties[name]["description"] = note
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in names if name in base.required],
        "additionalProperties": base.hints[base.extra].schema if base.extra is not None else False,
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _listed(noun: str, names: Sequence[str]) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return (noun if len(names) == 1 else plural) + " " + ", ".join(f"`{name}`" for name in names)
