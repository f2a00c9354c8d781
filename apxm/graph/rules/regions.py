"""Rules about regions: which a node may and must hold, and what binds their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.contract import DEPTH_MAX
from apxm.graph.region import bind, is_position, reserved
from apxm.graph.rules.view import View, nearest

if TYPE_CHECKING:
    from apxm.graph.model import Graph, Node
    from apxm.graph.ops import Operation

_MUST = {"LOOP": ("body",), "MAP": ("body",)}


def check_regions(view: View, node: Node, row: Operation) -> None:
    """The regions of a node are those its operation knows, and something binds every parameter of theirs."""
    for name in _MUST.get(row.name, ()):
        if name not in node.regions:
            view.problem(
                "graph.region",
                f"{row.name} `{node.name}` has no region `{name}`",
                view.at_node(node),
                node=node.id,
                expected=name,
            )
    if row.name == "SWITCH":
        _check_cases(view, node)
    if not node.regions:
        return
    for name in node.regions:
        if "*" not in row.regions and name not in row.regions:
            view.problem(
                "graph.region",
                f"{row.name} holds no region `{name}`",
                view.at_node(node, f".regions.{name}"),
                node=node.id,
                expected=", ".join(row.regions) or "no regions",
                nearest=nearest(name, row.regions),
            )
    if view.depth >= DEPTH_MAX:
        deep = f"more than {DEPTH_MAX} regions within each other"
        view.problem("graph.depth", deep, view.at_node(node, ".regions"), node=node.id, expected="FLOW_CALL for the inner ones")
    if row.regions:
        _check_bindings(view, node, row)


def _check_cases(view: View, node: Node) -> None:
    cases = node.attributes.get("case_labels")
    labels = {edge.label for _, edge in view.outs.get(node.id, ()) if edge.label is not None and edge.label != "error"}
    if not cases and not node.regions and not labels:
        view.problem(
            "graph.missing_attribute",
            f"SWITCH `{node.name}` has no case",
            view.at_node(node),
            node=node.id,
            expected="`case_labels`, regions, or labelled out-edges",
        )
    for name in node.regions:
        at = view.at_node(node, f".regions.{name}")
        if name in labels:
            one = "a region or labelled edges, not both"
            view.problem("graph.region", f"case `{name}` is both a region and an edge", at, node=node.id, expected=one)
        if isinstance(cases, list) and name not in cases and name != "default":
            known = ", ".join([*map(str, cases), "default"])
            view.problem(
                "graph.region",
                f"`{name}` is no case of this SWITCH",
                at,
                node=node.id,
                expected=known,
                nearest=nearest(name, cases),
            )
    if isinstance(cases, list):
        _check_case_labels(view, node, cases)
    if "error" in node.regions or (isinstance(cases, list) and "error" in cases):
        at = view.at_node(node, ".regions.error" if "error" in node.regions else ".attributes.case_labels")
        message = f"SWITCH `{node.name}` cannot choose `error`: edges of that label are live when the node fails"
        view.problem("graph.label", message, at, node=node.id, expected="another label for this case")


def _check_case_labels(view: View, node: Node, cases: list[str]) -> None:
    at = view.at_node(node, ".attributes.case_labels")
    if len(set(map(str, cases))) != len(cases):
        view.problem("graph.attribute_value", "a case stands twice", at, node=node.id, expected="every label once")
    if node.attributes.get("match") != "regex":
        return
    from apxm.graph.condition import ConditionError, pattern

    for label in cases:
        try:
            pattern(label)
        except ConditionError as error:
            view.problem("graph.condition", error.message, at, node=node.id, expected="an RE2 pattern")


def _check_bindings(view: View, node: Node, row: Operation) -> None:
    """Something binds every parameter, and every named input goes somewhere; an input without a name may go nowhere."""
    ports = view.ports(node)
    unused = {i for i, port in enumerate(ports) if port is not None and not is_position(port) and port != "pass"}
    known: set[str] = set()
    for name, region in node.regions.items():
        parameters = [parameter.name for parameter in region.parameters]
        binding = bind(row.name, name, parameters, ports)
        unused &= set(binding.unused)
        known |= set(parameters) - set(reserved(row.name, name))
        carried = node.attributes.get("carry", []) if row.name == "LOOP" else []
        _check_parameters(view, node, name, region, [p for p in binding.unbound if p not in carried])
    for i in sorted(unused):
        view.problem(
            "graph.region_parameter",
            f"no region of `{node.name}` has a parameter for the port `{ports[i]}`",
            view.at_node(node),
            node=node.id,
            expected=", ".join(sorted(known)) or "a region parameter of that name",
            nearest=nearest(ports[i], known),
        )
    if row.name == "LOOP":
        _check_carry(view, node)


def _check_parameters(view: View, node: Node, name: str, region: Graph, unbound: list[str]) -> None:
    for parameter in unbound:
        index = next(i for i, declared in enumerate(region.parameters) if declared.name == parameter)
        given = ", ".join(reserved(node.op, name))
        view.problem(
            "graph.region_parameter",
            f"nothing binds parameter `{parameter}` of region `{name}` of `{node.name}`",
            view.at_node(node, f".regions.{name}.parameters[{index}]"),
            node=node.id,
            expected=f"a Data in-edge with port `{parameter}`" + (f"; {node.op} itself gives {given}" if given else ""),
            nearest=nearest(parameter, reserved(node.op, name)),
        )


def _check_carry(view: View, node: Node) -> None:
    carry, body = node.attributes.get("carry"), node.regions.get("body")
    if not isinstance(carry, list) or body is None:
        return
    names = [parameter.name for parameter in body.parameters]
    at = view.at_node(node, ".attributes.carry")
    for name in carry:
        if name not in names or name == "iteration":
            expected = "a parameter of the body that is not reserved"
            message = f"`{name}` cannot be carried"
            view.problem("graph.region_parameter", message, at, node=node.id, expected=expected, nearest=nearest(name, names))
    if len(set(map(str, carry))) != len(carry):
        view.problem("graph.attribute_value", "a name is carried twice", at, node=node.id, expected="every name once")
