"""What a program means, worked out one node after the other. Never schedules, and shares no code with what does.

The oracle evaluates every activation that *could* fire, given the choices that were made (which in-edge an ANY or RACE
took, which failure or RETURN came first). Where a scope closed early, an engine may have done less: `closed` says where,
and `compare` holds an engine's run against all of it. A token is live, dead, or *never*: what is downstream of a failure
that closes its frame is neither fired nor skipped, it is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from apxm.testing.firing import ERROR, Given, World, case_of, fire
from apxm.testing.meaning import Inputs, Trouble, holds, plain
from apxm.testing.reading import read_program

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from apxm.testing.firing import Capability
    from apxm.testing.readgraph import ReadEdge, ReadGraph, ReadNode

Path: TypeAlias = tuple[tuple[int, str | int], ...]
Activation: TypeAlias = tuple[Path, int]  # frame path and authored node id
Status = Literal["done", "failed", "skipped", "never"]

_DEPTH_MAX = 100


class OracleMismatch(AssertionError):
    """A choice, or a whole run, that the program does not allow."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a run decided where the program leaves it open.

    `winners`: the position among its Data in-edges that an ANY or RACE took. `order`: when a node failed or a RETURN
    fired, as any growing number; among several ends of one scope, the first counts.
    """

    winners: Mapping[Activation, int] = field(default_factory=dict)
    order: Mapping[Activation, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OracleFailure:
    """A failure. `message` is None where the wording is no promise."""

    code: str
    failure: str
    message: str | None
    node: str
    op: str
    node_id: int
    path: Path
    attempts: int = 1

    def to_map(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "class": self.failure,
            "message": self.message,
            "node": self.node,
            "op": self.op,
            "attempts": self.attempts,
        }


@dataclass(slots=True)
class OracleResult:
    """What a run may give.

    `fired`, `skipped`, `failed` are all activations that could end so. `closed` are frames (with everything beneath,
    except `finally` regions) that ended early; `optional` are activations that a RACE or a failing scope may have
    cancelled. `needs` has, for each fired activation, what must have ended before it.
    """

    outputs: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    error: OracleFailure | None = None
    fired: set[Activation] = field(default_factory=set)
    skipped: set[Activation] = field(default_factory=set)
    failed: set[Activation] = field(default_factory=set)
    optional: set[Activation] = field(default_factory=set)
    closed: set[tuple[Path, int | None]] = field(default_factory=set)
    open: set[Activation] = field(default_factory=set)  # ANY and RACE nodes that could have taken another in-edge
    possible: list[OracleFailure] = field(default_factory=list)  # every failure that could have ended the run
    needs: dict[Activation, set[Activation]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    retried: int = 0

    @property
    def determined(self) -> bool:
        """Whether every run of the program does exactly this."""
        return not (self.closed or self.optional or self.open)

    def is_closed(self, path: Path) -> bool:
        """Whether the frame of that path may have done less than it could."""
        for depth in range(len(path) + 1):
            head, rest = path[:depth], path[depth:]
            beneath = (head, None) in self.closed or (bool(rest) and (head, rest[0][0]) in self.closed)
            if beneath and not any(step == "finally" for _, step in rest):
                return True
        return False


@dataclass(slots=True)
class _End:
    """Something that closes its scope: a failure that nothing handled yet, or a RETURN."""

    at: Activation  # the activation whose end is the moment it happened
    error: OracleFailure | None
    name: str = ""
    value: Any = None
    optional: bool = False
    final: bool = False  # comes from a `finally`, which a RETURN waits for


@dataclass(slots=True)
class _State:
    """How one node of a frame ended."""

    status: Status
    given: Given = field(default_factory=lambda: Given(None))


class _Frame:
    """One activation of a graph while it is worked out."""

    __slots__ = ("agent", "args", "caught", "ends", "graph", "path", "states", "winners")

    def __init__(self, graph: ReadGraph, agent: str, args: Mapping[str, Any], path: Path, caught: bool) -> None:
        self.graph, self.agent, self.args, self.path = graph, agent, args, path
        self.caught = caught  # whether some scope around it handles failures
        self.states: dict[int, _State] = {}
        self.winners: dict[int, int] = {}
        self.ends: dict[int, list[_End]] = {}

    def token(self, edge: ReadEdge) -> tuple[Literal["live", "dead", "never"], Any]:
        """What an edge carries."""
        if isinstance(edge.source, str):
            return "live", self.args[edge.source]
        state = self.states[edge.source]
        if state.status == "never":
            return "never", None
        given = state.given
        if state.status == "skipped":
            return "dead", None
        if given.label == ERROR or state.status == "failed":
            return ("live", given.value) if edge.label == ERROR and given.label == ERROR else ("dead", None)
        alive = edge.label is None or edge.label == given.label
        return ("live", given.value) if alive else ("dead", None)

    def is_live(self, node_id: int) -> bool:
        state = self.states[node_id]
        return state.status == "done" and state.given.label != ERROR

    def live_exits(self) -> list[int]:
        yields = [n.id for n in self.graph.nodes.values() if n.op == "YIELD" and self.is_live(n.id)]
        return yields or [node_id for node_id in self.graph.exits if self.is_live(node_id)]

    def outputs(self) -> dict[str, Any]:
        return {self.graph.nodes[n].name: self.states[n].given.value for n in self.graph.exits if self.is_live(n)}

    def result(self) -> Any:
        """What the parent gets: YIELD's value or that of the only live exit, else the map of outputs."""
        live = self.live_exits()
        return self.states[live[0]].given.value if len(live) == 1 else self.outputs()

    def all_ends(self) -> list[_End]:
        return [end for ends in self.ends.values() for end in ends]


