"""Rules about one node's edges: how many come in, through which ports, and which labels may go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.canonical import PASSED_OVER
from apxm.graph.model import Dependency
from apxm.graph.region import is_position, needs_own, own_input
from apxm.graph.rules.view import View, nearest

if TYPE_CHECKING:
    from apxm.graph.model import Edge, Node
    from apxm.graph.ops import Operation


def check_edges(view: View) -> None:
    """Every edge joins what exists, and no edge joins a node with itself."""
    for i, edge in enumerate(view.graph.edges):
        at = f"edges[{i}]"
        if isinstance(edge.source, int) and edge.source not in view.place:
            _unknown(view, edge.source, f"{at}.from")
        elif isinstance(edge.source, str) and edge.source not in view.parameters:
            names = [node.name for node in view.graph.nodes]
            is_node = edge.source in names
            view.problem(
                "graph.unknown_parameter",
                f"`{edge.source}` is no parameter of this graph",
                f"{at}.from",
                expected="the id of that node: a name in `from` means a parameter"
                if is_node
                else "a node id or a parameter name",
                nearest=nearest(edge.source, view.parameters),
            )
        if edge.target not in view.place:
            _unknown(view, edge.target, f"{at}.to")
        if edge.source == edge.target:
            view.problem(
                "graph.cycle", f"node {edge.target} feeds itself", at, node=edge.target, expected="a LOOP for what repeats"
            )
        _check_edge(view, i, edge)


def _unknown(view: View, id: int, at: str) -> None:
    known = ", ".join(str(known) for known in list(view.place)[:20])
    view.problem("graph.unknown_node", f"there is no node {id}", at, expected=f"one of {known}", nearest=nearest(id, view.place))


def _check_edge(view: View, i: int, edge: Edge) -> None:
    if edge.port is not None and edge.dependency is not Dependency.DATA:
        view.problem("graph.port", f"a {edge.dependency.value} edge has no port", f"edges[{i}].port", expected="a Data edge")
    if edge.port is not None and not edge.port.strip():
        view.problem("graph.port", "a blank port", f"edges[{i}].port", expected="a name, a position, or no port at all")
    if edge.label is not None and isinstance(edge.source, str):
        view.problem("graph.label", "an edge from a parameter has no label", f"edges[{i}].label", expected="a node as its source")


def check_inputs(view: View, node: Node, row: Operation) -> None:
    """As many inputs as the operation takes, each port fed once, and only ports it has."""
    ports = view.ports(node)
    if len(ports) < row.inputs_min:
        _arity(view, node, f"{row.name} has {len(ports)} Data inputs", f"at least {row.inputs_min}")
    if row.inputs_max is not None and len(ports) > row.inputs_max:
        given = ", which it is given as a root of a graph with parameters" if view.is_root(node.id) else ""
        most = f"at most {row.inputs_max}" if row.inputs_max else "none; a Control edge says when it may come"
        _arity(view, node, f"{row.name} has {len(ports)} Data inputs{given}", most)
    own = needs_own(row.name)
    if own is not None and ports and own_input(row.name, ports) is None:
        expected = f"a Data edge with port `{own}`, or one without a port"
        view.problem(
            "graph.port", f"{row.name} `{node.name}` has only named inputs", view.at_node(node), node=node.id, expected=expected
        )
    if ports.count(None) == len(ports):
        return
    seen: set[str] = set()
    for i, edge in view.ins.get(node.id, ()):
        if edge.port is None or edge.dependency is not Dependency.DATA:
            continue
        if edge.port in seen:
            one = "one edge for each port; a MERGE joins what comes on different ways"
            view.problem(
                "graph.port", f"port `{edge.port}` of `{node.name}` is fed twice", f"edges[{i}].port", node=node.id, expected=one
            )
        seen.add(edge.port)
        _check_port(view, node, row, i, edge.port)


def _check_port(view: View, node: Node, row: Operation, i: int, port: str) -> None:
    if "*" in row.ports or is_position(port) or port in row.ports:
        return
    view.problem(
        "graph.port",
        f"{row.name} has no port `{port}`",
        f"edges[{i}].port",
        node=node.id,
        expected=", ".join(row.ports) or "no port",
        nearest=nearest(port, row.ports),
    )


def _arity(view: View, node: Node, message: str, expected: str) -> None:
    view.problem("graph.arity", message, view.at_node(node), node=node.id, expected=expected)


def check_labels(view: View, node: Node, row: Operation) -> None:
    """Every label on an out-edge is one that the node can choose."""
    outs = view.outs.get(node.id)
    labelled = [(i, edge.label) for i, edge in outs if edge.label is not None] if outs else []
    if not labelled:
        return
    choices = label_choices(node, row)
    for i, label in labelled:
        if label != "error" and choices is not None and label not in choices:
            known = sorted({*choices, "error"})
            view.problem(
                "graph.label",
                f"{row.name} `{node.name}` cannot choose `{label}`",
                f"edges[{i}].label",
                node=node.id,
                expected=", ".join(known),
                nearest=nearest(label, known),
            )


def label_choices(node: Node, row: Operation) -> set[str] | None:
    """The labels a node can choose besides `error`; None when any label is a choice."""
    if row.name == "SWITCH":
        cases = node.attributes.get("case_labels")
        return {*cases, "default"} if isinstance(cases, list) else None
    if row.name == "JUMP":
        return {str(node.attributes.get("label")), PASSED_OVER}
    if row.name == "TRY_CATCH" and node.regions:
        return set()
    return set(row.labels)
