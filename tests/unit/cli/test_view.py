from __future__ import annotations

import io

import pytest
from rich.console import Console

from apxm.cli.live import LiveTree, fold, tree_order
from apxm.cli.view import Lines, state_of
from apxm.observability.events import (
    Called,
    Event,
    FrameClosed,
    FrameOpened,
    NodeEnded,
    NodeRetried,
    NodeStarted,
    Paused,
    Printed,
    RunStarted,
)
from apxm.observability.progress import Progress, Row

STORY: list[Event] = [
    RunStarted("r", "brief", 3),
    NodeStarted((), 1, "list files", "INV", at=0.0),
    NodeEnded((), 1, "list files", "INV", "done", 700.0, at=0.7),
    NodeStarted((), 2, "read all", "MAP", at=0.7),
    FrameOpened(((2, 0),), "body", 1, 40),
    FrameOpened(((2, 1),), "body", 1, 40),
    NodeStarted(((2, 0),), 5, "read", "INV", at=0.7),
    NodeStarted(((2, 1),), 5, "read", "INV", at=0.7),
    Printed(((2, 0),), 5, "hello \x1b[31mred"),
    NodeEnded(((2, 0),), 5, "read", "INV", "done", 100.0, at=0.8),
    FrameClosed(((2, 0),), "done"),
    NodeRetried(((2, 1),), 5, 1, 0.25, "the disk is busy"),
]


@pytest.fixture
def progress() -> Progress:
    return Progress(lambda: 10.0, [(1, "list files", "INV"), (2, "read all", "MAP"), (3, "answer", "ASK")])


def said_by_lines(progress: Progress, story: list[Event]) -> list[str]:
    out = io.StringIO()
    with Lines(progress, out) as lines:
        for event in story:
            lines.show(event)
    return out.getvalue().splitlines()


def drawn(progress: Progress, story: list[Event], height: int = 30) -> tuple[str, str]:
    """What the live tree printed above itself, and what it draws at the end."""
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=False, highlight=False)
    tree = LiveTree(progress, console)
    for event in story:
        tree.show(event)
    above = console.file.getvalue()  # type: ignore[attr-defined]
    with console.capture() as capture:
        console.print(tree.render())
    return above, capture.get()


def test_lines_say_what_took_long_what_failed_and_what_was_printed(progress: Progress) -> None:
    end = NodeEnded(((2, 1),), 5, "read", "INV", "failed", 10.0, "no such file", at=1.0)
    assert said_by_lines(progress, [*STORY, end]) == [
        "[   0.0 s] ✓ list files (INV) in 700 ms",
        "hello \\x1b[31mred",
        "[   0.0 s] ! read is tried again in 250 ms: the disk is busy",
        "[   0.0 s] ✗ read (INV) failed: no such file",
    ]


def test_lines_stay_silent_about_fast_nodes(progress: Progress) -> None:
    fast = [NodeStarted((), 1, "x", "INV", at=0.0), NodeEnded((), 1, "x", "INV", "done", 3.0, at=0.0)]
    assert said_by_lines(progress, fast) == []


def test_the_tree_shows_each_node_with_its_state_and_how_far_a_map_is(progress: Progress) -> None:
    above, picture = drawn(progress, STORY)
    rows = [row.rstrip() for row in picture.splitlines()]
    assert rows[0].startswith("brief  1 of 3 nodes")
    assert rows[1].split() == ["✓", "list", "files", "INV", "700", "ms"]
    assert "read all" in rows[2]
    assert rows[2].endswith("1/40")
    assert "read" in rows[3]
    assert rows[3].endswith("attempt 2 in 0.2 s: the disk is busy")
    assert rows[4].split() == ["·", "answer", "ASK"]
    assert above == "hello \\x1b[31mred\n"


def test_the_tree_folds_to_the_height_of_the_screen(progress: Progress) -> None:
    many: list[Event] = [NodeEnded((), node, f"old {node}", "INV", "skipped", at=0.0) for node in range(10, 60)]
    _, picture = drawn(progress, [*many, *STORY], height=12)
    rows = picture.splitlines()
    assert len(rows) <= 12
    assert any("read all" in row for row in rows)
    assert rows[-1].strip() == "… 45 more rows"


def test_markup_in_names_and_texts_is_shown_not_obeyed(progress: Progress) -> None:
    above, picture = drawn(progress, [NodeStarted((), 8, "[bold]x[/bold]", "INV", at=0.0), Printed((), 8, "[red]y")])
    assert "[bold]x[/bold]" in picture
    assert "[red]y" in above


def test_children_stand_below_their_parent_in_the_order_they_came() -> None:
    places = [(2, 7), (1,), (2,), (1, 4), (2, 5), (2, 5, 1)]
    ordered = tree_order({place: Row(place, "n", "INV") for place in places})
    assert [row.place for row in ordered] == [(1,), (1, 4), (2,), (2, 7), (2, 5), (2, 5, 1)]


def test_folding_keeps_what_runs_and_what_failed() -> None:
    rows = [Row((number,), "n", "INV") for number in range(6)]
    rows[3].running = 1
    rows[5].ended["failed"] += 1
    for number in (0, 1, 2, 4):
        rows[number].ended["done"] += 1
    shown, hidden = fold(rows, 2)
    assert [row.place for row in shown] == [(3,), (5,)]
    assert hidden == 4


def test_a_running_node_says_how_far_it_is() -> None:
    row = Row((1,), "read", "MAP", running=1, frames_total=120, frames_opened=40, frames_closed=37)
    assert state_of(row) == "read (MAP) 37 of 120"
    row.frames_total = 0
    assert state_of(row) == "read (MAP) round 38"


def test_a_call_of_a_tool_that_a_model_wanted_and_did_not_get_is_shown_whole(progress: Progress) -> None:
    def story(node: int, name: str, op: str) -> list[Event]:
        called = Called((), node, "capability", "send_mail", 1.0, False, error=f"guarded\n{'x' * 300}")
        return [NodeStarted((), node, name, op, at=0.0), called]

    told = f"! answer: tool `send_mail` failed: guarded {'x' * 300}"
    assert said_by_lines(progress, story(3, "answer", "ASK")) == [f"[   0.0 s] {told}"]
    assert drawn(progress, story(3, "answer", "ASK"))[0].replace("\n", "") == told
    assert said_by_lines(progress, story(1, "list files", "INV")) == []  # the failure of the node says it


def test_a_question_is_shown_with_the_command_that_answers_it(progress: Progress) -> None:
    story = [NodeStarted((), 3, "answer", "PAUSE", at=0.0), Paused((), 3, "pay 42", "Pay\x1b[31m\nthat [bold]?")]
    told = "? Pay\\x1b[31m that [bold]?  (`apxm answer 'pay 42' VALUE`)"
    assert said_by_lines(progress, story)[0].endswith(told)
    above, picture = drawn(progress, story)
    assert above.strip() == told
    assert "waits for a person: pay 42" in picture
