"""What the script of a page knows about its pictures: places to fold by, words to show about each node. Draws nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.graph.ops import OPERATIONS
from apxm.graph.render.layout import PANEL_PAD, PANEL_TITLE, SUBTITLE_CELL, count_nodes
from apxm.graph.render.marks import OUTCOMES
from apxm.graph.render.svg import BADGES
from apxm.graph.render.text import bounded, category, cells, clean, named, port_of, said, sentence
from apxm.graph.render.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.critical import FlowKey
    from apxm.graph.render.drawing import Box, Drawing, Panel
    from apxm.graph.render.marks import Mark
    from apxm.graph.render.overlay import Overlay, Spot
    from apxm.observability.history import Span

CATEGORIES = {
    "reasoning": "asks a model",
    "tools": "calls a capability",
    "memory": "memory",
    "control_flow": "decides what runs",
    "synchronization": "joins, makes, shows",
    "error_handling": "fails, handles failures",
    "communication": "other agents and flows",
    "metadata": "about the agent",
    "internal": "internal",
    "unknown": "unknown operation",
}


@dataclass(slots=True)
class Facts:
    """Numbers every box, panel and line of the drawings, and collects what is known of each."""

    flows: Mapping[FlowKey, Drawing]
    effects: Mapping[str, str | None]
    run: Overlay | None
    boxes: list[dict[str, Any]] = field(default_factory=list)
    panels: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    drawings: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[Spot, int] = field(default_factory=dict)
    ops: set[str] = field(default_factory=set)

    keys: list[FlowKey] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = list(self.flows)
        self.roots = [self._drawing(drawing, at, -1, ()) for at, drawing in enumerate(self.flows.values())]

    def data(self) -> dict[str, Any]:
        """Everything, as JSON data."""
        known = sorted(op for op in self.ops if op in OPERATIONS)
        used = {category(op) for op in self.ops}
        return {
            "flows": [{"name": clean(f"{agent}.{name}"), "d": root} for (agent, name), root in zip(self.keys, self.roots)],
            "boxes": self.boxes,
            "panels": self.panels,
            "lines": self.lines,
            "drawings": self.drawings,
            "inset": [PANEL_PAD, PANEL_TITLE + PANEL_PAD],
            "ops": {op: {"doc": sentence(OPERATIONS[op]), "category": OPERATIONS[op].category} for op in known},
            "categories": [[name, text] for name, text in CATEGORIES.items() if name in used],
            "kinds": sorted({line["k"] + (" error" if line["label"] == "error" else "") for line in self.lines}),
            "badges": BADGES,
            "outcomes_all": OUTCOMES,
            "run": self._run() if self.run else None,
            "outcomes": self._outcomes(),
        }

    def _drawing(self, drawing: Drawing, flow: int, panel: int, where: tuple[str, ...]) -> int:
        at = len(self.drawings)
        facts: dict[str, Any] = {"flow": flow, "panel": panel, "w": drawing.width, "h": drawing.height}
        self.drawings.append(facts)
        for box in drawing.boxes:
            box.number = len(self.boxes)
            self.boxes.append({})
            self.numbers[self.keys[flow], box.key] = box.number
            self.boxes[box.number] = self._box(box, at, flow, where)
        first = len(self.lines)
        for line in drawing.lines:
            line.number = len(self.lines)
            self.boxes[drawing.boxes[line.source].number]["out"].append(line.number)
            self.boxes[drawing.boxes[line.target].number]["in"].append(line.number)
            self.lines.append(
                {
                    "s": drawing.boxes[line.source].number,
                    "t": drawing.boxes[line.target].number,
                    "k": line.edge.dependency.name.lower(),
                    "port": clean(port_of(line.edge, drawing.boxes[line.target].node)),
                    "label": clean(line.edge.label or ""),
                    "drawn": line.drawn,
                    "back": line.backward,
                    "ox": round(line.out_x, 1),
                    "ix": round(line.in_x, 1),
                    "bottom": round(line.bottom, 1),
                    "bends": [[round(one, 1) for one in bend] for bend in line.bends],
                }
            )
        facts["boxes"] = [box.number for box in drawing.boxes]
        facts["lines"] = list(range(first, len(self.lines)))
        return at

    def _box(self, box: Box, drawing: int, flow: int, where: tuple[str, ...]) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "n": box.number,
            "d": drawing,
            **_place(box),
            "fw": round(box.folded_width, 1),
            "fh": round(box.folded_height, 1),
            "head": round(box.head, 1),
            "name": clean(box.node.name if box.node else box.parameter.name if box.parameter else ""),
            "in": [],
            "out": [],
            "panels": [],
            "said": "",
        }
        if box.parameter:
            return facts | {"type": box.parameter.type_name}
        node = box.node
        assert node is not None
        self.ops.add(node.op)
        facts |= {
            "id": node.id,
            "op": clean(node.op),
            "said": clean(said(node, box.takes))[:200],
            "effect": self._effect(node.op, node.attributes),
            "exit": box.is_exit,
            "where": clean(" / ".join((".".join(self.keys[flow]), *where))),
            "attributes": [[clean(name), named(bounded(value), box.takes)] for name, value in node.attributes.items()],
            "inner": sum(map(count_nodes, node.regions.values())),
            "calls": self._called(node.op, node.attributes, self.keys[flow][0]),
            "mark": self._mark(self.keys[flow], box),
        }
        facts["panels"] = [
            self._panel(panel, box, flow, (*where, f"{clean(node.name)}.{clean(panel.name)}")) for panel in box.panels
        ]
        return facts

    def _panel(self, panel: Panel, box: Box, flow: int, where: tuple[str, ...]) -> int:
        panel.number = at = len(self.panels)
        assert box.node is not None
        region = box.node.regions[panel.name]
        facts: dict[str, Any] = {
            **_place(panel),
            "least": round(cells(panel.title) * SUBTITLE_CELL + 2 * PANEL_PAD, 1),
            "b": box.number,
            "name": clean(panel.name),
            "takes": [clean(parameter.name) for parameter in region.parameters],
            "inner": count_nodes(region),
            "folded": panel.folded,
        }
        self.panels.append(facts)
        facts["d"] = self._drawing(panel.inside, flow, at, where)
        return at

    def _effect(self, op: str, attributes: Mapping[str, Any]) -> str:
        row = OPERATIONS.get(op)
        if row is None:
            return "unknown"
        if row.effect is not None:
            return row.effect.value
        if op == "INV":
            return self.effects.get(attributes.get("capability", "")) or "that of the capability"
        return "that of what it runs"

    def _called(self, op: str, attributes: Mapping[str, Any], agent: str) -> int:
        key = (attributes.get("agent_name", agent), attributes.get("flow_name", ""))
        return self.keys.index(key) if op == "FLOW_CALL" and key in self.flows else -1

    def _mark(self, flow: FlowKey, box: Box) -> dict[str, Any] | None:
        mark = self.run.marks[flow].get(box.key) if self.run else None
        return _mark_map(mark) if mark else None

    # ---- the run -----------------------------------------------------------------------------------------------------
    def _run(self) -> dict[str, Any]:
        assert self.run is not None
        history, atlas = self.run.history, self.run.atlas

        def number(span: Span) -> int:
            spot = atlas.of_span(span)
            return self.numbers.get(spot, -1) if spot is not None else -1

        return {
            "critical": [[number(span), round(span.start_at, 6), round(span.end_at, 6)] for span in self.run.critical],
            "timeline": timeline(history.spans, number, history.duration_ms / 1e3),
        }

    def _outcomes(self) -> list[str]:
        marks = (mark for flow in self.run.marks.values() for mark in flow.values()) if self.run else ()
        seen = {outcome for mark in marks for outcome, count in mark.count.items() if count}
        return [outcome for outcome in OUTCOMES if outcome in seen]


def _place(thing: Box | Panel) -> dict[str, float]:
    return {"x": round(thing.x, 1), "y": round(thing.y, 1), "w": round(thing.width, 1), "h": round(thing.height, 1)}


def _mark_map(mark: Mark) -> dict[str, Any]:
    return {
        "count": {outcome: mark.count[outcome] for outcome in OUTCOMES if mark.count[outcome]},
        "total_ms": round(mark.total_ms, 4),
        "max_ms": round(mark.max_ms, 4),
        "retries": mark.retries,
        "fallbacks": mark.fallbacks,
        "calls": mark.calls,
        "usage": mark.usage,
        "error": bounded(mark.error) if mark.error else None,
        "critical": mark.critical,
    }
