"""Whether a graph keeps every rule. All broken rules come in one pass, each with place, expectation and nearest spelling.

The rules stand in `apxm.graph.rules`; the structure of JSON is the business of `apxm.graph.contract`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard, TypeVar

from apxm.collector import collector_paused
from apxm.errors import GraphError, Problem
from apxm.graph.canonical import canonical, canonical_program
from apxm.graph.contract import DEPTH_MAX, read
from apxm.graph.model import PARAMETER_TYPES, Graph, Node, Program
from apxm.graph.ops import OPERATIONS
from apxm.graph.region import is_position
from apxm.graph.rules.advice import advise
from apxm.graph.rules.attributes import check_attributes
from apxm.graph.rules.calls import check_call
from apxm.graph.rules.edges import check_edges, check_inputs, check_labels
from apxm.graph.rules.flow import check_flow, check_placement
from apxm.graph.rules.regions import check_regions
from apxm.graph.rules.view import Surroundings, View, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_NAME_MAX = 1_000  # characters; a longer name is no name
_ID_MAX = 2**63 - 1  # artifacts hold ids in 64 bits
_PROBLEMS_SHOWN = 50  # in the message of an error; `problems` has all

Authored = TypeVar("Authored", Graph, Program)


@collector_paused()
def validate(authored: Graph | Program) -> list[Problem]:
    """Every rule that the graph or program breaks; [] when it is valid. The order is that of its parts."""
    problems: list[Problem] = []
    _check(_canonical(authored, problems), problems)
    return problems


@collector_paused()
def validate_json(source: str | bytes | Mapping[str, Any]) -> list[Problem]:
    """Every mistake in the structure of a JSON graph, and every rule broken by what can be read of it."""
    authored, problems = read(source)
    if authored is None:
        return problems
    wrong = {problem.path for problem in problems}
    found: list[Problem] = []
    _check(authored, found)
    return problems + [problem for problem in found if not any(_within(problem.path, path) for path in wrong)]


@collector_paused()
def require_valid(authored: Authored) -> Authored:
    """The graph or program in canonical form, ready to be compiled. GraphError with every broken rule if it is not valid."""
    problems: list[Problem] = []
    form = canonical_program(authored, problems) if isinstance(authored, Program) else canonical(authored, problems)
    _check(form, problems)
    if problems:
        count = f"{len(problems)} rules" if len(problems) > 1 else "a rule"
        raise GraphError(f"`{authored.name or 'the program'}` breaks {count}", problems[:_PROBLEMS_SHOWN])
    return form


def warnings(authored: Graph | Program) -> list[Problem]:
    """What is allowed and probably a mistake, in a valid graph or program; [] when it is not valid."""
    problems: list[Problem] = []
    form = _canonical(authored, problems)
    _check(form, problems)
    if problems:
        return []
    for flow, path, program in _flows(form):
        _advise(flow, problems, path, 0, program)
    return problems


def _canonical(authored: Graph | Program, problems: list[Problem]) -> Graph | Program:
    return canonical_program(authored, problems) if isinstance(authored, Program) else canonical(authored, problems)


def _within(path: str, other: str) -> bool:
    return path == other or (path.startswith(other) and path[len(other) : len(other) + 1] in (".", "["))


def _flows(authored: Graph | Program) -> Iterator[tuple[Graph, str, Surroundings | None]]:
    """Every flow with the path of its keys and the program around it."""
    if isinstance(authored, Graph):
        yield authored, "", None
        return
    flows = {agent.name: {flow.name: flow for flow in agent.flows} for agent in authored.agents}
    for a, agent in enumerate(authored.agents):
        for f, flow in enumerate(agent.flows):
            yield flow, f"agents[{a}].flows[{f}].", Surroundings(agent.name, flows)


def _check(authored: Graph | Program, problems: list[Problem]) -> None:
    if isinstance(authored, Program):
        _check_program(authored, problems)
    for flow, path, program in _flows(authored):
        _check_graph(flow, problems, path, 0, program)


def _check_program(program: Program, problems: list[Problem]) -> None:
    if not program.agents:
        problems.append(Problem("graph.empty", "a program without agents", path="agents", expected="one agent at least"))
    names: set[str] = set()
    for a, agent in enumerate(program.agents):
        at = f"agents[{a}]"
        _check_name(agent.name, "an agent", f"{at}.name", names, problems)
        if not agent.flows:
            problems.append(
                Problem("graph.empty", f"agent `{agent.name}` has no flow", path=f"{at}.flows", expected="one at least")
            )
        flows: set[str] = set()
        for f, flow in enumerate(agent.flows):
            if flow.name in flows:
                message = f"agent `{agent.name}` has two flows named `{flow.name}`"
                path = f"{at}.flows[{f}].name"
                problems.append(Problem("graph.duplicate_name", message, path=path, expected="names that differ"))
            flows.add(flow.name)


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and 0 < len(name) <= _NAME_MAX and name.isprintable() and not name.isspace()


def _check_name(
    name: object, what: str, path: str, seen: set[str] | None, problems: list[Problem], node: int | None = None
) -> None:
    if not _is_name(name):
        expected = f"a text of at most {_NAME_MAX} printable characters, not blank"
        problems.append(
            Problem("graph.name", f"`{str(name)[:40]}` is no name of {what}", node=node, path=path, expected=expected)
        )
    elif seen is not None:
        if name in seen:
            problems.append(
                Problem("graph.duplicate_name", f"`{name}` is twice the name of {what}", path=path, expected="names that differ")
            )
        seen.add(name)


def _check_graph(graph: Graph, problems: list[Problem], path: str, depth: int, program: Surroundings | None) -> None:
    view = View(graph, problems, path, depth, program)
    _check_name(graph.name, "a graph", f"{path}name", None, problems)
    if not graph.nodes:
        view.problem("graph.empty", f"`{graph.name}` has no nodes", "nodes", expected="one at least")
    _check_parameters(view)
    _check_ids(view)
    check_edges(view)
    for node in graph.nodes:
        _check_node(view, node)
    check_flow(view)


def _check_parameters(view: View) -> None:
    names: set[str] = set()
    for i, parameter in enumerate(view.graph.parameters):
        at = f"{view.path}parameters[{i}]"
        _check_name(parameter.name, "a parameter", f"{at}.name", names, view.problems)
        if is_position(parameter.name):
            view.problem(
                "graph.name", f"parameter `{parameter.name}` looks like a position", f"parameters[{i}].name", expected="a name"
            )
        if parameter.type_name not in PARAMETER_TYPES:
            view.problem(
                "graph.parameter_type",
                f"parameter `{parameter.name}` has the unknown type `{parameter.type_name}`",
                f"parameters[{i}].type_name",
                expected=", ".join(PARAMETER_TYPES),
                nearest=nearest(parameter.type_name, PARAMETER_TYPES),
            )


def _check_ids(view: View) -> None:
    for i, node in enumerate(view.graph.nodes):
        if type(node.id) is not int or not 0 <= node.id <= _ID_MAX:
            view.problem("graph.node_id", f"node id {node.id}", f"nodes[{i}].id", expected="an int from 0 to 2^63 - 1")
        elif view.place[node.id] != i:
            first = view.graph.nodes[view.place[node.id]].name
            message = f"id {node.id} of `{node.name}` is that of `{first}`"
            view.problem("graph.node_id", message, f"nodes[{i}].id", node=node.id, expected="an id of its own")
        if not _is_name(node.name):
            _check_name(node.name, "a node", f"{view.path}nodes[{i}].name", None, view.problems, node.id)


def _check_node(view: View, node: Node) -> None:
    row = OPERATIONS.get(node.op)
    if row is None:
        view.problem(
            "graph.unknown_op",
            f"there is no operation `{node.op}`",
            view.at_node(node, ".op"),
            node=node.id,
            expected="one of those that `apxm ops list` lists",
            nearest=nearest(str(node.op).upper(), OPERATIONS),
        )
    else:
        check_attributes(view, node, row)
        check_inputs(view, node, row)
        check_labels(view, node, row)
        check_regions(view, node, row)
        check_placement(view, node)
        if row.name == "FLOW_CALL":
            check_call(view, node)
    if view.depth < DEPTH_MAX:
        for name, region in node.regions.items():
            path = f"{view.path}{view.at_node(node)}.regions.{name}."
            _check_graph(region, view.problems, path, view.depth + 1, view.program)


def _advise(graph: Graph, problems: list[Problem], path: str, depth: int, program: Surroundings | None) -> None:
    view = View(graph, problems, path, depth, program)
    advise(view)
    for node in graph.nodes:
        for name, region in node.regions.items():
            _advise(region, problems, f"{path}{view.at_node(node)}.regions.{name}.", depth + 1, program)
