"""From a graph that a model wrote to a bound plan: read, checked, compiled, bound, counted. All of it holds, or nothing runs.

A plan never may more than the node that it is spliced at. What it calls must be granted by name, to the run and to the
flow around it, and be named by that flow or by `tools` of the node; a flow that it calls gets the same narrow grants.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from apxm.aam.declaration import Declaration
from apxm.capability.system import granted
from apxm.errors import ApxmError, BindError, CapabilityError, GraphError, InvalidError, PlanError, Problem
from apxm.executor.arguments import where
from apxm.executor.asking import setting
from apxm.executor.plan_text import ALLOWED, graph_of, guide
from apxm.graph.contract import read, to_map
from apxm.graph.model import Graph
from apxm.graph.ops import BY_CODE, OPERATIONS
from apxm.graph.region import bind
from apxm.observability.events import Spliced
from apxm.outcome import Child, ChildResult, Spawn
from apxm.values import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from apxm.dag import ExecutionDag
    from apxm.executor.bind import Body, NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.graph.model import Node, Parameter

    Flow: TypeAlias = tuple[str, str]  # agent, flow

T = TypeVar("T")

_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}
_FLOW_CALL, _LOOP = OPERATIONS["FLOW_CALL"].code, OPERATIONS["LOOP"].code
PROBLEMS_MAX, TEXT_MAX = 50, 1_000  # of an error; characters of each of its texts, which may be the model's own
FLOWS_SHOWN = 50  # to a model
DIGEST_CHARS = 8  # of the graph of a plan in its frame path: other plans at the same place have other paths


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that may run: bound, with its arguments in order, and what is told about it."""

    body: Body
    args: list[Any]
    spliced: Spliced


