"""Rules about the graph as a whole: no cycles, exits with names of their own, RETURN and YIELD in place, loops that close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.canonical import PASSED_OVER
from apxm.graph.model import Dependency
from apxm.graph.rules.view import View, nearest

if TYPE_CHECKING:
    from apxm.graph.model import Node

_CYCLES_MAX = 10  # cycles named in one report
_SHOWN_MAX = 12  # nodes of a cycle named


def check_flow(view: View) -> None:
    """Everything that no node alone can break."""
    _check_cycles(view)
    _check_exits(view)
    _check_loops(view)
    _check_agents(view)


# cycles


def _check_cycles(view: View) -> None:
    if _in_order(view):
        return
    after = {id: list(view.successors(id)) for id in view.place}
    for id, before in view.implied.items():
        for source in before:
            after[source].append(id)
    for _ in range(_CYCLES_MAX):
        left = _left_by_sorting(after)
        if not left:
            return
        cycle = _a_cycle(after, left)
        _report_cycle(view, cycle)
        for id in cycle:
            after[id] = []


def _in_order(view: View) -> bool:
    """Whether every edge leads to a node that is written later, as in most graphs: then there is no cycle."""
    place = view.place
    for source, out in view.outs.items():
        here = place[source]
        for _, edge in out:
            if place[edge.target] <= here:
                return False
    return all(place[source] < place[id] for id, before in view.implied.items() for source in before)


def _left_by_sorting(after: dict[int, list[int]]) -> set[int]:
    """Nodes that a topological sort never reaches."""
    waiting = dict.fromkeys(after, 0)
    for id, targets in after.items():
        for target in targets:
            if target != id:  # a node that feeds itself has been reported by itself
                waiting[target] += 1
    ready = [id for id, count in waiting.items() if not count]
    for id in ready:
        for target in after[id]:
            if target != id:
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
    return set(after).difference(ready)


def _a_cycle(after: dict[int, list[int]], left: set[int]) -> list[int]:
    """A cycle among nodes each of which has a predecessor among them."""
    before: dict[int, int] = {}
    for id in sorted(left, reverse=True):
        for target in after[id]:
            if target in left and target != id:
                before[target] = id
    here = min(left)
    seen: dict[int, int] = {}
    trail: list[int] = []
    while here not in seen:
        seen[here] = len(trail)
        trail.append(here)
        here = before[here]
    cycle = trail[seen[here] :][::-1]
    start = cycle.index(min(cycle))
    return cycle[start:] + cycle[:start]


def _report_cycle(view: View, cycle: list[int]) -> None:
    names = [f"`{view.node(id).name}`" for id in cycle]
    shown = " -> ".join([*names[:_SHOWN_MAX], "...", names[0]] if len(names) > _SHOWN_MAX else [*names, names[0]])
    jump = next((id for id in cycle if view.node(id).op == "JUMP"), None)
    ends = {view.node(id).op for id in cycle}
    node = cycle[0] if jump is None else jump
    if jump is not None:
        code, message, expected = "graph.jump", f"JUMP leads back: {shown}", "a node that comes later; use LOOP for what repeats"
    elif {"LOOP_START", "LOOP_END"} <= ends:
        code, message = "graph.cycle", f"a cycle: {shown}"
        expected = "no edge from LOOP_END back to LOOP_START: the pair repeats by itself"
    else:
        code, message, expected = "graph.cycle", f"a cycle: {shown}", "a graph without cycles; use LOOP for what repeats"
    view.problem(code, message, view.at_node(view.node(node)), node=node, expected=expected)


# exits


def _check_exits(view: View) -> None:
    listed = view.graph.metadata.get("exits")
    if listed is None:
        returns = [node for node in view.graph.nodes if node.op == "RETURN"]
        if not returns:
            _check_exit_names(view, sinks(view))
        return
    if not isinstance(listed, list):
        view.problem("graph.exit", "`exits` is no list", "metadata.exits", expected="a list of node names")
        return
    names = {node.name: node for node in reversed(view.graph.nodes)}
    found = []
    for i, name in enumerate(listed):
        node = names.get(name) if isinstance(name, str) else None
        if node is None and isinstance(name, int) and name in view.place:
            node = view.node(name)
        if node is None:
            at = f"metadata.exits[{i}]"
            view.problem("graph.exit", f"`{name}` is no node", at, expected="a node name", nearest=nearest(name, names))
        else:
            found.append(node)
    _check_exit_names(view, found)


def sinks(view: View) -> list[Node]:
    """Nodes without an out-edge, those of templates included; an AGENT is one only when there is nothing else."""
    feeding = {source for before in view.implied.values() for source in before}
    found = [node for node in view.graph.nodes if node.id not in view.outs and node.id not in feeding]
    return [node for node in found if node.op != "AGENT"] or found


def _check_exit_names(view: View, exits: list[Node]) -> None:
    seen: dict[str, Node] = {}
    for node in exits:
        other = seen.setdefault(node.name, node)
        if other.id != node.id:
            view.problem(
                "graph.exit",
                f"two exits are named `{node.name}`: nodes {other.id} and {node.id}",
                view.at_node(node, ".name"),
                node=node.id,
                expected="a name of its own for every exit: it is the key of its output",
            )


# placement of single nodes


def check_placement(view: View, node: Node) -> None:
    """RETURN and YIELD end something: only Data comes in, nothing goes out. JUMP leads to one node."""
    if node.op in ("RETURN", "YIELD"):
        if node.op == "YIELD" and not view.in_region:
            expected = "RETURN, which gives the value of a flow"
            view.problem("graph.placement", "YIELD outside of a region", view.at_node(node), node=node.id, expected=expected)
        for i, edge in view.ins.get(node.id, ()):
            if edge.dependency is not Dependency.DATA:
                message = f"a {edge.dependency.value} edge into {node.op} `{node.name}`"
                expected = "a Data edge; gate or order the node that feeds it"
                view.problem("graph.placement", message, f"edges[{i}].dependency", node=node.id, expected=expected)
        for i, _ in view.outs.get(node.id, ()):
            message = f"an edge out of {node.op} `{node.name}`"
            expected = "no out-edge: nothing comes after it"
            view.problem("graph.placement", message, f"edges[{i}].from", node=node.id, expected=expected)
    elif node.op == "JUMP":
        _check_jump(view, node)


def _check_jump(view: View, node: Node) -> None:
    label = node.attributes.get("label")
    if label is None:
        return  # reported as missing
    at = view.at_node(node, ".attributes.label")
    names = [other.name for other in view.graph.nodes]
    if label in ("error", PASSED_OVER):
        meant = "that of failures" if label == "error" else "that of what a JUMP passes over"
        view.problem("graph.jump", f"the label `{label}` is {meant}", at, node=node.id, expected="another name for that node")
    elif names.count(str(label)) > 1:
        expected = "a name that only one node has, or its id"
        view.problem("graph.jump", f"several nodes are named `{label}`", at, node=node.id, expected=expected)
    elif not any(edge.label == label for _, edge in view.outs.get(node.id, ())):
        near = nearest(label, names)
        view.problem("graph.jump", f"there is no node `{label}`", at, node=node.id, expected="the name of a node", nearest=near)


def _check_agents(view: View) -> None:
    agents = [node for node in view.graph.nodes if node.op == "AGENT"]
    for node in agents[1:]:
        one = "one AGENT in a flow"
        view.problem("graph.placement", f"a second AGENT, `{node.name}`", view.at_node(node), node=node.id, expected=one)
    for node in agents:
        for i, _ in view.ins.get(node.id, ()):
            message, expected = f"an edge into AGENT `{node.name}`", "no in-edge: it comes before anything else of its flow"
            view.problem("graph.placement", message, f"edges[{i}].to", node=node.id, expected=expected)
    if agents and view.in_region:
        expected = "AGENT in the flow itself"
        view.problem("graph.placement", "AGENT in a region", view.at_node(agents[0]), node=agents[0].id, expected=expected)


# loops written as two nodes


def _check_loops(view: View) -> None:
    starts, ends = _by_loop(view, "LOOP_START"), _by_loop(view, "LOOP_END")
    bodies: dict[str, set[int]] = {}
    for loop in sorted({*starts, *ends}):
        mine, others = starts.get(loop, []), ends.get(loop, [])
        if len(mine) != 1 or len(others) != 1:
            node = (mine or others)[0]
            view.problem(
                "graph.loop_pair",
                f"loop `{loop}` has {len(mine)} LOOP_START and {len(others)} LOOP_END",
                view.at_node(node),
                node=node.id,
                expected="one of each with the same `loop`",
                nearest=nearest(loop, (set(starts) ^ set(ends)) - {loop}),
            )
        else:
            bodies[loop] = _check_body(view, loop, mine[0], others[0])
    _check_nesting(view, bodies, starts)


def _by_loop(view: View, op: str) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in view.graph.nodes:
        if node.op == op:
            found.setdefault(str(node.attributes.get("loop", "loop")), []).append(node)
    return found


def _reached(start: int, after: dict[int, set[int]]) -> set[int]:
    found: set[int] = set()
    stack = [start]
    while stack:
        for next in after.get(stack.pop(), ()):
            if next not in found:
                found.add(next)
                stack.append(next)
    return found


def loop_body(view: View, start: int, end: int) -> set[int]:
    """The nodes on the paths from a LOOP_START to its LOOP_END, without these two."""
    after: dict[int, set[int]] = {}
    before: dict[int, set[int]] = {}
    pairs = [(e.source, e.target) for ins in view.ins.values() for _, e in ins if isinstance(e.source, int)]
    pairs += [(source, id) for id, sources in view.implied.items() for source in sources]
    for source, target in pairs:
        assert isinstance(source, int)
        after.setdefault(source, set()).add(target)
        before.setdefault(target, set()).add(source)
    return _reached(start, after) & _reached(end, before) - {start, end}


def _check_body(view: View, loop: str, start: Node, end: Node) -> set[int]:
    body = loop_body(view, start.id, end.id)
    direct = any(edge.source == start.id for edge in view.data(end.id))
    if not body and not direct:
        message = f"no path leads from LOOP_START `{start.name}` to LOOP_END `{end.name}`"
        expected = "the body of the loop between them"
        view.problem("graph.loop_pair", message, view.at_node(start), node=start.id, expected=expected)
        return body
    inside = {start.id, end.id, *body}
    for id in (start.id, *sorted(body)):
        for i, edge in view.outs.get(id, ()):
            if edge.target not in inside:
                view.problem(
                    "graph.loop_pair",
                    f"an edge leaves the body of loop `{loop}`: `{view.node(id).name}` -> `{view.node(edge.target).name}`",
                    f"edges[{i}]",
                    node=id,
                    expected=f"a way out only through LOOP_END `{end.name}`",
                )
    return inside


def _check_nesting(view: View, bodies: dict[str, set[int]], starts: dict[str, list[Node]]) -> None:
    loops = sorted(bodies)
    for k, one in enumerate(loops):
        for other in loops[k + 1 :]:
            a, b = bodies[one], bodies[other]
            if a & b and not a <= b and not b <= a:
                node = starts[one][0]
                message = f"loops `{one}` and `{other}` overlap"
                expected = "one within the other, or apart"
                view.problem("graph.loop_pair", message, view.at_node(node), node=node.id, expected=expected)