class Oracle:
    """Works out one program. `capabilities` are plain functions, or coroutine functions that only wait for `sleep(0)`."""

    def __init__(
        self,
        program: Any,
        capabilities: Mapping[str, Capability],
        *,
        on_failure: str = "fail_fast",
        choices: Choices | None = None,
        guarded: Collection[str] = (),
    ) -> None:
        self.agent, self.flows = read_program(program)
        self.entry = next(iter(self.flows.values()))
        self.keep_going = on_failure == "continue"
        self.choices = choices
        self.world = World(capabilities, guarded)
        self.found = OracleResult()

    # ---- the run -------------------------------------------------------------------------------------------------
    def run(self, parameters: Mapping[str, Any] | None = None) -> OracleResult:
        """Work out one run; raises OracleMismatch when a choice was not allowed."""
        args = dict(parameters or {})
        found = self.found
        if set(args) != set(self.entry.parameters):
            found.error = OracleFailure("parameter", "invalid", None, "", "", -1, ())
            return found
        frame = self._frame(self.entry, self.agent, {k: plain(v) for k, v in args.items()}, (), False)
        end = self._flow_end(frame)
        found.calls, found.retried = self.world.calls, self.world.retried
        if end is None:
            found.outputs = frame.outputs()
            live = frame.live_exits()
            found.value = frame.states[live[0]].given.value if len(live) == 1 else None
        elif end.error is None:
            found.outputs, found.value = {end.name: end.value}, end.value
        else:
            found.error = end.error
            found.possible = [one.error for one in frame.all_ends() if one.error is not None]
        return found

    def _flow_end(self, frame: _Frame) -> _End | None:
        """What ended an activation of a flow before its time, if anything did."""
        ends = frame.all_ends()
        end = self._chosen(ends)
        if end is None:
            return None
        self.found.closed.add((frame.path, None))
        if end.error is None and not self.keep_going and self.choices is not None:
            # What a RETURN waits for (effects that were ready or running, `finally` regions) may still fail the flow.
            late = [one for one in ends if one.error is not None and self._moment(one) in self.choices.order]
            end = min(late, key=lambda one: self._order(one), default=end)
        return end

    def _returned_first(self, frame: _Frame) -> bool:
        """Whether an activation of a flow had its value, and was only waiting for what a RETURN waits for."""
        first = self._chosen(frame.all_ends())
        return first is not None and first.error is None

    def _moment(self, end: _End) -> Activation:
        return (end.error.path, end.error.node_id) if end.final and end.error is not None else end.at

    def _order(self, end: _End) -> int:
        return self.choices.order[self._moment(end)] if self.choices is not None else 0

    def _chosen(self, ends: Sequence[_End]) -> _End | None:
        """The end that came first. One that a RACE may have prevented counts only if it was seen to happen."""
        if self.choices is not None:
            order = self.choices.order
            seen = [end for end in ends if end.at in order]
            if seen:
                return min(seen, key=lambda end: order[end.at])
        return next((end for end in ends if not end.optional), None)

    # ---- one frame -----------------------------------------------------------------------------------------------
    def _frame(self, graph: ReadGraph, agent: str, args: Mapping[str, Any], path: Path, caught: bool) -> _Frame:
        """Work out every node that could fire in one activation."""
        if len(path) > _DEPTH_MAX:
            raise OracleMismatch(f"frames nest deeper than {_DEPTH_MAX}; a flow calls itself without end")
        frame = _Frame(graph, agent, args, path, caught)
        for node_id in graph.order:
            node = graph.nodes[node_id]
            arrived = self._arrived(frame, node)
            if isinstance(arrived, str):
                frame.states[node_id] = _State("skipped" if arrived == "skip" else "never")
                if arrived == "skip":
                    self.found.skipped.add((path, node_id))
            else:
                frame.states[node_id] = self._fire(frame, node, arrived)
        self._mark_losers(frame)
        return frame

    def _arrived(self, frame: _Frame, node: ReadNode) -> Literal["skip", "never"] | list[tuple[int, Any]]:
        """The firing rules: the live Data inputs with their positions, or why it does not fire."""
        data = [frame.token(edge) for edge in node.data]
        gates = [frame.token(edge)[0] for edge in node.control]
        orders = [frame.token(edge)[0] for edge in node.effect]
        live = [(place, value) for place, (kind, value) in enumerate(data) if kind == "live"]
        rule = frame.graph.rule(node)
        if "never" in gates or "never" in orders:
            return "never"
        if rule in ("ANY", "RACE"):
            if "dead" in gates:
                return "skip"
            if live:
                return [self._winner(frame, node, live)]
            return "never" if any(kind == "never" for kind, _ in data) else "skip"
        if any(kind == "never" for kind, _ in data):
            return "never"
        if "dead" in gates or (data and not live) or (rule == "ALL" and len(live) < len(data)):
            return "skip"
        return live

    def _winner(self, frame: _Frame, node: ReadNode, live: list[tuple[int, Any]]) -> tuple[int, Any]:
        values = dict(live)
        taken = None if self.choices is None else self.choices.winners.get((frame.path, node.id))
        if taken is None:
            taken = next(place for place in values if self._too_late(frame, node, place, list(values)) is None)
        what = f"{node.op} `{node.name}` at {frame.path} took in-edge {taken}"
        if taken not in values:
            raise OracleMismatch(f"{what}, which is not live; live are {values}")
        late = self._too_late(frame, node, taken, list(values))
        if late is not None:
            raise OracleMismatch(f"{what}, though in-edge {late} always comes before it")
        if len(values) > 1:
            self.found.open.add((frame.path, node.id))
        frame.winners[node.id] = taken
        return taken, values[taken]

    def _too_late(self, frame: _Frame, node: ReadNode, taken: int, live: list[int]) -> int | None:
        """A live in-edge whose token is always there before that of `taken`."""
        source = node.data[taken].source
        first = next((place for place in live if isinstance(node.data[place].source, str)), None)
        if isinstance(source, str):
            return first if first != taken else None
        if first is not None:
            return first
        before = frame.graph.before(source, frame.winners)
        return next((place for place in live if node.data[place].source in before), None)

    # ---- one node ------------------------------------------------------------------------------------------------
    def _fire(self, frame: _Frame, node: ReadNode, live: list[tuple[int, Any]]) -> _State:
        here = (frame.path, node.id)
        self.found.fired.add(here)
        self.found.needs[here] = self._needed(frame, node)
        try:
            given = self._given(frame, node, Inputs(node, live))
        except Trouble as trouble:
            self.found.failed.add(here)
            return self._ended(frame, node, [_End(here, self._failure(frame, node, trouble))])
        if isinstance(given, Given):
            if node.op != "RETURN":
                return _State("done", given)
            given = [_End(here, None, node.name, given.value)]
        return self._ended(frame, node, given)

    def _failure(self, frame: _Frame, node: ReadNode, trouble: Trouble) -> OracleFailure:
        code, failure, message = trouble.code, trouble.failure, trouble.message
        return OracleFailure(code, failure, message, node.name, node.op, node.id, frame.path, trouble.attempts)

    def _needed(self, frame: _Frame, node: ReadNode) -> set[Activation]:
        """What must have fired before this node: sources of live tokens, and of the Effect edges that will have something."""
        taken = frame.winners.get(node.id)
        data = [edge for place, edge in enumerate(node.data) if taken is None or place == taken]
        sources = {edge.source for edge in (*data, *node.control, *node.effect) if isinstance(edge.source, int)}
        return {(frame.path, source) for source in sources if frame.states[source].status in ("done", "failed")}

    def _ended(self, frame: _Frame, node: ReadNode, ends: list[_End]) -> _State:
        """A node ended with failures or RETURNs: what its own scope does about them."""
        end = self._chosen(ends)
        assert end is not None
        here = (frame.path, node.id)
        forgiven = node.id in frame.graph.forgiven
        if end.error is None:
            frame.ends[node.id] = self._taken(ends) if node.catches or forgiven else ends
            return _State("done" if node.op == "RETURN" else "never")
        if not (node.catches or forgiven or (self.keep_going and not frame.caught and end.at == here)):
            frame.ends[node.id] = ends
            return _State("never")
        self.found.closed.add(here)
        self.found.failed.add(here)
        if "fallback" in node.attributes:
            return _State("done", Given(plain(node.attributes["fallback"])))
        if any(edge.label == ERROR for edge in node.out):
            return _State("failed", Given(end.error.to_map(), ERROR))
        return _State("failed")

    def _taken(self, ends: list[_End]) -> list[_End]:
        """What a RETURN leaves of its ends at a scope that handles failures: not those of the effects it waited for, but
        the failure of a `finally` on its way, which nothing handles within the flow."""
        order = self.choices.order if self.choices is not None else {}
        return [end for end in ends if end.error is None or (end.final and end.at not in order)]

    def _mark_losers(self, frame: _Frame) -> None:
        """A decided RACE may have cancelled what leads only to its losing edges."""
        for race, winner in frame.winners.items():
            if frame.graph.rule(frame.graph.nodes[race]) != "RACE":
                continue
            for node_id in frame.graph.cone({race: winner}):
                here = (frame.path, node_id)
                self.found.optional.add(here)
                self.found.closed.add(here)
                for end in frame.ends.get(node_id, ()):
                    end.optional = True

    # ---- operations with frames of their own -----------------------------------------------------------------------
    def _given(self, frame: _Frame, node: ReadNode, inputs: Inputs) -> Given | list[_End]:
        if node.op == "SWITCH" and node.regions:
            return self._switch(frame, node, inputs)
        if node.op == "LOOP":
            return self._loop(frame, node, inputs)
        if node.op == "MAP":
            return self._map(frame, node, inputs)
        if node.op == "TRY_CATCH":
            return self._try(frame, node, inputs)
        if node.op == "FLOW_CALL":
            return self._call(frame, node, inputs)
        return fire(node, frame.graph, inputs, self.world)

    def _child(
        self,
        frame: _Frame,
        node: ReadNode,
        region: str,
        step: str | int,
        args: Mapping[str, Any],
        *,
        caught: bool = False,
    ) -> tuple[Any, list[_End]]:
        """A region as a child frame: its result, and what ended it before its time (then there is no result)."""
        caught = caught or frame.caught or node.catches or node.id in frame.graph.forgiven
        child = self._frame(node.regions[region], frame.agent, args, (*frame.path, (node.id, step)), caught)
        ends = child.all_ends()
        if self._chosen(ends) is not None:
            return None, ends
        yields = [n for n in child.graph.nodes.values() if n.op == "YIELD" and child.is_live(n.id)]
        if len(yields) > 1:
            raise Trouble("invalid", "two_values")
        return child.result(), []

    def _switch(self, frame: _Frame, node: ReadNode, inputs: Inputs) -> Given | list[_End]:
        before = inputs.copy()
        tested = inputs.subject("discriminant", aside="pass")
        case = case_of(node, tested)
        if case is None or case not in node.regions:
            return fire(node, frame.graph, before, self.world)
        inputs.optional("pass", None)
        args = _bind(node.regions[case], inputs, {"input": tested})
        value, ends = self._child(frame, node, case, case, args)
        return ends or Given(value, case)

    def _loop(self, frame: _Frame, node: ReadNode, inputs: Inputs) -> Given | list[_End]:
        attributes, body = node.attributes, node.regions["body"]
        limit = attributes["max_iterations"]
        count = inputs.optional("count", limit)
        if type(count) is not int:
            raise Trouble("invalid", "invalid")
        carry = list(attributes.get("carry") or ())
        args = _bind(body, inputs, {"iteration": 0}, dict.fromkeys(carry))
        value = args[carry[0]] if carry else None
        for turn in range(min(limit, count)):
            tested = args[carry[0]] if carry else value
            if "while" in attributes and (carry or turn) and not holds(attributes["while"], tested):
                break
            if "iteration" in args:
                args["iteration"] = turn
            value, ends = self._child(frame, node, "body", turn, dict(args))
            if ends:
                return ends
            if len(carry) == 1:
                args[carry[0]] = value
            elif carry:
                if not isinstance(value, dict) or any(name not in value for name in carry):
                    raise Trouble("invalid", "invalid")
                args |= {name: value[name] for name in carry}
            if "until" in attributes and holds(attributes["until"], value):
                break
        return Given(value)

    def _map(self, frame: _Frame, node: ReadNode, inputs: Inputs) -> Given | list[_End]:
        items = inputs.subject("items")
        if not isinstance(items, list):
            raise Trouble("invalid", "invalid")
        body, mode = node.regions["body"], node.attributes.get("on_item_error", "fail")
        values: list[Any] = []
        ends: list[_End] = []
        for index, item in enumerate(items):
            args = _bind(body, inputs.copy(), {"item": item, "index": index})
            try:
                value, closed_by = self._child(frame, node, "body", index, args, caught=mode != "fail")
            except Trouble as trouble:
                value, closed_by = None, [_End((frame.path, node.id), self._failure(frame, node, trouble))]
                if mode == "fail":
                    self.found.failed.add((frame.path, node.id))
            end = self._chosen(closed_by)
            if end is None:
                values.append(value)
            elif end.error is None or mode == "fail":
                ends += closed_by if mode == "fail" else self._taken(closed_by)
            else:
                self.found.closed.add(((*frame.path, (node.id, index)), None))
                values += [None] if mode == "null" else []
        if ends:
            return ends
        if "reduce" not in node.regions:
            return Given(values)
        args = _bind(node.regions["reduce"], inputs, {"items": values})
        value, ends = self._child(frame, node, "reduce", "reduce", args)
        return ends or Given(value)

    def _try(self, frame: _Frame, node: ReadNode, inputs: Inputs) -> Given | list[_End]:
        value, ends = self._attempt(frame, node, "try", inputs, {})
        end = self._chosen(ends)
        if end is not None and end.error is not None and "catch" in node.regions:
            value, ends = self._attempt(frame, node, "catch", inputs, {"error": end.error.to_map()})
            end = self._chosen(ends)
        if "finally" in node.regions:
            last = self._attempt(frame, node, "finally", inputs, {})[1]
            if self._chosen(last) is not None:
                for one in last:
                    one.final = True
                return last if end is None or end.error is not None else [*last, *ends]
        return ends if end is not None else Given(value)

    def _attempt(
        self, frame: _Frame, node: ReadNode, region: str, inputs: Inputs, reserved: Mapping[str, Any]
    ) -> tuple[Any, list[_End]]:
        """One region of a TRY_CATCH. What fails in it has failed at the TRY_CATCH once it goes on outwards."""
        here = (frame.path, node.id)
        args = _bind(node.regions[region], inputs.copy(), reserved)
        try:
            value, ends = self._child(frame, node, region, region, args, caught=True)
        except Trouble as trouble:
            value, ends = None, [_End(here, self._failure(frame, node, trouble))]
        end = self._chosen(ends)
        if end is None or end.error is None:
            return value, self._taken(ends) if region == "try" and "catch" in node.regions else ends
        self.found.closed.add(((*frame.path, (node.id, region)), None))
        if region != "try" or "catch" not in node.regions:
            self.found.failed.add(here)
        return None, [_End(here, end.error), *(one for one in ends if one.error is None)]

    def _call(self, frame: _Frame, node: ReadNode, inputs: Inputs) -> Given | list[_End]:
        agent = node.attributes.get("agent_name", frame.agent)
        name = node.attributes["flow_name"]
        flow = self.flows[agent, name]
        given = node.attributes.get("args") or {}
        named = dict(zip(flow.parameters, given)) if isinstance(given, list) else given
        args = {key: inputs.fill(value) for key, value in named.items()}
        args |= {key: value for key, value in inputs.named.items() if key in flow.parameters}
        free = [key for key in flow.parameters if key not in args]
        args |= dict(zip(free, inputs.unused(list(node.texts()))))
        caught = frame.caught or node.catches or node.id in frame.graph.forgiven
        child = self._frame(flow, agent, args, (*frame.path, (node.id, f"{agent}.{name}")), caught)
        end = self._flow_end(child)
        if end is None:
            return Given(child.result())
        if end.error is None:
            return Given(end.value)
        if self._returned_first(child):
            self.found.failed.add((frame.path, node.id))  # what it waited for failed, and so did it
        return [one for one in child.all_ends() if one.error is not None]


def _bind(
    region: ReadGraph, inputs: Inputs, reserved: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of a region: reserved ones, named inputs, the other inputs in order."""
    rest = iter(inputs.positional)
    args: dict[str, Any] = {}
    for name in region.parameters:
        if name in reserved:
            args[name] = reserved[name]
        elif name in inputs.named:
            args[name] = inputs.named[name]
    for name in region.parameters:
        if name not in args:
            args[name] = next(rest, (optional or {}).get(name))
    return args


def run_oracle(
    program: Any,
    parameters: Mapping[str, Any] | None = None,
    *,
    capabilities: Mapping[str, Capability],
    on_failure: str = "fail_fast",
    choices: Choices | None = None,
    guarded: Collection[str] = (),
) -> OracleResult:
    """Work out a graph or program (a JSON-contract map or a Graph) with plain functions for its capabilities.

    A capability named `(model)` takes the prompts; those in `guarded` are never called again after a failure.
    """
    return Oracle(program, capabilities, on_failure=on_failure, choices=choices, guarded=guarded).run(parameters)
