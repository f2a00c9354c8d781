"""`apxm ops`: the operation table, to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.graph.operation import Attribute, Operation


def list_operations(order: Namespace) -> int:
    """Print the table, or one category of it; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json, spelling
    from apxm.errors import InvalidError
    from apxm.graph.ops import OPERATIONS

    categories = {row.category for row in OPERATIONS.values()}
    if order.category is not None and order.category not in categories:
        raise InvalidError(f"there is no category `{order.category}`", hint=spelling(order.category, categories))
    rows = [row for row in OPERATIONS.values() if order.category in (None, row.category)]
    report.emit(as_json([operation_map(row) for row in rows]) if order.json else "\n".join(map(operation_line, rows)))
    return Exit.OK


def show_operation(order: Namespace) -> int:
    """Print one row; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json, spelling
    from apxm.errors import InvalidError
    from apxm.graph.ops import OPERATIONS

    row = OPERATIONS.get(order.name.upper())
    if row is None:
        raise InvalidError(f"there is no operation `{order.name}`", hint=spelling(order.name.upper(), OPERATIONS))
    report.emit(as_json(operation_map(row)) if order.json else operation_text(row))
    return Exit.OK


def operation_map(row: Operation) -> dict[str, Any]:
    """A row of the table as data."""
    return {
        "name": row.name,
        "code": row.code,
        "category": row.category,
        "doc": row.doc,
        "effect": effect_of(row),
        "latency": row.latency.name.lower(),
        "rule": row.rule.name,
        "inputs_min": row.inputs_min,
        "inputs_max": row.inputs_max,
        "ports": list(row.ports),
        "labels": [*row.labels, "error"],
        "regions": list(row.regions),
        "needs": [list(group) for group in row.needs],
        "python": in_python(row),
        "attributes": [attribute_map(attribute) for attribute in row.attributes],
    }


def attribute_map(attribute: Attribute) -> dict[str, Any]:
    """An attribute of a row as data."""
    return {
        "name": attribute.name,
        "type": attribute.type,
        "doc": attribute.doc,
        "required": attribute.required,
        "default": attribute.default,
        "choices": list(attribute.choices),
        "aliases": list(attribute.aliases),
        "least": attribute.least,
    }


def effect_of(row: Operation) -> str:
    """The effect class, or where it comes from."""
    return row.effect.value if row.effect else "of its body or callee"


def operation_line(row: Operation) -> str:
    """Name, category, effect and the first sentence."""
    return f"{row.name:<16} {row.category:<16} {effect_of(row):<22} {first_sentence(row.doc)}"


def first_sentence(doc: str) -> str:
    """Up to the first full stop or colon that ends a thought."""
    end = min((at for mark in (". ", ": ", "; ") if (at := doc.find(mark)) > 0), default=len(doc))
    return doc[:end].rstrip(".")


def operation_text(row: Operation) -> str:
    """A row for a person: a paragraph, then one line per fact and attribute."""
    import textwrap

    lines = [f"{row.name}  ({row.category}, code {row.code})", "", *textwrap.wrap(row.doc, 100), ""]
    lines += [f"  {name:<10} {text}" for name, text in facts(row)]
    if row.attributes:
        lines += ["", "attributes"]
        for attribute in row.attributes:
            about = f"{attribute.doc} ({', '.join(attribute_notes(attribute))})"
            lines += textwrap.wrap(about, 100, initial_indent=f"  {attribute.name:<18} ", subsequent_indent=" " * 21)
    return "\n".join(lines)


# What follows the call of an operation that holds regions or chooses labels.
_USES = {
    "BRANCH_ON_VALUE": 'then on=(x, "true") or x.on("false")',
    "SWITCH": 'with x.case("a") as value: ... with x.default() as value: ..., or x.on("a")',
    "LOOP": 'with x as body: body.param("name"), x.iteration ...',
    "MAP": "with x as item: ... x.index ... with x.reduce as results: ...",
    "TRY_CATCH": "with x.try_: ... with x.catch as error: ... with x.finally_: ...",
    "YIELD": "inside of the with block of a region",
}


def in_python(row: Operation) -> str:
    """How a flow in Python writes the operation: the call with what it must have, and how its regions are opened."""
    import inspect

    from apxm.graph.steps import Steps

    name = row.name.lower()
    method = next(known for known in (name, f"{name}_", f"{name.partition('_')[0]}_") if hasattr(Steps, known))
    words = []
    for parameter in list(inspect.signature(getattr(Steps, method)).parameters.values())[1:]:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            words.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            words += ["value"] if row.inputs_max == 1 else ["*inputs"] if row.inputs_max != 0 else []
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            words.append(f"{parameter.name}=...")
    spelling = f"x = step.{method}({', '.join([*words, '...'])})"
    return f"{spelling}; {_USES[row.name]}" if row.name in _USES else spelling


def facts(row: Operation) -> list[tuple[str, str]]:
    """What the row says beyond its text, as (name, text)."""
    found = [("effect", effect_of(row)), ("latency", f"{row.latency.name.lower()} (≈ {row.latency.value} ms)")]
    found += [("fires", row.rule.name), ("inputs", inputs_of(row))]
    if row.ports not in ((), ("*",)):
        found.append(("ports", ", ".join(row.ports)))
    found.append(("labels", ", ".join(["any" if label == "*" else label for label in row.labels] + ["error"])))
    if row.regions:
        found.append(("regions", ", ".join("one per case" if region == "*" else region for region in row.regions)))
    found += [("needs", "one of " + ", ".join(group)) for group in row.needs]
    found.append(("in Python", in_python(row)))
    return found


def inputs_of(row: Operation) -> str:
    """How many Data in-edges it takes, in words."""
    match row.inputs_min, row.inputs_max:
        case _, 0:
            return "none"
        case 0, None:
            return "any number"
        case least, None:
            return f"{least} or more"
        case least, most:
            return str(least) if least == most else f"{least} to {most}"


def attribute_notes(attribute: Attribute) -> list[str]:
    """Type, choices, default, spellings: what stands in brackets behind an attribute."""
    notes = [attribute.type, "required"] if attribute.required else [attribute.type]
    if attribute.choices:
        notes.append(" | ".join(attribute.choices))
    if attribute.default is not None:
        import json

        notes.append(f"default {json.dumps(attribute.default)}")
    if attribute.least is not None:
        notes.append(f"at least {attribute.least:g}")
    if attribute.aliases:
        notes.append("also " + ", ".join(attribute.aliases))
    return notes


COMMANDS = {
    "ops list": Command(
        "ops list",
        "List every operation, one line each.",
        "Those that this version validates but cannot run yet are marked.",
        (Option("--category", "only those of one category", "NAME"), JSON),
        list_operations,
    ),
    "ops show": Command(
        "ops show",
        "Show one operation.",
        "What it does, its attributes, inputs, edges and regions.",
        (Option("name", "such as ASK; any case", "NAME"), JSON),
        show_operation,
    ),
}
