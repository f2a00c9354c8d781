"""Flows as a tree of text: nodes in the order in which they can run, regions beneath their node. For pipes and terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.model import Dependency
from apxm.graph.render.layout import region_order
from apxm.graph.render.overlay import summary
from apxm.graph.render.text import cells, clean, clip, inputs_of, port_of, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.graph.critical import FlowKey
    from apxm.graph.model import Edge, Graph, Node
    from apxm.graph.render.drawing import Key
    from apxm.graph.render.marks import Mark
    from apxm.graph.render.overlay import Overlay

NAME_CELLS, SAID_CELLS = 40, 44


def tree(flows: Mapping[FlowKey, Graph], entry: FlowKey | None = None, run: Overlay | None = None) -> str:
    """One block of lines for each flow. With a run, each line ends with what happened there; `*` is the critical path."""
    blocks = [clean("; ".join(f"{name} {text}" for name, text, _ in summary(run)))] if run else []
    for key in sorted(flows, key=lambda key: (key != entry, key)):
        graph = flows[key]
        takes = ", ".join(f"{parameter.name}: {parameter.type_name}" for parameter in graph.parameters)
        title = clean(f"flow {key[0]}.{key[1]}({takes})") + (" [entry]" if key == entry and len(flows) > 1 else "")
        marks = run.marks[key] if run else None
        blocks.append("\n".join([title, *_lines(graph, "", (), marks)]))
    if run and run.critical:
        blocks.append("* is on the critical path")
    return "\n\n".join(blocks)


def _lines(graph: Graph, indent: str, at: Key, marks: Mapping[Key, Mark] | None) -> Iterator[str]:
    names: dict[int | str, str] = {node.id: node.name for node in graph.nodes}
    ins: dict[int, list[Edge]] = {}
    for edge in graph.edges:
        ins.setdefault(edge.target, []).append(edge)
    exits = set(graph.metadata.get("exits", ()))
    inputs = inputs_of(graph)
    width = max((min(cells(clean(node.name)), NAME_CELLS) for node in graph.nodes), default=0)
    for number, node in enumerate(graph.nodes, 1):
        last = number == len(graph.nodes)
        name = clip(node.name, NAME_CELLS)
        text = clip(f"{node.op} {said(node, inputs.get(node.id))}".rstrip(), SAID_CELLS)
        line = f"{indent}{'└─ ' if last else '├─ '}{name}{' ' * (width - cells(name))}  {text}"
        if node.id in ins:
            line += "  ← " + ", ".join(_input(edge, names, node) for edge in ins[node.id])
        if node.name in exits or node.id in exits:
            line += "  → exit"
        mark = marks.get((*at, node.id)) if marks is not None else None
        if mark is not None:
            told = mark.note if mark.outcome == "skipped" else f"{mark.outcome} {mark.note}"
            line += f"  [{told}]" + (" *" if mark.critical else "")
        yield line.rstrip()
        yield from _regions(node, indent + ("   " if last else "│  "), (*at, node.id), marks)


def _regions(node: Node, indent: str, at: Key, marks: Mapping[Key, Mark] | None) -> Iterator[str]:
    names = region_order(node)
    for name in names:
        region = node.regions[name]
        last = name == names[-1]
        takes = ", ".join(parameter.name for parameter in region.parameters)
        yield clean(f"{indent}{'└─ ' if last else '├─ '}{name}({takes}):")
        yield from _lines(region, indent + ("   " if last else "│  "), (*at, name), marks)


def _input(edge: Edge, names: Mapping[int | str, str], target: Node) -> str:
    """`text=read`, `read [error]`, `(control found [false])`."""
    source = edge.source if isinstance(edge.source, str) else names.get(edge.source, f"node {edge.source}")
    text = clip(source, NAME_CELLS) + (f" [{clip(edge.label, NAME_CELLS)}]" if edge.label is not None else "")
    if port := port_of(edge, target):
        text = f"{clip(port, NAME_CELLS)}={text}"
    return text if edge.dependency is Dependency.DATA else f"({edge.dependency.name.lower()} {text})"
