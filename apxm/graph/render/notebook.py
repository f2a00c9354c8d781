"""A graph as a still picture of bounded size, for the cell of a notebook. No script, nothing outside of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from apxm.graph.canonical import canonical
from apxm.graph.references import connect
from apxm.graph.render.layout import count_nodes, draw
from apxm.graph.render.page import limits
from apxm.graph.render.svg import Pen, quoted, resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.graph.model import Graph, Node

NODES_MAX = 200  # drawn; a notebook keeps every output that it ever showed
BYTES_MAX = 400_000
_FRAME = "max-height:640px;overflow:auto;background:#fff;border:1px solid #d5dae2;border-radius:6px"


def graph_html(graph: Graph) -> str:
    """The picture of a graph, whether it is finished or still being written; of a large one, as much as can be seen."""
    written = _with_references(canonical(graph))
    details, told = limits({("", graph.name): written}, nodes_max=NODES_MAX)
    title = f"{graph.name}: {count_nodes(graph):,} nodes"
    picture = Pen(style=resource("picture.css")).svg(draw(written, details["", graph.name]), title)
    if len(picture.encode()) > BYTES_MAX:
        ops = Counter(_ops(graph)).most_common(12)
        said = ", ".join(f"{op} {count:,}" for op, count in ops)
        return f"<p><b>{quoted(title)}</b>: too large to draw here ({quoted(said)})</p>"
    notes = "".join(f"<p>{quoted(note)}</p>" for note in told)
    return f'<div style="{_FRAME}">{picture}</div>{notes}'


def _with_references(graph: Graph) -> Graph:
    """With the edges that only its texts imply, as compiling adds them."""
    nodes = [
        replace(node, regions={name: _with_references(region) for name, region in node.regions.items()}) if node.regions else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=nodes, edges=connect(graph))


def _ops(graph: Graph) -> Iterator[str]:
    todo: list[Node] = list(graph.nodes)
    while todo:
        node = todo.pop()
        yield node.op
        for region in node.regions.values():
            todo += region.nodes