class InnerPlans:
    """What one node may splice. Decided when it is bound, but for what only a firing knows: the flow around it, the run."""

    def __init__(self, spec: NodeSpec, services: Services) -> None:
        self.spec, self.services = spec, services
        self.enabled: bool = spec.attributes.get("enable_inner_plan", setting(spec, "inner_plan_supported"))
        self.outputs: bool = setting(spec, "bind_inner_plan_outputs")
        self._tools: Sequence[str] | None = spec.attributes.get("tools") if self.enabled else None
        for name in self._tools or ():
            try:
                granted(services.capabilities.get(name), services.grants, explicit=True)
            except CapabilityError as error:
                raise BindError(f"{where(spec)}: {error.message}", hint=error.hint) from error

    def admit(self, context: OpContext) -> None:
        """Refuse, before anybody is asked, what could not be spliced anyhow. InvalidError with code `limit`."""
        config, run = context.run.config, context.run
        hint = "does a plan plan again without end?"
        if context.depth >= config.max_splice_depth:
            text = f"plans of models are nested {context.depth} deep, the bound is SchedulerConfig.max_splice_depth"
            raise InvalidError(text, code="limit", hint=hint)
        if len(run.splices) >= config.max_splices:
            text = f"this run took in {len(run.splices)} plans of models, the bound is SchedulerConfig.max_splices"
            raise InvalidError(text, code="limit", hint=hint)

    def guide(self, context: OpContext) -> str:
        """What the model is told about plans."""
        capabilities, known = self.services.capabilities, self.allowed(context)
        records = [capabilities.get(name) for name in sorted(known) if capabilities.has(name)]
        found = (self._flow(key, context) for key in islice(self._flows(context), FLOWS_SHOWN))
        flows = [dag for dag in found if dag is not None and dag is not context.flow and not self._effects(dag)]
        return guide(self.spec.inputs, records, flows, context.run.config.max_splice_nodes)

    def allowed(self, context: OpContext) -> frozenset[str]:
        """The capabilities that a plan may call: granted by name, and named by the node or else by the flow around it."""
        grants, flow = self.services.grants, context.flow
        if self._tools is not None:
            named = frozenset(self._tools)
        elif flow is None:
            named = grants.names
        else:
            said = Declaration.parse({} if flow.planned else context.siblings.agents.get(flow.agent, {}), f"agent `{flow.agent}`")
            named = frozenset((*named_in(flow), *(said.capabilities or ())))
        return frozenset(name for name in named if grants.allows(name) and grants.admits(name))

    # ---- checks ----------------------------------------------------------------------------------------------------------
    def check(self, context: OpContext, given: Any, inputs: Sequence[Any]) -> Plan:
        """The plan that a model gave, ready to run. PlanError with everything that is wrong with it."""
        from apxm.graph.validate import validate

        most, allowed = context.run.config.max_splice_nodes, self.allowed(context)
        graph = self._read(given, most)
        problems = [*self._try(lambda: validate(graph)), *_operation_rules(graph), *_capability_rules(graph, allowed)]
        problems += self._flow_rules(graph, context)
        args = _arguments(graph.parameters, [one.port for one in self.spec.inputs], inputs, problems)
        self._refuse(problems)
        dag = self._adopted(self._try(lambda: _compiled(graph)), context)
        self._refuse(_too_large(firings(dag), most))
        body = self._try(lambda: context.run.bind_plan(dag, self.services.grants.only(allowed)))
        return Plan(body, args, self._told(dag, allowed, context))

    def _read(self, given: Any, most: int) -> Graph:
        graph, problems = self._try(lambda: read(graph_of(given)))
        nodes = sum(1 for _ in _nodes(graph)) if isinstance(graph, Graph) else 0
        self._refuse(_too_large(nodes, most) or problems)
        assert isinstance(graph, Graph)
        return graph

    def _try(self, step: Callable[[], T]) -> T:
        """What a step gives. Whatever it raises is a problem of the plan: a model may write anything."""
        try:
            return step()
        except GraphError as error:
            raise self._refused(error.problems or [Problem("plan", error.message)]) from error
        except Exception as error:
            text = str(error) if isinstance(error, ApxmError) else f"{type(error).__name__}: {error}"
            raise self._refused([Problem("plan", text)]) from error

    def _flow_rules(self, graph: Graph, context: OpContext) -> Iterator[Problem]:
        """What a FLOW_CALL reaches is there, and does nothing that a plan must not do itself."""
        for node, path in _nodes(graph):
            agent, flow = node.attributes.get("agent_name", self.spec.agent), node.attributes.get("flow_name")
            if node.op != "FLOW_CALL" or not isinstance(agent, str) or not isinstance(flow, str):
                continue
            dag = self._flow((agent, flow), context)
            if dag is None:
                known = [".".join(key) for key in self._flows(context)]
                close = get_close_matches(f"{agent}.{flow}", known, n=1)
                text = f"FLOW_CALL `{node.name}` calls `{agent}.{flow}`, which is not there"
                near = close[0] if close else None
                yield Problem("graph.unknown_flow", text, node=node.id, path=f"{path}.attributes.flow_name", nearest=near)
            for op in self._effects(dag) if dag is not None else ():
                text = f"FLOW_CALL `{node.name}` calls `{agent}.{flow}`, which reaches {op}, and a plan must not"
                yield Problem("plan", text, node=node.id, path=path)

    def _flows(self, context: OpContext) -> list[Flow]:
        """The flows that a plan may call: those of the program, and the registered ones."""
        return list(dict.fromkeys((*sorted(context.siblings), *self.services.flows.list_flows())))

    def _flow(self, key: Flow, context: OpContext) -> ExecutionDag | None:
        return context.siblings.get(key) or self._registered(key)

    def _effects(self, dag: ExecutionDag) -> list[str]:
        """The operations that a flow reaches, and that no grant governs: code, messages, and what others share with the run."""
        found: dict[str, None] = {}
        seen, todo = {dag}, [dag]
        while todo:
            for one in _walk(todo.pop()):
                for op, place in one.sorts:
                    row, attributes = BY_CODE[op], one.attributes.table[place - 1] if place else {}
                    if row is not None and row.name in _UNGOVERNED:
                        found[row.name] = None
                    if op == _FLOW_CALL:
                        key = (attributes.get("agent_name", one.agent), attributes["flow_name"])
                        callee = one.siblings.get(key) or self._registered(key)
                        if callee is not None and callee not in seen:
                            seen.add(callee)
                            todo.append(callee)
        return list(found)

    def _registered(self, key: Flow) -> ExecutionDag | None:
        registry = self.services.flows
        return registry.get_flow(*key) if registry.has_flow(*key) else None

    # ---- compiling -------------------------------------------------------------------------------------------------------
    def _adopted(self, dag: ExecutionDag, context: OpContext) -> ExecutionDag:
        """A plan as one of the agent whose node made it, among the flows of its program."""
        for one in _walk(dag):
            one.agent, one.siblings = self.spec.agent, context.siblings
        dag.planned = True
        return dag

    def _told(self, dag: ExecutionDag, allowed: frozenset[str], context: OpContext) -> Spliced:
        several, graph = list(_walk(dag)), to_map(dag.to_graph())
        name = digest(graph).hex()
        ops = Counter(row.name for one in several for code in one.ops if (row := BY_CODE[code]) is not None)
        return Spliced(
            context.path,
            context.node,
            context.name,
            f"plan:{name[:DIGEST_CHARS]}",
            sum(one.node_count for one in several),
            sum(one.edge_count for one in several),
            context.depth + 1,
            name,
            sorted(allowed.intersection(named_in(dag))),
            dict(sorted(ops.items())),
            graph,
        )

    def _refuse(self, problems: Sequence[Problem]) -> None:
        if problems:
            raise self._refused(problems)

    def _refused(self, problems: Sequence[Problem]) -> PlanError:
        what = "a rule" if len(problems) == 1 else f"{len(problems)} rules"
        told = [_modest(problem) for problem in problems[:PROBLEMS_MAX]]
        return PlanError(f"{where(self.spec)}: the inner plan that its model made breaks {what}", told)

    # ---- running ---------------------------------------------------------------------------------------------------------
    def splice(self, context: OpContext, plan: Plan, otherwise: Any) -> Spawn:
        """Take a plan into the run; gives its outputs, or `otherwise` where they are not bound. BudgetError, InvalidError."""
        reservation = context.run.ledger.reserve(splices=1)
        try:
            context.run.splice(plan.spliced)
        except BaseException:
            reservation.settle()
            raise
        reservation.settle(splices=1)

        def then(results: list[ChildResult]) -> Any:
            return results[0].value if self.outputs else otherwise

        return Spawn((Child(plan.body, plan.args, plan.spliced.step),), then)


