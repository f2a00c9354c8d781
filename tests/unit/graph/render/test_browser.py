"""The page in a real browser. Collected with --long only, and then the browser must be there."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from apxm.graph.render.overlay import overlay
from apxm.graph.render.page import page
from tests.unit.graph.render.programs import HOSTILE, MAIN, diamond, fired, flat, generated, hostile, run_of, tried

if TYPE_CHECKING:
    from pathlib import Path

    from apxm.graph.critical import FlowKey
    from apxm.graph.model import Graph

SECONDS_MAX = 120
SIZES = ["1400,900", "420,800"]

# Runs after the page's own script, may fail, and leaves what it found in the document.
CHECK = """
(async () => {
  const problems = [], said = {};
  const must = (what, holds) => { if (!holds) problems.push(what); };
  const press = (key, at = document.activeElement) =>
    at.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const shapes = () => [...pictures[view.flow].querySelectorAll(".wire, .frame, .field")].map((one) => {
    const box = one.getBBox(), at = one.getCTM();
    return [box.x * at.a + at.e, box.y * at.a + at.f, box.width * at.a, box.height * at.a];
  });
  const alike = (one, other) => one.every((box, i) => box.every((value, side) => Math.abs(value - other[i][side]) < 0.5));
  try { await (async () => { %s })(); } catch (error) { problems.push(String(error.stack)); }
  document.body.dataset.found = JSON.stringify({ problems, said });
})();
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.fail("the checks in a browser need Chromium: apt-get install chromium")


def opened(chromium: str, file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={file.parent / 'profile'}",
    ]
    command = [chromium, *flags, "--virtual-time-budget=4000", *more, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=True)


def found(chromium: str, folder: Path, text: str, steps: str, size: str = SIZES[0]) -> dict[str, Any]:
    """What the steps said, in the page with its policy, which lets only these steps in besides its own script."""
    script = CHECK % steps
    allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    text = text.replace("script-src ", f"script-src {allowed} ", 1).replace("</body>", f"<script>{script}</script></body>")
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    done = opened(chromium, file, f"--window-size={size}", "--dump-dom")
    assert not re.findall(r"CONSOLE.*", done.stderr)
    said = re.search(r'data-found="([^"]*)"', done.stdout)
    assert said, done.stdout[-2000:]
    result: dict[str, Any] = json.loads(html.unescape(said[1]))
    assert result["problems"] == []
    return result["said"]  # type: ignore[no-any-return]


def drawn(flows: dict[FlowKey, Graph], events: list[Any] | None = None, flow: str = "default.main", title: str = "t") -> str:
    return page(flows, title=title, run=overlay(run_of(events, flow=flow), flows) if events is not None else None)[0]


@pytest.mark.parametrize("size", SIZES)
def test_the_page_opens_without_a_word_in_the_console(chromium: str, tmp_path: Path, size: str) -> None:
    flows = {MAIN: diamond()}
    events = [*fired((), 1, 0.0, 0.1), *fired((), 2, 0.1, 0.9, "failed"), *fired((), 4, 0.9, 1.0)]
    said = found(
        chromium,
        tmp_path,
        drawn(flows, events),
        """
        must("the stage is visible", stage.clientWidth > 300 && stage.clientHeight > 250);
        must("nothing is wider than the window", document.documentElement.scrollWidth <= innerWidth);
        must("the summary is there", !document.getElementById("summary").hidden);
        must("one picture is shown", pictures.filter((one) => one.style.display !== "none").length === 1);
        document.getElementById("time").open = true;
        drawTimes();
        said.bars = times.bars.length;
        """,
        size,
    )
    assert said["bars"] == 6  # three on the critical path, three of the worker


