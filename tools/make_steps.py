"""Write apxm/graph/steps/, the typed methods of the graph builder, from the operation table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from apxm.graph.ops import COMMON_ATTRIBUTES, Attribute, Operation
from apxm.graph.rows import agents, control, errors, llm, sync, tools

PLACE = Path(__file__).resolve().parent.parent / "apxm" / "graph" / "steps"

FAMILIES = {"sync": sync, "control": control, "errors": errors, "tools": tools, "agents": agents, "llm": llm}
METHODS = {"RETURN": "return_", "YIELD": "yield_", "TRY_CATCH": "try_"}
REFS = {"MAP": "MapRef", "LOOP": "LoopRef", "SWITCH": "SwitchRef", "TRY_CATCH": "TryRef"}
KEYWORDS = ("while", "class")

# The attribute that the method takes first, without a keyword.
LEADS = {
    "ASK": "template_str",
    "CLAIM": "queue",
    "COMMUNICATE": "recipient",
    "CONST_STR": "value",
    "ERR": "message",
    "EXC": "code",
    "FLOW_CALL": "flow_name",
    "INV": "capability",
    "PAUSE": "message",
    "PLAN": "goal",
    "PRINT": "message",
    "REASON": "template_str",
    "REFLECT": "template_str",
    "RESUME": "checkpoint",
    "THINK": "template_str",
    "UMEM": "key",
    "UPDATE_GOAL": "goal_id",
    "VERIFY": "claim",
}

TYPES = {
    "text": "str | Ref",
    "filled": "Any",
    "str": "str",
    "name": "str",
    "names": "Sequence[str]",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "json": "Any",
    "list": "Sequence[Any]",
    "map": "Mapping[str, Any]",
    "condition": "str",
}

HEAD = '''"""Typed methods for the operations of one family. Written by tools/make_steps.py; do not edit."""

from __future__ import annotations

{typing}
from apxm.graph.steps.base import {base}

if TYPE_CHECKING:
    {abc}from apxm.graph.builder import {builder}


class {name}(Adding):
    """Methods for {operations}."""

    __slots__ = ()

'''


def parameter(attribute: Attribute) -> str:
    """An attribute as a parameter of a method."""
    name = f"{attribute.name}_" if attribute.name in KEYWORDS else attribute.name
    kind = TYPES[attribute.type]
    if attribute.choices:
        kind = f"Literal[{', '.join(repr(choice) for choice in attribute.choices)}]"
    if kind == "Any":
        return f"{name}: Any = UNSET"
    return f"{name}: {kind}" if attribute.required else f"{name}: {kind} | None = None"


def lead_parameter(attribute: Attribute) -> str:
    """The attribute that comes first, without a keyword."""
    return parameter(attribute).replace(": Any = UNSET", ": Any") if attribute.required else parameter(attribute)


def summary(doc: str) -> str:
    """What the docstring of the method says: the first thought of the row."""
    end = min((at for mark in (". ", ": ", "; ", ", and ") if (at := doc.find(mark)) > 0), default=len(doc))
    thought = doc[:end] if end <= 110 else doc[: doc.find(", ")]
    return thought.rstrip(".") + "."


def method(row: Operation) -> str:
    """The source of one method."""
    own = [a for a in row.attributes if a.type != "node" and not a.name.endswith("*")]
    common = [a for a in COMMON_ATTRIBUTES if a.name not in {attribute.name for attribute in own}]
    lead = next((a for a in own if a.name == LEADS.get(row.name)), None)
    rest = [a for a in own if a is not lead]
    rest.sort(key=lambda attribute: not attribute.required)
    signature = ["self", *([lead_parameter(lead)] if lead else []), "*inputs: Input"]
    signature += [parameter(a) for a in rest]
    signature += ["name: str | None = None", "after: After = ()", "order_after: After = ()", "on: tuple[Ref, str] | None = None"]
    signature += [parameter(a) for a in common]
    signature += ["**ports: Any" if row.name in ("INV", "FLOW_CALL") else "**ports: Input"]
    given = [f"{parameter(a).split(':')[0]}={parameter(a).split(':')[0]}" for a in ([lead] if lead else []) + rest + common]
    given += ["name=name", "after=after", "order_after=order_after", "on=on"]
    ref = REFS.get(row.name, "Ref")
    call = f"self.add({row.name!r}, *inputs, {', '.join(given)}, **ports)"
    value = call if ref == "Ref" else f"cast({ref!r}, {call})"
    name = METHODS.get(row.name, row.name.lower())
    head = f"    def {name}({', '.join(signature)}) -> {ref}:\n"
    return head + f'        """{summary(row.doc)}"""\n        return {value}\n'


def module(family: str, rows: tuple[Operation, ...]) -> str:
    """The source of one family."""
    body = "\n".join(method(row) for row in rows)
    typing = ["TYPE_CHECKING", *(name for name in ("Any", "Literal", "cast") if re.search(rf"\b{name}\b", body))]
    builder = ["After", "Input", "Ref", *(ref for ref in REFS.values() if re.search(rf"\b{ref}\b", body))]
    abc = [name for name in ("Mapping", "Sequence") if f"{name}[" in body]
    head = HEAD.format(
        typing=f"from typing import {', '.join(typing)}\n",
        base="UNSET, Adding" if "UNSET" in body else "Adding",
        abc=f"from collections.abc import {', '.join(abc)}\n\n    " if abc else "",
        builder=", ".join(sorted(builder)),
        name=f"{family.capitalize()}Steps",
        operations=", ".join(row.name for row in rows),
    )
    return formatted(head + body, PLACE / f"{family}.py")


def formatted(text: str, path: Path) -> str:
    """Source as `ruff format` writes it."""
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


def sources() -> dict[Path, str]:
    """Every generated file with its text."""
    return {PLACE / f"{family}.py": module(family, rows.ROWS) for family, rows in FAMILIES.items()}


if __name__ == "__main__":
    for path, text in sources().items():
        path.write_text(text)
        print(f"{path.name}: {len(text.splitlines())} lines")
