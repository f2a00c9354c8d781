"""The arguments of one INV: where each comes from, decided and as far as possible checked when it is bound."""

from __future__ import annotations

import json
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.capability.schema import shown
from apxm.capability.signature import Placed
from apxm.errors import BindError, InvalidError
from apxm.executor.arguments import ports, positions, unnamed, where
from apxm.executor.typed import typed
from apxm.graph.template import fill, parse_filled
from apxm.values import SCALARS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apxm.capability.record import CapabilityRecord
    from apxm.executor.bind import NodeSpec
    from apxm.graph.template import Placeholder, Template


class _Constant:
    """An argument that is the same at every firing."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Filled:
    """An argument with gaps, or a list or map: made anew at every firing, so that nobody changes it for the next."""

    __slots__ = ("placeholders", "value")

    def __init__(self, value: Any, template: Template) -> None:
        self.value = value
        self.placeholders = [part for part in template.segments if not isinstance(part, str)]

    @property
    def gaps(self) -> bool:
        return bool(self.placeholders)


class _Input:
    """An argument that is an input."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position


_Source: TypeAlias = _Constant | _Filled | _Input


class Call:
    """A capability with the places of its arguments. BindError for everything that is wrong whatever the inputs are.

    `arguments(inputs)` gives (args, kwargs) of one firing, checked; `closure(arity)` a function of the inputs alone, for
    a capability that the run loop may call itself. `confirms`: what that function returns is checked and settled.
    """

    def __init__(self, spec: NodeSpec, record: CapabilityRecord) -> None:
        self.record, self.signature = record, record.signature
        self.confirms = _checks_result(record)
        self._whose = f"{where(spec)}: capability `{record.name}`"
        named, positional = _authored(spec)
        template = parse_filled([*named.values(), *positional])
        self._gaps = positions(spec, template)
        placed = self._place(spec, named, positional, lenient=bool(template.positions))
        self._names: list[str | None] = [*placed.names, *placed.kwargs]  # one for each entry of the row
        self._sources = [*placed.args, *placed.kwargs.values()]
        self._count = len(placed.args)  # the entries that go without a name
        self._row = [None if isinstance(source, _Input) else source.value for source in self._sources]
        self._moves = [(place, each.position) for place, each in enumerate(self._sources) if isinstance(each, _Input)]
        self._fills = [(place, each.value) for place, each in enumerate(self._sources) if isinstance(each, _Filled)]
        self._checks = self._check_constants()

    def _place(self, spec: NodeSpec, named: dict[str, Any], constants: list[Any], *, lenient: bool) -> Placed[_Source]:
        """Join what the node says and what its inputs bring.

        A named input takes the place of an argument of that name. One that a placeholder uses does so only where nothing
        else is given: `about {query}` is what was meant then. Inputs that lowering added because of a `{0}` may be more
        than there are parameters.
        """
        signature, in_text = self.signature, set(self._gaps.values())
        given = {name: _source(value) for name, value in named.items() if name != signature.rest}
        rest = self._rest(named.get(signature.rest, [])) if signature.rest is not None else []
        for port, position in ports(spec).items():
            wanted = port not in given and (port in signature.order or port in signature.named)
            if position not in in_text or wanted:
                given[port] = _Input(position)
        positional = [*map(_source, constants), *(_Input(at) for at in unnamed(spec) if at not in in_text)]
        if lenient and signature.rest is None:
            free = sum(name not in given for name in signature.order)
            positional = positional[: max(free, len(constants))]
        try:
            return signature.place(positional, given, self._whose, default=_Constant, rest=rest)
        except InvalidError as error:
            raise BindError(error.message, hint=error.hint) from None

    def _rest(self, values: Any) -> list[_Source]:
        if not isinstance(values, list):
            raise BindError(f"{self._whose}: argument `{self.signature.rest}` is {shown(values)}, expected a list")
        return [_source(value) for value in values]

    def _check_constants(self) -> list[tuple[int, Callable[[Any], bool]]]:
        """Refuse now what is wrong whatever the inputs are; gives the checks that are left for a firing."""
        signature, left = self.signature, []
        for place, (name, source) in enumerate(zip(self._names, self._sources)):
            hint = signature.hint(name)
            if hint.free:
                continue
            if isinstance(source, _Input) or (isinstance(source, _Filled) and source.gaps):
                left.append((place, hint.test or hint.accepts))
            elif not hint.accepts(source.value):
                raise BindError(f"{self._whose}: argument `{name}` is {shown(source.value)}, expected {hint.text}")
        if signature.whole is not None and not self._moves and not self._gaps:
            problem = signature.whole.problem(signature.as_map(self._placed(self._row)))
            if problem is not None:
                raise BindError(f"{self._whose}: its arguments do not fit: {problem}")
        return left

    def _placed(self, row: list[Any]) -> Placed[Any]:
        count = self._count
        return Placed(
            row[:count], self._names[:count], {str(name): row[at] for at, name in enumerate(self._names) if at >= count}
        )

    @cached_property
    def origins(self) -> dict[str, frozenset[int]]:
        """For every argument the inputs that it is made of; none for a constant."""
        found: dict[str, frozenset[int]] = {}
        for name, source in zip(self._names, self._sources):
            if name is None:  # a default of the function
                continue
            used: frozenset[int] = frozenset()
            if isinstance(source, _Input):
                used = frozenset((source.position,))
            elif isinstance(source, _Filled):
                used = frozenset(self._gaps[part] for part in source.placeholders)
            found[name] = found.get(name, frozenset()) | used
        return found

    def placed(self, inputs: Sequence[Any]) -> Placed[Any]:
        """The arguments of one firing in their places, not checked."""
        row = self._row.copy()
        for place, position in self._moves:
            row[place] = inputs[position]
        self._fill(row, inputs)
        return self._placed(row)

    def arguments(self, inputs: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """(args, kwargs) of one firing; InvalidError names the argument that does not fit."""
        row = self._row.copy()
        for place, position in self._moves:
            row[place] = inputs[position]
        if self._fills:
            self._fill(row, inputs)
        for place, accepts in self._checks:
            if not accepts(row[place]):
                self.signature.verify(self._placed(row), self._whose)
        if self.signature.whole is not None:
            self.signature.verify(self._placed(row), self._whose)
        if self._count == len(row):
            return row, {}
        placed = self._placed(row)
        return placed.args, placed.kwargs

    def _fill(self, row: list[Any], inputs: Sequence[Any]) -> None:
        gaps = self._gaps

        def look(part: Placeholder) -> Any:
            return inputs[gaps[part]]

        for place, value in self._fills:
            row[place] = fill(value, look)

    def closure(self, arity: int) -> Callable[..., Any]:
        """A function of the inputs alone: the capability itself where nothing has to be done around it."""
        fn = self.record.fn
        confirm = self.record.confirm if self.confirms else None
        leading = len(self._sources) - len(self._moves)
        order = [position for _, position in self._moves]
        in_front = all(isinstance(source, _Constant) for source in self._sources[:leading])
        if self._count < len(self._row) or self.signature.whole or not in_front or order != list(range(arity)):
            return self._general(confirm)
        hints = [self.signature.hint(name) for name in self._names[leading:]]
        if leading:
            fn = partial(fn, *self._row[:leading])
        if all(hint.free for hint in hints):
            return fn if confirm is None else _confirmed(fn, confirm)
        kinds = [hint.types for hint in hints if hint.types is not None]
        if confirm is not None or len(kinds) < len(hints):
            return self._general(confirm)
        return typed(fn, kinds, lambda *inputs: self.arguments(inputs))

    def _general(self, confirm: Callable[[Any], Any] | None) -> Callable[..., Any]:
        fn, arguments = self.record.fn, self.arguments

        def general(*inputs: Any) -> Any:
            args, kwargs = arguments(inputs)
            value = fn(*args, **kwargs)
            return value if confirm is None else confirm(value)

        return general


def _authored(spec: NodeSpec) -> tuple[dict[str, Any], list[Any]]:
    """Arguments by name and without, as the node says them: `arg_*` over `params_json`, and `args`."""
    named = dict(_params(spec))
    named.update((name[4:], value) for name, value in spec.attributes.items() if name.startswith("arg_"))
    args = spec.attributes.get("args", [])
    if not isinstance(args, (list, tuple)):
        raise BindError(f"{where(spec)}: its `args` are {shown(args)}, expected a list")
    return named, list(args)


def _params(spec: NodeSpec) -> Mapping[str, Any]:
    params = spec.attributes.get("params_json") or {}
    if isinstance(params, str):
        try:
            params = json.loads(params)
        except ValueError as error:
            raise BindError(f"{where(spec)}: its `params_json` is no JSON: {error}") from None
    if not isinstance(params, dict):
        raise BindError(f"{where(spec)}: its `params_json` is {shown(params)}, expected a map of arguments by name")
    return params


def _source(value: Any) -> _Source:
    if type(value) in SCALARS and not isinstance(value, str):
        return _Constant(value)
    template = parse_filled(value)
    return _Constant(value) if isinstance(value, str) and not template.placeholders else _Filled(value, template)


def _checks_result(record: CapabilityRecord) -> bool:
    """A scalar that a pure function promises is taken on trust: testing it would cost as much as the run loop does."""
    hint = record.signature.result
    return record.result is not None or not (hint.free or (hint.types is not None and hint.types <= SCALARS))


def _confirmed(fn: Callable[..., Any], confirm: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *inputs: confirm(fn(*inputs))