def test_a_reader_opens_finds_zooms_and_walks(chromium: str, tmp_path: Path) -> None:
    found(
        chromium,
        tmp_path,
        drawn({MAIN: diamond()}, [*fired((), 1, 0.0, 0.1), *fired((), 2, 0.1, 1.0, "failed", error="no such file")]),
        """
        const left = DATA.boxes.find((box) => box.name === "left"), element = document.getElementById(`b${left.n}`);
        element.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        must("a click opens the details", !details.hidden && details.textContent.includes("INV"));
        must("they say what happened", details.textContent.includes("no such file"));
        must("its lines stand out", document.querySelectorAll(".line.near").length === left.in.length + left.out.length);
        press("Escape");
        must("Escape closes them", details.hidden);
        const before = view.k;
        press("+"); must("plus zooms in", view.k > before);
        press("-"); press("-"); must("minus zooms out", view.k < before);
        stage.dispatchEvent(new WheelEvent("wheel", { deltaY: -200, clientX: 300, clientY: 300, cancelable: true }));
        const near = view.k; must("the wheel zooms in", near > before / 1.25);
        press("0"); must("zero fits", view.x >= 0 && view.y >= 0 && view.k !== near);
        const x = view.x, at = { bubbles: true, pointerId: 1, button: 0 };
        stage.dispatchEvent(new PointerEvent("pointerdown", { ...at, clientX: 300, clientY: 300 }));
        dragged = 5; // a made-up pointer cannot be captured
        stage.setPointerCapture = () => {};
        stage.dispatchEvent(new PointerEvent("pointermove", { ...at, clientX: 350, clientY: 300 }));
        stage.dispatchEvent(new PointerEvent("pointerup", { ...at, clientX: 350, clientY: 300 }));
        must("dragging moves the picture", Math.abs(view.x - x - 50) < 1);
        press("/"); must("slash goes to the search", document.activeElement === search);
        search.value = "joi"; search.dispatchEvent(new Event("input"));
        must("it is found", document.querySelectorAll(".box.hit").length === 1);
        press("Enter", search);
        must("Enter opens what was found", chosen?.name === "join");
        press("Escape"); press("Escape");
        document.getElementById("b1").focus();
        press("ArrowDown"); must("down follows an edge", document.activeElement.id === `b${left.n}`);
        press("Enter"); must("Enter opens the node", chosen === left);
        const mode = document.getElementById("mode");
        for (const one of ["time", "kind", "outcome"]) {
          mode.value = one; mode.dispatchEvent(new Event("change"));
          must(`colours by ${one}`, stage.classList.contains(`by-${one}`) === (one !== "kind"));
        }
        """,
    )


@pytest.mark.parametrize("number", range(3))
def test_folding_leaves_no_box_over_another_and_unfolding_restores_all(
    chromium: str, tmp_path: Path, number: int, seed: int
) -> None:
    found(
        chromium,
        tmp_path,
        drawn(generated(seed + number)),
        """
        const original = shapes(), { x, y, k } = view;
        refold();
        must("the script draws what the page was made with", alike(shapes(), original));
        const overlap = (at, long, other, wide) => at + long > other + 0.1 && other + wide > at + 0.1;
        const apart = (state) => {
          for (const drawing of DATA.drawings) {
            let hidden = false;
            for (let at = drawing; at.panel >= 0; at = DATA.drawings[DATA.boxes[DATA.panels[at.panel].b].d])
              hidden ||= folded.has(DATA.panels[at.panel].b);
            if (hidden) continue;
            const boxes = drawing.boxes.map((n) => DATA.boxes[n]);
            for (const a of boxes) for (const b of boxes)
              if (a.n < b.n && overlap(a.nx, a.nw, b.nx, b.nw) && overlap(a.ny, a.nh, b.ny, b.nh))
                must(`${state}: ${a.name} and ${b.name} are apart`, false);
          }
        };
        const holders = DATA.boxes.filter((box) => box.panels.length && DATA.drawings[box.d].flow === view.flow);
        holders.forEach((box, i) => { if (i % 2) toggle(box); });
        apart("half folded");
        foldAll(true);
        apart("folded");
        const { nw, nh, w, h } = rootOf(view.flow);
        must("folded is smaller", !holders.length || nw * nh < w * h);
        foldAll(false);
        view.x = x, view.y = y, view.k = k, moved();
        must("unfolded is as before", alike(shapes(), original));
        """,
    )


def test_a_search_unfolds_what_it_found(chromium: str, tmp_path: Path) -> None:
    found(
        chromium,
        tmp_path,
        drawn({MAIN: tried()}),
        """
        foldAll(true);
        must("the regions are hidden", document.getElementById("p0").getBoundingClientRect().width === 0);
        search.value = "rescue"; search.dispatchEvent(new Event("input")); next(1);
        const place = document.getElementById(`b${chosen.n}`).getBoundingClientRect(), box = stage.getBoundingClientRect();
        must("the node is in view", place.width > 0 && place.left >= box.left && place.bottom <= box.bottom);
        """,
    )


def test_no_text_of_a_program_runs(chromium: str, tmp_path: Path) -> None:
    flows = {("a", HOSTILE): hostile()}
    said = found(
        chromium,
        tmp_path,
        drawn(flows, fired((), 1, 0.0, 1.0, "failed", error=HOSTILE), f"a.{HOSTILE}", HOSTILE),
        """
        for (const box of DATA.boxes) open(box);
        await new Promise((done) => setTimeout(done, 200));
        must("no text became an image", !document.querySelector("img"));
        must("no text ran", window.pwned === undefined);
        said.title = document.title;
        """,
    )
    assert said["title"] == HOSTILE


def test_two_thousand_nodes_open(chromium: str, tmp_path: Path) -> None:
    said = found(
        chromium, tmp_path, drawn({MAIN: flat(2_000, 1)}), "fit(); said.boxes = document.querySelectorAll('#stage .box').length;"
    )
    assert said["boxes"] == 2_000
