"""Rules about FLOW_CALL within a program: the flow exists, and every parameter of it gets its argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.graph import template
from apxm.graph.model import Dependency
from apxm.graph.region import is_position
from apxm.graph.rules.view import View, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.model import Graph, Node


def flows_called(view: View, node: Node) -> Mapping[str, Graph] | None:
    """The flows of the agent that a FLOW_CALL names; None when that agent is not in this program."""
    if view.program is None:
        return None
    agent = node.attributes.get("agent_name", view.program.agent)
    return view.program.flows.get(agent) if isinstance(agent, str) else None


def check_call(view: View, node: Node) -> None:
    """The flow that is called exists and takes what it is given. Of agents that are not in the program a run knows more."""
    flows, name = flows_called(view, node), node.attributes.get("flow_name")
    if flows is None or not isinstance(name, str):
        return
    if name in flows:
        _Arguments(view, node, flows[name]).check()
        return
    view.problem(
        "graph.unknown_flow",
        f"FLOW_CALL `{node.name}` calls `{name}`, which is no flow of its agent",
        view.at_node(node, ".attributes.flow_name"),
        node=node.id,
        expected=", ".join(flows),
        nearest=nearest(name, flows),
    )


class _Arguments:
    """What one call gives to the parameters of its flow. What only a run can tell is not reported."""

    def __init__(self, view: View, node: Node, flow: Graph) -> None:
        self.view, self.node, self.flow = view, node, flow.name
        self.parameters = [parameter.name for parameter in flow.parameters]
        self.text = view.texts.get(node.id, {}).get("args")
        names = self.text.names if self.text is not None else ()
        inputs = [(i, edge) for i, edge in view.ins.get(node.id, ()) if edge.dependency is Dependency.DATA]
        self.named = {edge.port: i for i, edge in inputs if edge.port is not None and not is_position(edge.port)}
        self.asked = {*names, *self._asked_by_node()}  # ports that the text of `args` uses
        self.given = {*self.named, *(name for name in names if name in view.parameters)}.intersection(self.parameters)

    def _asked_by_node(self) -> set[str | None]:
        ids = self.text.node_ids if self.text is not None else ()
        return {f"node_{id}" for id in ids} | {edge.port for edge in self.view.data(self.node.id) if edge.source in ids}

    def check(self) -> None:
        args = self.node.attributes.get("args", {})
        whole = isinstance(args, str) and template.parse(args).sole is not None  # what it holds is known when it is there
        if not whole and not isinstance(args, (dict, list)):
            return  # reported for its type
        if not whole:
            self._take(args)
        for port, i in self.named.items():
            if port not in self.parameters and port not in self.asked:
                self._unknown(port, "an edge has the port", f"edges[{i}].port")
        if not whole:
            self._fill()

    def _take(self, args: dict[str, Any] | list[Any]) -> None:
        at = self.view.at_node(self.node, ".attributes.args")
        if isinstance(args, list):
            if len(args) > len(self.parameters):
                self._report(f"{len(args)} arguments in `args`", at, self._takes())
            args = dict(zip(self.parameters, args))
        for name in args:
            if name not in self.parameters:
                self._unknown(name, "its `args` give", f"{at}.{name}")
        self.given.update(args)

    def _fill(self) -> None:
        """Positional inputs go to the parameters that are still free; all must get something."""
        free = [name for name in self.parameters if name not in self.given]
        count = self._positional()
        at = self.view.at_node(self.node)
        if count > len(free) and self.text is None:
            few = f"{count} inputs without a port for {len(free)} free parameters"
            self._report(few, at, f"a port for each, or fewer; {self._takes()}")
        for name in free[count:]:
            self._report(f"nothing gives `{name}`", at, f"it in `args`, or an edge with that port; {self._takes()}")

    def _positional(self) -> int:
        """How many positional inputs are left for parameters: those that the text of `args` uses are not."""
        count = self.view.position_count(self.node)
        if self.text is None:
            return count
        sources = {edge.source for edge in self.view.data(self.node.id) if is_position(edge.port)}
        # An input may be asked for by its position and by its node: count it once.
        return max(count - max(len(self.text.positions), len(sources.intersection(self.text.node_ids))), 0)

    def _takes(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.parameters)
        return f"flow `{self.flow}` takes {names or 'no parameters'}"

    def _unknown(self, name: str, how: str, at: str) -> None:
        self._report(f"{how} `{name}`", at, self._takes(), nearest(name, self.parameters))

    def _report(self, what: str, at: str, expected: str, near: str | None = None) -> None:
        message = f"FLOW_CALL `{self.node.name}`: {what}"
        self.view.problem("graph.argument", message, at, node=self.node.id, expected=expected, nearest=near)
