"""Rules about one node's attributes: known, of their type, in their range, with placeholders that something fills."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from apxm.errors import ValueRefused
from apxm.graph import condition
from apxm.graph.ops import OPERATIONS, Attribute, Operation, attribute_of, spellings
from apxm.graph.region import is_position
from apxm.graph.rules.view import View, nearest
from apxm.values import check

if TYPE_CHECKING:
    from apxm.graph.model import Node
    from apxm.graph.template import Template

_INT_MAX = 2**63 - 1
_EXPECTED = {
    "text": "a text",
    "str": "a text",
    "name": "a text that is not blank",
    "names": "a list of texts that are not blank",
    "int": "an int of 64 bits",
    "float": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "map": "a map",
    "condition": "a condition, as a text",
}
_ARGUMENTS: dict[str, tuple[tuple[type, ...], str]] = {
    "params_json": ((dict,), "a map, or its JSON text"),
    "args": ((dict, list), "a map or a list, or its JSON text"),
}


def check_attributes(view: View, node: Node, row: Operation) -> None:
    """Every attribute is known and fits; what must be there is there."""
    for name, value in node.attributes.items():
        attribute = attribute_of(row, name) if isinstance(name, str) else None
        if attribute is None:
            _report_unknown(view, node, row, name)
        elif attribute.type != "node" and not _is_plain_text(attribute, value):
            # A reference to a node that is still here is one that canonicalising could not follow; it has said so.
            _check_value(view, node, attribute, name, value, view.at_node(node, f".attributes.{name}"))
    _check_needs(view, node, row)
    if node.id in view.texts:
        _check_texts(view, node)


def _is_plain_text(attribute: Attribute, value: Any) -> bool:
    """Whether a value is what nearly every attribute is: a text where one belongs."""
    if type(value) is not str or attribute.type not in ("text", "str", "name") or attribute.choices:
        return False
    return len(value) < 100_000 and not value.isspace() and value != ""


def _report_unknown(view: View, node: Node, row: Operation, name: object) -> None:
    known = spellings(row)
    few = f"one of {', '.join(known)}"
    view.problem(
        "graph.unknown_attribute",
        f"{row.name} has no attribute `{name}`",
        view.at_node(node, f".attributes.{name}"),
        node=node.id,
        expected=few if len(known) <= 16 else f"one of those that `apxm ops show {row.name}` lists",
        nearest=nearest(name, known),
    )


def _check_value(view: View, node: Node, attribute: Attribute, name: str, value: Any, at: str) -> None:
    kind = attribute.type
    if not _fits(kind, value):
        view.problem("graph.attribute_type", f"`{name}` is {_shown(value)}", at, node=node.id, expected=_EXPECTED[kind])
        return
    try:
        check(value)
    except ValueRefused as error:
        view.problem("graph.attribute_type", f"`{name}` holds what no token may carry: {error}", at, node=node.id)
        return
    if attribute.choices and value not in attribute.choices:
        choices = ", ".join(attribute.choices)
        near = nearest(value, attribute.choices)
        view.problem(
            "graph.attribute_value", f"`{name}` is {_shown(value)}", at, node=node.id, expected=f"one of {choices}", nearest=near
        )
    if attribute.least is not None and value < attribute.least:
        least = f"at least {attribute.least:g}"
        view.problem("graph.attribute_value", f"`{name}` is {_shown(value)}", at, node=node.id, expected=least)
    if kind == "condition":
        _check_condition(view, node, name, value, at)
    arguments = _ARGUMENTS.get(attribute.name)
    if arguments is not None and not isinstance(value, arguments[0]) and not _is_placeholder(value):
        view.problem("graph.attribute_type", f"`{name}` is {_shown(value)}", at, node=node.id, expected=arguments[1])


def _fits(kind: str, value: Any) -> bool:
    match kind:
        case "text" | "str" | "condition":
            return isinstance(value, str)
        case "name":
            return isinstance(value, str) and bool(value.strip())
        case "names":
            return isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
        case "int":
            return type(value) is int and -_INT_MAX - 1 <= value <= _INT_MAX
        case "float":
            return type(value) in (int, float) and math.isfinite(value)
        case "bool":
            return type(value) is bool
        case "list":
            return isinstance(value, list)
        case "map":
            return isinstance(value, dict)
        case _:
            return True  # json, filled: any value


def _is_placeholder(value: Any) -> bool:
    from apxm.graph.template import parse

    return isinstance(value, str) and parse(value).sole is not None


def _check_condition(view: View, node: Node, name: str, text: str, at: str) -> None:
    try:
        condition.parse(text)
    except condition.ConditionError as error:
        view.problem("graph.condition", f"`{name}`: {error}", at, node=node.id)


_REQUIRED = {name: [attribute for attribute in row.attributes if attribute.required] for name, row in OPERATIONS.items()}


def _check_needs(view: View, node: Node, row: Operation) -> None:
    for attribute in _REQUIRED[row.name]:
        if attribute.name not in node.attributes:
            view.problem(
                "graph.missing_attribute",
                f"{row.name} needs the attribute `{attribute.name}`",
                view.at_node(node, ".attributes"),
                node=node.id,
                expected=f"`{attribute.name}`: {attribute.doc}",
            )
    for group in row.needs:
        if not any(_has(view, node, item) for item in group):
            view.problem(
                "graph.missing_attribute",
                f"{row.name} has none of what it needs",
                view.at_node(node),
                node=node.id,
                expected=" or ".join(_need(item) for item in group),
            )


def _has(view: View, node: Node, item: str) -> bool:
    if item == "input":
        return bool(view.data(node.id)) or node.id in view.implied
    if item.startswith("<"):
        name = item[1:-1]
        return name in node.regions or any(edge.label == name for _, edge in view.outs.get(node.id, ()))
    return bool(node.attributes.get(item, "") != "")


def _need(item: str) -> str:
    if item == "input":
        return "a Data in-edge"
    return f"a region or edge `{item[1:-1]}`" if item.startswith("<") else f"the attribute `{item}`"


def _check_texts(view: View, node: Node) -> None:
    ports = {port for port in view.ports(node) if port is not None and not is_position(port)}
    names = ports | view.parameters
    for attribute, text in view.texts[node.id].items():
        _check_placeholders(view, node, attribute, text, names)


def _check_placeholders(view: View, node: Node, attribute: str, text: Template, names: set[str]) -> None:
    at = view.at_node(node, f".attributes.{attribute}")
    for name in text.names:
        if name not in names:
            known = ", ".join(f"{{{known}}}" for known in sorted(names)) or "none; there are no named inputs or parameters"
            view.problem(
                "graph.template",
                f"nothing fills {{{name}}}",
                at,
                node=node.id,
                expected=f"a parameter or a Data in-edge with that port ({known})",
                nearest=nearest(name, names),
            )
    count = view.position_count(node)
    for position in text.positions:
        if position >= count:
            inputs = f"{count} positional input{'' if count == 1 else 's'}"
            view.problem(
                "graph.template",
                f"nothing fills {{{position}}}",
                at,
                node=node.id,
                expected=f"less than {count}: it has {inputs}",
            )
    for id in text.node_ids:
        if id not in view.place or id == node.id:
            reason = "is this node itself" if id == node.id else "is no node of this graph"
            ids = nearest(id, view.place)
            view.problem("graph.template", f"{{{{node_{id}}}}} {reason}", at, node=node.id, expected="a predecessor", nearest=ids)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