_UNGOVERNED = ("EXC", "COMMUNICATE", "CLAIM", "PAUSE", "RESUME")


def named_in(dag: ExecutionDag) -> Iterator[str]:
    """The capabilities that a flow names: to call them, to offer them to a model, or as those of its agent."""
    for one in _walk(dag):
        for op, place in one.sorts:
            row, attributes = BY_CODE[op], one.attributes.table[place - 1] if place else {}
            if row is not None and row.name == "INV":
                yield attributes["capability"]
            elif row is not None:
                yield from attributes.get("capabilities" if row.name == "AGENT" else "tools", ())


def firings(dag: ExecutionDag) -> int:
    """The nodes of a dag, those of its regions too; those in a LOOP once for each of its iterations."""
    count = dag.node_count
    for slot, regions in dag.regions.items():
        times = dag.attributes[slot]["max_iterations"] if dag.ops[slot] == _LOOP else 1
        count += times * sum(firings(region) for region in regions.values())
    return count


def _walk(dag: ExecutionDag) -> Iterator[ExecutionDag]:
    """A dag and all regions in it."""
    todo = [dag]
    while todo:
        one = todo.pop()
        yield one
        for regions in one.regions.values():
            todo += regions.values()


def _nodes(graph: Graph, path: str = "") -> Iterator[tuple[Node, str]]:
    """Every node of a graph and its regions, with its path. The contract bounds how deep they are."""
    for place, node in enumerate(graph.nodes):
        at = f"{path}nodes[{place}]"
        yield node, at
        for name, region in node.regions.items():
            yield from _nodes(region, f"{at}.regions.{name}.")


def _operation_rules(graph: Graph) -> Iterator[Problem]:
    for node, path in _nodes(graph):
        if node.op in OPERATIONS and node.op not in ALLOWED:
            text = f"a plan of a model cannot hold {node.op}"
            yield Problem("plan", text, node=node.id, path=f"{path}.op", expected=f"one of {', '.join(ALLOWED)}")


def _capability_rules(graph: Graph, allowed: frozenset[str]) -> Iterator[Problem]:
    few = f"one of {', '.join(f'`{name}`' for name in sorted(allowed))}" if allowed else "none: no capability is granted to it"
    for node, path in _nodes(graph):
        names = [node.attributes.get("capability")] if node.op == "INV" else node.attributes.get("tools", ())
        for name in names if isinstance(names, (list, tuple)) else ():
            if isinstance(name, str) and name not in allowed:
                text = f"{node.op} `{node.name}` asks for the capability `{name}`, which this plan may not call"
                close = get_close_matches(name, allowed, n=1)
                yield Problem("plan", text, node=node.id, path=path, expected=few, nearest=close[0] if close else None)


def _arguments(
    parameters: Sequence[Parameter], ports: Sequence[str | None], inputs: Sequence[Any], problems: list[Problem]
) -> list[Any]:
    """The values of the parameters of a plan: by the port of an input, else in order."""
    bound = bind("", "plan", [parameter.name for parameter in parameters], ports)
    args = []
    for place, parameter in enumerate(parameters):
        at = f"parameters[{place}]"
        if parameter.name in bound.unbound:
            given = "is 1 input" if len(inputs) == 1 else f"are {len(inputs)} inputs"
            text = f"nothing gives the parameter `{parameter.name}`: there {given}"
            problems.append(Problem("graph.region_parameter", text, path=at))
            continue
        value = inputs[bound.sources[parameter.name]]
        wanted = _TYPES.get(parameter.type_name, (object,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted[0] not in (bool, object)):
            text = f"the input for the parameter `{parameter.name}` is {type(value).__name__}"
            problems.append(Problem("parameter", text, path=at, expected=parameter.type_name))
        args.append(value)
    return args


def _too_large(nodes: int, most: int) -> list[Problem]:
    if nodes <= most:
        return []
    text = f"{nodes:,} nodes, counted with its regions and every iteration of a LOOP"
    return [Problem("plan", text, expected=f"{most:,} at most (SchedulerConfig.max_splice_nodes)")]


def _modest(problem: Problem) -> Problem:
    """The same, with texts of bounded length."""
    said = {name: text[:TEXT_MAX] if isinstance(text, str) else text for name, text in problem.to_map().items()}
    return Problem(said.pop("code"), said.pop("message"), **said)


def _compiled(graph: Graph) -> ExecutionDag:
    """A plan by way of its bytes: what no artifact may hold, no plan may either."""
    from apxm.artifact import Artifact  # here, as few programs need the compiler when they run
    from apxm.compiler.compile import compile

    return Artifact.from_bytes(compile(graph, level=0).to_bytes()).into_dag()
