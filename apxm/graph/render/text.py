"""How texts of a program are shortened, measured and made harmless before they are drawn. Knows no markup."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from apxm.graph.model import Dependency
from apxm.graph.ops import OPERATIONS
from apxm.graph.template import Placeholder, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.model import Edge, Graph, Node
    from apxm.graph.operation import Operation

# Control characters, and those that turn the direction of what follows: a name may not reorder the text around it.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]")
_SENTENCE = re.compile(r".*?[.;](?=\s|$)", re.S)
_SAID = (  # the attribute that says most about a node, first one given wins
    *("capability", "flow_name", "condition", "mode", "match", "key", "query", "queue", "recipient", "label", "loop"),
    *("template_str", "goal", "claim", "message", "recovery_template", "value", "code", "checkpoint", "description", "context"),
)
NAME_CELLS = 40  # of the name of an input within a text
TEXT_MAX = 2_000  # characters of one attribute that a picture carries


def clean(text: str) -> str:
    """`text` on one line, with a visible sign for every invisible character."""
    return _INVISIBLE.sub(lambda match: " " if match[0] in "\t\n\r" else f"\\u{ord(match[0]):04x}", text)


def cells(text: str) -> int:
    """How many columns of a fixed-width font it takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def clip(text: str, width: int) -> str:
    """`text` in at most `width` columns."""
    flat = clean(text)
    if cells(flat) <= width:
        return flat
    kept, used = [], 1
    for character in flat:
        used += cells(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def value_text(value: Any) -> str:
    """A value as a person writes it: text as it stands, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def bounded(value: Any) -> str:
    """`value_text`, cut past TEXT_MAX with a word about what is missing."""
    text = value_text(value)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}… ({len(text):,} characters)"


def inputs_of(graph: Graph) -> dict[int, dict[int, str]]:
    """For every node that takes the results of others their names, by id."""
    names = {node.id: node.name for node in graph.nodes}
    found: dict[int, dict[int, str]] = {}
    for edge in graph.edges:
        if edge.dependency is Dependency.DATA and isinstance(edge.source, int) and edge.source in names:
            found.setdefault(edge.target, {})[edge.source] = names[edge.source]
    return found


def named(text: str, inputs: Mapping[int, str]) -> str:
    """A text of a program with `{name}` for `{{node_7}}`, where that is an input and its name can mean nothing else there."""
    if not inputs or "{{" not in text:
        return text
    found = parse(text)
    taken = [*found.names, *(inputs.get(id, "") for id in found.node_ids)]
    clear = {
        id: clip(name, NAME_CELLS)
        for id, name in inputs.items()
        if taken.count(name) == 1 and name.strip() == name and not set("{}") & set(name) and not name.isdigit()
    }
    parts = (
        f"{{{clear[int(part.key)]}}}"
        if isinstance(part, Placeholder) and part.kind == "node" and part.key in clear
        else str(part)
        for part in found.segments
    )
    return "".join(parts)


def port_of(edge: Edge, target: Node | None) -> str:
    """The port of an edge; none when it only repeats where the edge comes from, as `node_7` does of node 7.

    Into a node with regions it is always there: one of them may have a parameter of that name.
    """
    plain = edge.port == f"node_{edge.source}" and target is not None and not target.regions
    return "" if edge.port is None or plain else edge.port


def said(node: Node, inputs: Mapping[int, str] | None = None) -> str:
    """What tells this node from others of its operation: its capability, condition, prompt, value."""
    return named(_said(node), inputs or {})


def _said(node: Node) -> str:
    given = node.attributes
    if node.op == "LOOP":
        parts = [f"at most {given['max_iterations']}"] if "max_iterations" in given else []
        parts += [f"{name} {given[name]}" for name in ("while", "until") if name in given]
        return ", ".join(parts)
    if node.op == "FLOW_CALL" and "agent_name" in given:
        return f"{given['agent_name']}.{given.get('flow_name', '')}"
    if node.op == "BRANCH_ON_VALUE" and "condition" not in given:
        return f"= {value_text(given.get('value', True))}"
    return next((value_text(given[name]) for name in _SAID if name in given), "")


def sentence(row: Operation) -> str:
    """The first sentence of what an operation does."""
    found = _SENTENCE.match(row.doc)
    return (found[0] if found else row.doc).rstrip(";.") + "."


def category(op: str) -> str:
    """The kind of work: llm, tools, memory, control_flow, …; `unknown` for what is no operation."""
    row = OPERATIONS.get(op)
    return row.category if row else "unknown"


def duration(ms: float) -> str:
    """A duration with two or three meaningful digits: `0.2 ms`, `35 ms`, `1.25 s`, `2 m 05 s`."""
    if ms < 1_000:
        return f"{ms:.0f} ms" if ms >= 10 or not ms else f"{ms:.2g} ms"
    if ms < 60_000:
        return f"{ms / 1e3:.2f} s" if ms < 10_000 else f"{ms / 1e3:.1f} s"
    minutes, seconds = divmod(round(ms / 1e3), 60)
    return f"{minutes} m {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"
