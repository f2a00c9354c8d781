"""Flows as a Mermaid flowchart, for pages that draw it: a subgraph for each flow and region. Nothing in a name is markup."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from apxm.graph.model import Dependency
from apxm.graph.render.layout import region_order
from apxm.graph.render.text import clip, inputs_of, port_of, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.graph.critical import FlowKey
    from apxm.graph.model import Edge, Graph, Node
    from apxm.graph.render.drawing import Key
    from apxm.graph.render.marks import Mark
    from apxm.graph.render.overlay import Overlay

EDGES_MAX, TEXT_MAX = 500, 50_000  # what Mermaid draws before its own settings (maxEdges, maxTextSize) allow more
LABEL_CELLS = 48
_ARROWS = {Dependency.DATA: "-->", Dependency.CONTROL: "-.->", Dependency.EFFECT: "-.-o"}
# Everything but letters and signs that mean nothing there: a dot or bracket after a digit would begin a list.
_MARKUP = re.compile(r"(?<=\d)[.)]|:(?! )|[^A-Za-z0-9 _.,:=/?!()\u00a1-\U0010ffff]")
_SIGNS = re.compile(r"(?<=\$)(?=\$)|(?<=fa:)|(?<=fa\w:)")  # formulas and icons, which are looked for after the numbers are read
_STYLES = {
    "done": "stroke:#00795a,stroke-width:2px",
    "failed": "stroke:#c23b00,stroke-width:4px",
    "cancelled": "stroke:#a03a76,stroke-width:2px,stroke-dasharray:6 3",
    "skipped": "stroke:#6b7280,stroke-dasharray:2 3",
    "unfinished": "stroke:#8a6d00,stroke-width:3px,stroke-dasharray:8 3",
}


def mermaid(flows: Mapping[FlowKey, Graph], entry: FlowKey | None = None, run: Overlay | None = None) -> str:
    """The text of a flowchart. With a run, each node says what happened there and its border shows the outcome."""
    writing = _Writing()
    lines = ["flowchart TD"]
    for key in sorted(flows, key=lambda key: (key != entry, key)):
        title = f"{key[0]}.{key[1]}"
        marks = run.marks[key] if run else None
        lines += [f'  subgraph {writing.new()}["{escaped(title)}"]', *writing.graph(flows[key], "    ", (), marks), "  end"]
    for outcome, style in _STYLES.items():
        if names := writing.outcomes.get(outcome):
            lines += [f"  classDef {outcome} {style}", f"  class {','.join(names)} {outcome}"]
    if names := writing.exits:
        lines += ["  classDef leaves font-weight:bold", f"  class {','.join(names)} leaves"]
    return "\n".join(lines)


def limits(flows: Mapping[FlowKey, Graph], text: str) -> list[str]:
    """What to say about a flowchart that Mermaid does not draw without being told to."""
    edges = sum(map(_count_edges, flows.values()))
    if edges <= EDGES_MAX and len(text) <= TEXT_MAX:
        return []
    wanted = f"maxEdges {edges:,} and maxTextSize {len(text):,}"
    return [f"Mermaid draws {EDGES_MAX} edges and {TEXT_MAX:,} characters unless it is told otherwise; this needs {wanted}"]


def _count_edges(graph: Graph) -> int:
    return len(graph.edges) + sum(_count_edges(region) for node in graph.nodes for region in node.regions.values())


def escaped(text: str, width: int = LABEL_CELLS) -> str:
    """`text` as a quoted label: every character that Mermaid, Markdown or HTML could read as markup is its number."""
    return _MARKUP.sub(lambda found: f"#{ord(found[0])};", _SIGNS.sub("\u2060", clip(text, width)))


@dataclass(slots=True)
class _Writing:
    """Names nodes n0, n1, …, since authored names may be anything; remembers which have a class."""

    numbers: count[int] = field(default_factory=count)
    exits: list[str] = field(default_factory=list)
    outcomes: dict[str, list[str]] = field(default_factory=dict)

    def new(self) -> str:
        return f"n{next(self.numbers)}"

    def graph(self, graph: Graph, indent: str, at: Key, marks: Mapping[Key, Mark] | None) -> Iterator[str]:
        """The lines of a flow or region."""
        names: dict[int | str, str] = {}
        nodes = {node.id: node for node in graph.nodes}
        for parameter in graph.parameters:
            names[parameter.name] = self.new()
            yield f'{indent}{names[parameter.name]}(["{escaped(f"{parameter.name}: {parameter.type_name}")}"])'
        exits, inputs = set(graph.metadata.get("exits", ())), inputs_of(graph)
        for node in graph.nodes:
            name = names[node.id] = self.new()
            mark = marks.get((*at, node.id)) if marks is not None else None
            if mark is not None and mark.outcome:
                self.outcomes.setdefault(mark.outcome, []).append(name)
            if node.name in exits or node.id in exits:
                self.exits.append(name)
            yield from self._node(node, name, said(node, inputs.get(node.id)), indent, at, marks)
        for edge in graph.edges:
            if edge.source in names and edge.target in names:
                yield f"{indent}{names[edge.source]} {_arrow(edge, nodes.get(edge.target))} {names[edge.target]}"

    def _node(self, node: Node, name: str, text: str, indent: str, at: Key, marks: Mapping[Key, Mark] | None) -> Iterator[str]:
        mark = marks.get((*at, node.id)) if marks is not None else None
        parts = [node.name, f"{node.op} · {text}" if text else node.op, *([mark.note] if mark is not None else [])]
        label = "<br>".join(map(escaped, parts))
        if not node.regions:
            yield f'{indent}{name}["{label}"]'
            return
        yield f'{indent}subgraph {name}["{label}"]'
        for region_name in region_order(node):
            region = node.regions[region_name]
            yield f'{indent}  subgraph {self.new()}["{escaped(region_name)}"]'
            yield from self.graph(region, indent + "    ", (*at, node.id, region_name), marks)
            yield f"{indent}  end"
        yield f"{indent}end"


def _arrow(edge: Edge, target: Node | None) -> str:
    parts = [edge.label or "", f"as {port}" if (port := port_of(edge, target)) else ""]
    label = " ".join(escaped(text) for text in parts if text)
    return f'{_ARROWS[edge.dependency]}|"{label}"|' if label else _ARROWS[edge.dependency]
