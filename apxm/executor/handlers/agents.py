"""FLOW_CALL: one flow runs another one as a child frame."""

from __future__ import annotations

from difflib import get_close_matches
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from apxm.errors import BindError, ParameterError
from apxm.executor.arguments import ports, positions, shown, unnamed, where
from apxm.executor.bind import Bound, Kind
from apxm.graph.template import fill, parse, parse_filled
from apxm.outcome import Child, ChildResult, Outcome, Spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apxm.errors import ApxmError
    from apxm.executor.bind import Binder, Body, NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.graph.template import Placeholder


class _Call:
    """Where every argument of one FLOW_CALL comes from."""

    def __init__(self, spec: NodeSpec, body: Body, flow: str) -> None:
        self.spec, self.flow, self.parameters = spec, flow, body.parameters
        args = spec.attributes.get("args") or {}
        self.gaps = positions(spec, parse_filled(args))
        # `args` may be one placeholder: then which parameters are left for the inputs is known only when it is filled.
        self.whole: int | None = self.gaps[_sole(spec, args)] if isinstance(args, str) else None
        self.args = {} if isinstance(args, str) else self._by_name(args, BindError)
        self.fed = self._fed_by_port()
        in_text = set(self.gaps.values())
        self.rest = [position for position in unnamed(spec) if position not in in_text]
        if self.whole is None:
            self._feed(self.args, self.fed, BindError, strict=not in_text)

    def _by_name(self, args: Any, error: type[ApxmError]) -> dict[str, Any]:
        if isinstance(args, dict):
            for name in args:
                self._known(name, "its `args` give", error)
            return args
        if not isinstance(args, (list, tuple)):
            raise error(f"{where(self.spec)}: its `args` are {shown(args)}, expected a map or a list; {self._takes()}")
        if len(args) > len(self.parameters):
            raise error(f"{where(self.spec)} gives {len(args)} arguments in `args`; {self._takes()}")
        return dict(zip(self.parameters, args))

    def _known(self, name: str, how: str, error: type[ApxmError]) -> None:
        if name not in self.parameters:
            close = get_close_matches(name, self.parameters, n=1)
            raise error(f"{where(self.spec)}: {how} `{name}`; {self._takes()}", hint=f"close: `{close[0]}`" if close else None)

    def _takes(self) -> str:
        return f"flow `{self.flow}` takes {', '.join(f'`{name}`' for name in self.parameters) or 'no parameters'}"

    def _fed_by_port(self) -> dict[str, int]:
        """Parameter -> input, for inputs with a named port; one that is no parameter must be in a text.

        Such an input goes over `args`, unless it is what fills a text in them: `about {topic}` is meant as it stands.
        """
        fed = {}
        in_text = set(self.gaps.values())
        for port, position in ports(self.spec).items():
            if position not in in_text:
                self._known(port, "an edge has the port", BindError)
                fed[port] = position
            elif port in self.parameters and port not in self.args:
                fed[port] = position
        return fed

    def _feed(self, args: Mapping[str, Any], fed: dict[str, int], error: type[ApxmError], strict: bool) -> None:
        """Give the inputs without a name to the parameters that are still free, in order; all must get something."""
        free = [name for name in self.parameters if name not in fed and name not in args]
        if strict and len(self.rest) > len(free):
            many = f"{len(self.rest)} inputs without a port for {len(free)} free parameters"
            raise error(f"{where(self.spec)} has {many}; {self._takes()}", hint="remove one or give it a port")
        fed.update(zip(free, self.rest))
        missing = [name for name in free if name not in fed]
        if missing:
            raise error(
                f"{where(self.spec)}: nothing gives `{missing[0]}`; {self._takes()}",
                hint=f"add it to `args`, or an edge with port `{missing[0]}`",
            )

    def arrange(self) -> Callable[..., list[Any]]:
        """A function from the inputs of a firing to the arguments, in parameter order. Every call gives a new list."""
        if self.whole is not None:
            return self._unpack
        order = [self.fed.get(name, -1) for name in self.parameters]
        if order == list(range(len(self.spec.inputs))):
            return _in_order
        if -1 not in order and len(order) > 1:
            pick = itemgetter(*order)
            return lambda *inputs: list(pick(inputs))
        return self._mixed(order)

    def _mixed(self, order: list[int]) -> Callable[..., list[Any]]:
        fixed = [(place, position) for place, position in enumerate(order) if position >= 0]
        given = [self.args.get(name) if at < 0 else None for name, at in zip(self.parameters, order)]
        gaps = self.gaps
        # Lists and maps are filled even if they have no gap: every call needs a copy of its own.
        filled = [
            place for place, value in enumerate(given) if isinstance(value, (dict, list)) or parse_filled(value).placeholders
        ]

        def arguments(*inputs: Any) -> list[Any]:
            row = given.copy()
            for place, position in fixed:
                row[place] = inputs[position]
            for place in filled:
                row[place] = fill(row[place], lambda part: inputs[gaps[part]])
            return row

        return arguments

    def _unpack(self, *inputs: Any) -> list[Any]:
        """`args` is one input: a map or a list that is known only now."""
        assert self.whole is not None
        args = self._by_name(inputs[self.whole], ParameterError)
        fed = dict(self.fed)
        self._feed(args, fed, ParameterError, strict=False)
        return [inputs[fed[name]] if name in fed else args[name] for name in self.parameters]


def _sole(spec: NodeSpec, text: str) -> Placeholder:
    """The placeholder that `args` is, when it is a text."""
    sole = parse(text).sole
    if sole is None:
        raise BindError(f"{where(spec)}: its `args` are the text `{shown(text)}`, expected a map, a list, or one placeholder")
    return sole


def _in_order(*inputs: Any) -> list[Any]:
    return list(inputs)


def _bind_flow_call(spec: NodeSpec, services: Services) -> Bound:
    agent, flow = spec.attributes.get("agent_name", spec.agent), spec.attributes["flow_name"]
    try:
        body = services.call(agent, flow)
    except BindError as error:
        raise BindError(f"{where(spec)}: {error.message}", hint=error.hint) from None
    arguments = _Call(spec, body, f"{agent}.{flow}").arrange()
    if "timeout_ms" not in spec.attributes:
        return Bound(Kind.CALL, arguments, body.effect, body=body)

    def call(context: OpContext, *inputs: Any) -> Outcome:  # a call that may be stopped is an activation of its own
        return Spawn((Child(body, arguments(*inputs), f"{agent}.{flow}"),), _result)

    return Bound(Kind.SYNC, call, body.effect, owns=True)


def _result(results: list[ChildResult]) -> Any:
    return results[0].value


BINDERS: dict[str, Binder] = {"FLOW_CALL": _bind_flow_call}
