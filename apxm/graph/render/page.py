"""One HTML page with everything in it: pictures of the flows, what is known of each node, a run if there is one.

It asks for nothing: no other file, no network. A policy in the page says so too, and lets only its own script and style in.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from apxm.graph.render.facts import Facts
from apxm.graph.render.layout import Detail, draw
from apxm.graph.render.overlay import summary
from apxm.graph.render.svg import Pen, quoted, resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.critical import FlowKey
    from apxm.graph.model import Graph
    from apxm.graph.render.overlay import Overlay

SCRIPTS = ("fold.js", "view.js", "details.js", "times.js", "page.js")
STYLES = ("picture.css", "page.css")
NODES_MAX = 5_000  # drawn in all flows together; a browser moves that many about without effort
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(
    flows: Mapping[FlowKey, Graph],
    *,
    title: str,
    entry: FlowKey | None = None,
    effects: Mapping[str, str | None] | None = None,
    run: Overlay | None = None,
) -> tuple[str, list[str]]:
    """The page, and what a reader must be told about it (which is on the page too), such as what is folded.

    `effects` are the effect classes of capabilities, as far as they are known. `entry` is shown first. `run` must be laid
    over these flows; it may know others.
    """
    ordered = {key: flows[key] for key in sorted(flows, key=lambda key: (key != entry, key))}
    details, folded = limits(ordered, run)
    told = [*folded, *(_run_notes(run) if run else ())]
    drawings = {key: draw(graph, details[key]) for key, graph in ordered.items()}
    facts = Facts(drawings, effects or {}, run)
    pictures = [
        Pen(
            marks=run.marks[key] if run else None,
            interactive=True,
            critical=run.pairs_of(key) if run else frozenset(),
        ).svg(drawing, f"Flow {key[0]}.{key[1]}")
        for key, drawing in drawings.items()
    ]
    data = facts.data() | {"notes": told}
    if run:
        data["run"]["facts"] = summary(run)
    return _fill(title, "".join(pictures), data), told


def _fill(title: str, pictures: str, data: dict[str, Any]) -> str:
    style = "\n".join(resource(name) for name in STYLES)
    script = "\n".join(
        ['"use strict";', 'const DATA = JSON.parse(document.getElementById("data").textContent);', *map(resource, SCRIPTS)]
    )
    parts = {
        "title": quoted(title),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "pictures": pictures,
        "data": as_script_data(data),
    }
    return _PLACE.sub(lambda found: parts[found[1]], resource("page.html"))


def _hash(text: str) -> str:
    """What a content security policy allows an element with exactly this text by."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def as_script_data(data: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# ---- what is left out ------------------------------------------------------------------------------------------------
def limits(
    flows: Mapping[FlowKey, Graph], run: Overlay | None = None, *, nodes_max: int = NODES_MAX
) -> tuple[dict[FlowKey, Detail], list[str]]:
    """How much of each flow is drawn so that all stay under `nodes_max`, and what to say about the rest."""
    levels: list[int] = []
    for graph in flows.values():
        _count_levels(graph, levels, 0)
    total, depth, drawn = sum(levels), 0, levels[0] if levels else 0
    while depth + 1 < len(levels) and drawn + levels[depth + 1] <= nodes_max:
        depth += 1
        drawn += levels[depth]
    told = []
    if drawn < total and depth + 1 < len(levels):
        told.append(
            f"Folded: {total - drawn:,} of {total:,} nodes, more than {depth} regions deep. No more than {nodes_max:,} are drawn."
        )
    left, details = nodes_max, {}
    for key, graph in flows.items():
        shown = len(graph.nodes) if drawn <= nodes_max else min(len(graph.nodes), left)
        left -= shown
        notes = {box: mark.note for box, mark in run.marks[key].items()} if run else None
        details[key] = Detail(notes, depth if drawn < total else 64, shown)
        if shown < len(graph.nodes):
            told.append(f"Flow {key[0]}.{key[1]}: the first {shown:,} of its {len(graph.nodes):,} nodes are drawn.")
    return details, told


def _count_levels(graph: Graph, levels: list[int], depth: int) -> None:
    if depth == len(levels):
        levels.append(0)
    levels[depth] += len(graph.nodes)
    for node in graph.nodes:
        for region in node.regions.values():
            _count_levels(region, levels, depth + 1)


def _run_notes(run: Overlay) -> list[str]:
    history, told = run.history, []
    if run.homeless:
        told.append(
            f"{run.homeless:,} firings of the run have no node in this program: it was another form of it, or another program."
        )
    if history.gaps:
        lost = sum(gap.last - gap.first + 1 for gap in history.gaps)
        told.append(f"The record lacks {lost:,} events: times and counts are too low.")
    if history.spans_left_out:
        told.append(f"The timeline and the critical path lack the last {history.spans_left_out:,} firings of a very long run.")
    if history.places_left_out:
        told.append(f"{history.places_left_out:,} firings at places past the largest number kept are not counted.")
    return told
