"""The bound certificate: what a program can cause at most, from its graphs alone. Never runs or estimates anything.

Counted is what may happen, not what is likely: every case of a SWITCH might be the dearest one, every repair and retry that
a node allows might be needed, `catch` and `finally` run. Sides of one routing node exclude each other. A loop counts
`max_iterations` times, a MAP once per item of its list: if the list is no constant, the bound says so per item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.graph.amounts import NOTHING, ONCE, Amounts, Bound, Items, either, total
from apxm.graph.operation import TURN_CALLS
from apxm.graph.ops import OPERATIONS, Effect, attribute_of
from apxm.graph.routes import Routes
from apxm.graph.template import parse
from apxm.graph.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from apxm.graph.model import Graph, Node

FlowKey: TypeAlias = tuple[str, str]  # agent, flow

CALL_RETRIES = 2  # of a call that may be repeated, when its node does not say

ANYTHING = "*"  # a quantity that stands for all of them: what happens is not in the program
_REPEATABLE = ("pure", "read", "idempotent")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Upper bounds of what one run of a flow can cause.

    `firings` are nodes that fire, `frames` child frames that open, `splices` plans made by a model that are run; a plan may
    hold others, and only the runtime bounds how many (SchedulerConfig.max_splices). `llm_calls` include repairs of answers
    and retries (`max_retries`), `output_tokens` counts each of them with `max_output_tokens`; `input_tokens` are known only
    for nodes with a `token_budget`, `cost_usd` only without any model call. `tool_calls` are calls of capabilities that are
    not pure, retries included, as a budget counts them. `capabilities` has all of them by name; `guarded` the effects that
    must not happen twice, by capability or operation: a capability that nobody described counts among them. `included` says
    in words what multiplies.
    """

    flow: str
    firings: Bound
    frames: Bound
    splices: Bound
    llm_calls: Bound
    input_tokens: Bound
    output_tokens: Bound
    cost_usd: Bound
    tool_calls: Bound
    capabilities: Mapping[str, Bound]
    guarded: Mapping[str, Bound]
    included: tuple[str, ...]

    @property
    def guarded_effects(self) -> Bound:
        """All guarded effects together."""
        return sum(self.guarded.values(), NOTHING)

    def quantities(self) -> dict[str, Bound]:
        """Every bound that is not about one capability, by name."""
        names = ("llm_calls", "input_tokens", "output_tokens", "cost_usd", "tool_calls")
        found = {name: getattr(self, name) for name in names}
        return {
            **found,
            "guarded_effects": self.guarded_effects,
            **{n: getattr(self, n) for n in ("splices", "firings", "frames")},
        }


def bounds(flows: Mapping[FlowKey, Graph], entry: FlowKey, effects: Mapping[str, str | None] | None = None) -> Certificate:
    """The certificate of one flow of a program, as `lift` gives it.

    `effects` has the effect class of every capability that is known. Retries count by the defaults of a runtime: what
    its configuration adds (`SchedulerConfig.retries`) is not in the program.
    """
    counting = _Counting(flows, effects or {})
    for key in reversed(_callers_first(flows, entry)):  # so that a long chain of calls does not deepen the Python stack
        counting.flow(key)
    amounts = counting.flow(entry)
    anything = amounts.pop(ANYTHING, NOTHING)

    def amount(name: str) -> Bound:
        return amounts.get(name, NOTHING) + anything

    def named(kind: str) -> dict[str, Bound]:
        found = {name.partition(":")[2]: bound + anything for name, bound in sorted(amounts.items()) if name.startswith(kind)}
        return {**found, "anything": anything} if not anything.nothing else found

    return Certificate(
        flow=".".join(entry),
        firings=amount("firings"),
        frames=amount("frames"),
        splices=amount("splices"),
        llm_calls=amount("llm_calls"),
        input_tokens=amount("input_tokens"),
        output_tokens=amount("output_tokens"),
        cost_usd=amount("cost_usd"),
        tool_calls=amount("tool_calls"),
        capabilities=named("capability:"),
        guarded=named("guarded:"),
        included=counting.included(),
    )


