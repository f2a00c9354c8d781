"""What is allowed and yet probably a mistake: nodes that never fire, values that nobody sees, settings that do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.merging import contradictions
from apxm.graph.ops import OPERATIONS, Effect
from apxm.graph.rules.calls import flows_called
from apxm.graph.rules.flow import sinks
from apxm.graph.rules.view import nearest

if TYPE_CHECKING:
    from apxm.graph.rules.view import View


def advise(view: View) -> None:
    """Report everything that is probably a mistake; the graph is valid."""
    _names(view)
    _fallbacks(view)
    _contradictions(view)
    _unused(view)
    _strangers(view)


def _names(view: View) -> None:
    seen: dict[str, int] = {}
    for node in view.graph.nodes:
        first = seen.setdefault(node.name, node.id)
        if first != node.id:
            view.problem(
                "graph.duplicate_name",
                f"nodes {first} and {node.id} are both named `{node.name}`",
                view.at_node(node, ".name"),
                node=node.id,
                expected="names that differ: statistics and messages go by name",
            )


def _fallbacks(view: View) -> None:
    for node in view.graph.nodes:
        if "fallback" in node.attributes and any(edge.label == "error" for _, edge in view.outs.get(node.id, ())):
            view.problem(
                "graph.shadowed",
                f"`{node.name}` has a fallback and an `error` edge",
                view.at_node(node, ".attributes.fallback"),
                node=node.id,
                expected="one of them: the fallback wins, the edge is never live",
            )


def _contradictions(view: View) -> None:
    for id, router in contradictions(view.graph.nodes, view.graph.edges):
        node = view.node(id)
        view.problem(
            "graph.never_fires",
            f"`{node.name}` never fires: it waits for sides of `{view.node(router).name}` that exclude each other",
            view.at_node(node),
            node=id,
            expected="a MERGE where the sides meet",
        )


def _unused(view: View) -> None:
    listed = view.graph.metadata.get("exits")
    ends = [node.id for node in view.graph.nodes if node.op in ("RETURN", "YIELD") or node.name in (listed or ())]
    if not ends:
        ends = [node.id for node in sinks(view)]
    needed = set(ends)
    needed.update(n.id for n in view.graph.nodes if OPERATIONS[n.op].effect not in (Effect.PURE, Effect.READ))
    stack = list(needed)
    while stack:
        id = stack.pop()
        before = [edge.source for _, edge in view.ins.get(id, ())] + list(view.implied.get(id, ()))
        for source in before:
            if isinstance(source, int) and source not in needed:
                needed.add(source)
                stack.append(source)
    for node in view.graph.nodes:
        if node.id not in needed:
            view.problem(
                "graph.unused",
                f"nobody sees the value of `{node.name}`",
                view.at_node(node),
                node=node.id,
                expected="a path to an exit; it is left out when the graph is compiled",
            )


def _strangers(view: View) -> None:
    for node in view.graph.nodes:
        if node.op == "FLOW_CALL" and view.program is not None and flows_called(view, node) is None:
            agent = node.attributes["agent_name"]
            view.problem(
                "graph.unknown_flow",
                f"`{node.name}` calls a flow of agent `{agent}`, which is not in this program",
                view.at_node(node, ".attributes.agent_name"),
                node=node.id,
                expected="an agent of the program, or one whose flows are registered before it runs",
                nearest=nearest(agent, view.program.flows),
            )
