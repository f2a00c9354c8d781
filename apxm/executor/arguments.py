"""Which input feeds what: the parameters of a child frame, the gaps of a text. Decided once, when a dag is bound."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import BindError
from apxm.graph.operation import Effect
from apxm.graph.region import bind, is_position, own_input, reserved

if TYPE_CHECKING:
    from apxm.executor.bind import Body, NodeSpec
    from apxm.graph.template import Placeholder, Template

_STRENGTH = {effect: rank for rank, effect in enumerate(Effect)}

Render: TypeAlias = Callable[[Sequence[Any]], str]  # the inputs of a firing -> a text
Test: TypeAlias = Callable[[Any], bool]
SHOWN_MAX = 80  # characters of a value inside an error message


def strongest(effects: Iterable[Effect]) -> Effect:
    """The strongest effect class of several bodies; PURE when there are none."""
    return max(effects, key=_STRENGTH.__getitem__, default=Effect.PURE)


def where(spec: NodeSpec) -> str:
    """How an error names this node."""
    return f"{spec.op.name} `{spec.name}` (node {spec.id}) of flow `{spec.flow}`"


def ports(spec: NodeSpec) -> dict[str, int]:
    """Named inputs: port -> position. A port that is a number is a position, not a name."""
    return {one.port: at for at, one in enumerate(spec.inputs) if one.port is not None and not is_position(one.port)}


def unnamed(spec: NodeSpec) -> list[int]:
    """Positions of the inputs without a name, in order: what `{0}`, `{1}` mean."""
    return [at for at, one in enumerate(spec.inputs) if is_position(one.port)]


def own(spec: NodeSpec) -> int | None:
    """The input that the operation keeps for itself: a discriminant, a list, a count."""
    return own_input(spec.op.name, [one.port for one in spec.inputs])


def subject(spec: NodeSpec) -> int:
    """As `own`, for an operation that cannot do without."""
    position = own(spec)
    if position is None:
        raise BindError(f"{where(spec)} has no input to work on", hint="add a Data edge without a port")
    return position


def positions(spec: NodeSpec, template: Template) -> dict[Placeholder, int]:
    """For every placeholder of a text, the input that fills it; BindError when there is none."""
    by_port, in_order = ports(spec), unnamed(spec)
    by_node = {one.source_id: at for at, one in reversed(list(enumerate(spec.inputs)))}
    found: dict[Placeholder, int] = {}
    for part in template.segments:
        if isinstance(part, str):
            continue
        at: int | None
        if part.kind == "name":
            at = by_port.get(str(part.key))
        elif part.kind == "position":
            at = in_order[int(part.key)] if int(part.key) < len(in_order) else None
        else:
            at = by_port.get(f"node_{part.key}", by_node.get(int(part.key)))
        if at is None:
            offers = [*(f"{{{name}}}" for name in by_port), *(f"{{{index}}}" for index in range(len(in_order)))]
            raise BindError(f"{where(spec)}: nothing fills `{part}`", hint=f"it has {', '.join(offers) or 'no inputs'}")
        found[part] = at
    return found


def renderer(spec: NodeSpec, text: str) -> Render:
    """A text attribute, ready to be filled with the inputs of a firing."""
    from apxm.graph.template import parse

    template = parse(text)
    if not template.placeholders:
        return lambda inputs: text
    index = positions(spec, template)
    return lambda inputs: template.render(lambda part: inputs[index[part]])


def condition(spec: NodeSpec, text: str) -> Test:
    """A condition attribute, ready to be tested on a value; BindError when the text is none."""
    from apxm.graph.condition import ConditionError, parse

    try:
        return parse(text).test
    except ConditionError as error:
        raise BindError(f"{where(spec)}: {error}") from error


def shown(value: Any) -> str:
    """A value inside an error message: its text, cut."""
    from apxm.graph.template import as_text

    text = as_text(value)
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"


class Arguments:
    """How the arguments of one region are made of the inputs of its node.

    `start(inputs)` gives a new argument list with every input in its place. `places` says where in it the reserved
    values belong, as far as the region declares them; until they are set they are None.
    """

    __slots__ = ("_fixed", "_size", "body", "places", "used")

    def __init__(self, body: Body, fixed: Sequence[tuple[int, int]], places: Mapping[str, int]) -> None:
        self.body = body
        self.places = places
        self.used = frozenset(position for _, position in fixed)
        self._fixed = tuple(fixed)  # (place, input)
        self._size = len(body.parameters)

    def start(self, inputs: Sequence[Any]) -> list[Any]:
        """A new argument list."""
        row = [None] * self._size
        for target, position in self._fixed:
            row[target] = inputs[position]
        return row

    def fill(self, inputs: Sequence[Any], name: str, value: Any) -> list[Any]:
        """A new argument list with one reserved value, if the region declares it."""
        row = self.start(inputs)
        if name in self.places:
            row[self.places[name]] = value
        return row


def region_arguments(spec: NodeSpec, region: str, optional: Collection[str] = ()) -> Arguments:
    """Plan the arguments of a region; BindError when nothing feeds one of its parameters that is not optional."""
    body, given = spec.regions[region], reserved(spec.op.name, region)
    bound = bind(spec.op.name, region, body.parameters, [one.port for one in spec.inputs])
    missing = [name for name in bound.unbound if name not in optional]
    if missing:
        by_name = ", ".join(f"`{one}`" for one in (*given, *ports(spec))) or "nothing"
        raise BindError(
            f"{where(spec)}: no input is left for parameter `{missing[0]}` of its region `{region}`",
            hint=f"add an edge with port `{missing[0]}`; by name it gets {by_name}",
        )
    place = {name: target for target, name in enumerate(body.parameters)}
    fixed = [(place[name], position) for name, position in bound.sources.items()]
    return Arguments(body, fixed, {name: place[name] for name in given if name in place})


def refuse_unused(spec: NodeSpec, used: Iterable[int]) -> None:
    """BindError when a named input goes nowhere: a misspelt port must not be silent.

    Inputs without a name may go nowhere: a root node is given every parameter of its flow in order.
    """
    taken = set(used)
    known = [name for body in spec.regions.values() for name in body.parameters]
    for port, position in ports(spec).items():
        if position not in taken:
            close = get_close_matches(port, known, n=1)
            raise BindError(
                f"{where(spec)}: nothing takes the input `{port}`, which comes from `{spec.inputs[position].source}`",
                hint=f"close: `{close[0]}`" if close else "declare a parameter of that name, or make it a Control edge",
            )