def setting(node: Node, name: str) -> Any:
    """An attribute of a node, else the default that the operation table says."""
    if name in node.attributes:
        return node.attributes[name]
    attribute = attribute_of(OPERATIONS[node.op], name)
    return attribute.default if attribute is not None else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a graph stands: its flow, and the nodes and regions that lead to it."""

    flow: FlowKey
    around: tuple[tuple[int, str], ...] = ()

    def inside(self, node: Node, region: str) -> _Place:
        return _Place(self.flow, (*self.around, (node.id, region)))


class _Counting:
    """Counts flows, each once; those that call themselves have no bound for anything that happens in them."""

    def __init__(self, flows: Mapping[FlowKey, Graph], effects: Mapping[str, str | None]) -> None:
        self.flows, self.effects = flows, effects
        self._multiplied: dict[str, None] = {}  # in order, each once
        self._asked: dict[tuple[int, int], dict[str, None]] = {}  # answers and retries of each -> the nodes
        self._retried: dict[int, dict[str, None]] = {}  # retries -> the capabilities
        self._done: dict[FlowKey, Amounts] = {}
        self._circles: dict[FlowKey, frozenset[FlowKey]] | None = None

    def included(self) -> tuple[str, ...]:
        """What multiplies, in words."""
        rows = list(self._multiplied)
        for (rounds, retries), nodes in self._asked.items():
            each = "1 answer" if rounds == 1 else f"{rounds:,} answers"
            rows.append(f"{each} with {retries:,} retries: {_names(nodes)}")
        rows += [f"{again:,} retries of a call: {_names(called)}" for again, called in self._retried.items()]
        return tuple(rows)

    # ---- flows -----------------------------------------------------------------------------------------------------
    def flow(self, key: FlowKey) -> Amounts:
        """What one activation of a flow causes at most."""
        if key not in self._done:
            circle = self._circle(key)
            if not circle:
                self._done[key] = self.graph(self.flows[key], _Place(key))
            else:
                self._count_circle(circle)
        return dict(self._done[key])

    def _count_circle(self, circle: frozenset[FlowKey]) -> None:
        names = [".".join(key) for key in sorted(circle)]
        how = "calls itself" if len(names) == 1 else "call each other"
        cause = f"FLOW_CALL: {' and '.join(f'`{name}`' for name in names)} {how}"
        for key in circle:
            self._done[key] = {}  # inside of the circle a call adds nothing more to what is without bound anyhow
        together = total([self.graph(self.flows[key], _Place(key)) for key in sorted(circle)])
        endless = {name: Bound(causes=tuple(dict.fromkeys((cause, *bound.causes)))) for name, bound in together.items()}
        for key in circle:
            self._done[key] = endless

    def _circle(self, key: FlowKey) -> frozenset[FlowKey]:
        """The flows that call each other in a circle with this one, itself included; empty when there is none."""
        if self._circles is None:
            self._circles = circles(self.flows)
        return self._circles.get(key, frozenset())

    # ---- graphs ----------------------------------------------------------------------------------------------------
    def graph(self, graph: Graph, place: _Place) -> Amounts:
        """What one frame of a graph causes at most."""
        wiring = Wiring(graph)
        amounts = {node.id: self.node(node, wiring, place) for node in graph.nodes}
        return Routes(graph).largest(amounts, total, either)

    def node(self, node: Node, wiring: Wiring, place: _Place) -> Amounts:
        """What one firing of a node causes at most, with everything inside of it."""
        amounts: Amounts = {"firings": ONCE}
        row = OPERATIONS[node.op]
        if row.effect is Effect.PAID:
            amounts |= self._model_calls(node)
        match node.op:
            case "INV":
                amounts |= self._call(node.attributes["capability"], setting(node, "retries"))
            case "EXC" if "code" in node.attributes:
                amounts["guarded:EXC"] = ONCE
            case "COMMUNICATE":
                amounts["guarded:COMMUNICATE"] = ONCE
                amounts = total((amounts, self._message(node)))
            case "FLOW_CALL":
                callee = (node.attributes.get("agent_name", place.flow[0]), node.attributes["flow_name"])
                amounts = total((amounts, self._frame(node, callee)))
        if node.regions:
            inner = {name: self.graph(region, place.inside(node, name)) for name, region in node.regions.items()}
            opened = {name: total((one, {"frames": ONCE})) for name, one in inner.items()}
            amounts = total((amounts, self._regions(node, opened, wiring, place)))
        return amounts

    def _regions(self, node: Node, opened: Mapping[str, Amounts], wiring: Wiring, place: _Place) -> Amounts:
        match node.op:
            case "SWITCH":
                return either(opened.values())
            case "LOOP":
                times = int(node.attributes["max_iterations"])
                self._multiplied[f"LOOP `{node.name}`: at most {times:,} {'iteration' if times == 1 else 'iterations'}"] = None
                return {name: bound.times(times) for name, bound in opened["body"].items()}
            case "MAP":
                body = self._per_item(node, opened["body"], wiring, place)
                return total((body, opened.get("reduce", {})))
            case _:
                return total(opened.values())

    def _per_item(self, node: Node, body: Amounts, wiring: Wiring, place: _Place) -> Amounts:
        edge = wiring.list_of(node)
        length = wiring.constant_length(edge)
        if length is not None:
            self._multiplied[f"MAP `{node.name}`: {length:,} {'item' if length == 1 else 'items'}, as its constant list has"] = (
                None
            )
            return {name: bound.times(length) for name, bound in body.items()}
        items = Items(".".join(place.flow), (*place.around, (node.id, "body")), node.name, wiring.name_of(edge))
        return {name: bound.each(items) for name, bound in body.items()}

    # ---- the world -------------------------------------------------------------------------------------------------
    def _model_calls(self, node: Node) -> Amounts:
        """Provider calls of one firing: rounds of tool calls, repairs of the answer, each with its retries."""
        tools = setting(node, "tools") if setting(node, "tools_enabled") else ()
        rounds = 1 + (setting(node, "max_iterations") if tools else 0)
        if "output_schema" in node.attributes or node.op not in ("ASK", "THINK"):
            rounds += setting(node, "max_schema_retries") or 0
        if _plans(node):
            rounds *= 2  # a plan that is refused is asked for once more
        retries = setting(node, "max_retries") or 0
        calls = rounds * (1 + retries)
        if calls > 1:
            self._asked.setdefault((rounds, retries), {})[node.name] = None
        output = Bound(calls * ((setting(node, "max_output_tokens") or 0) + (setting(node, "budget") or 0)))
        given = node.attributes.get("token_budget")
        amounts: Amounts = {
            "llm_calls": Bound(calls),
            "output_tokens": output if given is None else output.capped(given),
            "input_tokens": Bound(causes=(f"{node.op} `{node.name}`: the length of its prompt is not in the program",))
            if given is None
            else Bound(given),
            "cost_usd": Bound(causes=("prices of models are not in the program",)),
        }
        if tools:
            amounts = total((amounts, self._offered(node, tools)))
        if _plans(node):
            amounts["splices"] = ONCE
            amounts[ANYTHING] = Bound(causes=(f"{node.op} `{node.name}`: a model decides what its inner plan does",))
        return amounts

    def _offered(self, node: Node, tools: Iterable[str]) -> Amounts:
        """The capabilities that a model may call: in each round so many calls, all of them perhaps of the same one."""
        most = TURN_CALLS * int(setting(node, "max_iterations"))
        self._multiplied[f"{node.op} `{node.name}`: at most {most:,} calls of tools, as many as its model asks for"] = None
        return {name: bound.times(most) for name, bound in either(self._call(tool, None) for tool in tools).items()}

    def _call(self, capability: str, retries: int | None) -> Amounts:
        """One call of a capability, with the retries it may have."""
        effect = self.effects.get(capability)
        again = CALL_RETRIES if retries is None else retries
        # A guarded call is repeated only where its node says so, and only with its key, or when it is known not to have happened.
        calls = Bound(1 + again) if effect is None or effect in _REPEATABLE or retries is not None else ONCE
        if calls.fixed > 1:
            self._retried.setdefault(again, {})[capability] = None
        amounts: Amounts = {f"capability:{capability}": calls}
        if effect != "pure":
            amounts["tool_calls"] = calls
        if effect is None or effect == "guarded":
            amounts[f"guarded:{capability}"] = ONCE if retries is None else calls
        return amounts

    def _frame(self, node: Node, callee: FlowKey) -> Amounts:
        if callee not in self.flows:
            cause = f"{node.op} `{node.name}`: flow `{'.'.join(callee)}` is not in this program"
            return {"frames": ONCE, ANYTHING: Bound(causes=(cause,))}
        return total(({"frames": ONCE}, self.flow(callee)))

    def _message(self, node: Node) -> Amounts:
        """What the flow that answers a message does."""
        protocol, recipient = setting(node, "protocol"), node.attributes.get("recipient", "")
        if protocol in ("http", "https"):
            return {}
        answering = answering_flow(node, self.flows)
        if protocol == "local" and answering is not None:
            return self._frame(node, answering)
        whom = f"agent `{recipient}` is not in this program" if protocol == "local" else "whoever listens answers"
        return {ANYTHING: Bound(causes=(f"COMMUNICATE `{node.name}`: {whom}",))}


def _names(several: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in several)


def _plans(node: Node) -> bool:
    """Whether a node runs a plan that its model makes."""
    return node.op in ("REASON", "PLAN") and bool(node.attributes.get("enable_inner_plan", setting(node, "inner_plan_supported")))


def answering_flow(node: Node, flows: Mapping[FlowKey, Graph]) -> FlowKey | None:
    """The flow of the program that gets the message of a local COMMUNICATE; None when that is not known."""
    recipient = node.attributes.get("recipient", "")
    if parse(recipient).placeholders:
        return None
    return next(((recipient, flow) for flow in ("communicate", "main") if (recipient, flow) in flows), None)


def calls_of(graph: Graph, agent: str) -> Iterator[FlowKey]:
    """The flows that a graph calls or sends messages to, those in its regions included."""
    for node in graph.nodes:
        if node.op == "FLOW_CALL":
            yield node.attributes.get("agent_name", agent), node.attributes["flow_name"]
        elif node.op == "COMMUNICATE" and setting(node, "protocol") == "local":
            recipient = node.attributes.get("recipient", "")
            yield from ((recipient, "communicate"), (recipient, "main"))
        for region in node.regions.values():
            yield from calls_of(region, agent)


def _callers_first(flows: Mapping[FlowKey, Graph], entry: FlowKey) -> list[FlowKey]:
    """The flows that an entry reaches; each, circles apart, behind all that call it."""
    called = {key: [one for one in calls_of(flows[key], key[0]) if one in flows] for key in flows}
    order: list[FlowKey] = []
    seen, todo = {entry}, [(entry, iter(called[entry]))]
    while todo:
        key, callees = todo[-1]
        callee = next((one for one in callees if one not in seen), None)
        if callee is None:
            order.append(key)
            todo.pop()
        else:
            seen.add(callee)
            todo.append((callee, iter(called[callee])))
    return order[::-1]


def circles(flows: Mapping[FlowKey, Graph]) -> dict[FlowKey, frozenset[FlowKey]]:
    """Flow -> the flows it is in a circle of calls with, itself included; only flows that are in one."""
    called = {key: {one for one in calls_of(graph, key[0]) if one in flows} for key, graph in flows.items()}
    if not any(called.values()):
        return {}
    import networkx

    graph = networkx.DiGraph(called)
    found = (component for component in networkx.strongly_connected_components(graph))
    rings = (frozenset(one) for one in found if len(one) > 1 or any(key in called[key] for key in one))
    return {key: ring for ring in rings for key in ring}
