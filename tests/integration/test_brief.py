"""The main job: what the brief reads, what it cites, and what it says when there is nothing to say."""

from __future__ import annotations

import importlib.util
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "artifacts" / "brief"
SAMPLE = HOME / "sample"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("brief_program", HOME / "brief.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["brief_program"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


brief = _load()


def _split(text: str, path: str = "notes.md") -> list[dict[str, Any]]:
    passages: list[dict[str, Any]] = brief.split_passages(text, path)["passages"]
    return passages


def _note(path: str, text: str) -> dict[str, Any]:
    note: dict[str, Any] = brief.summarised(brief.split_passages(text, path), "A summary.")
    return note


# --- splitting ---------------------------------------------------------------------------------------------------------


def test_a_passage_begins_at_the_line_it_says() -> None:
    passages = _split("# Top\n\nfirst words here\n\n## Sub\n\nsecond words here\n")
    assert [(p["line"], p["heading"]) for p in passages] == [(1, ""), (5, "Sub")]
    assert passages[1]["text"].startswith("## Sub")


def test_no_passage_crosses_a_heading() -> None:
    text = "".join(f"## Part {i}\n\nA few words about number {i}.\n\n" for i in range(30))
    passages = _split("# All\n\n" + text)
    assert len(passages) == 30
    assert all(p["text"].count("## ") == 1 for p in passages)


def test_underlined_titles_are_headings() -> None:
    passages = _split("Harbour\n=======\n\nOne line.\n\nTides\n-----\n\nAnother line.\n", "notes.txt")
    assert [p["heading"] for p in passages] == ["", "Tides"]
    assert brief.split_passages("Harbour\n=======\n\nOne line.\n", "notes.txt")["title"] == "Harbour"


def test_every_row_of_a_passage_stands_where_its_line_number_says(seed: int) -> None:
    draw = random.Random(seed)
    pieces = [
        "# Title",
        "## Sub",
        "",
        "",
        "plain words " * 9,
        "- item of a list",
        "| a | b |",
        "|---|---|",
        "> quoted",
        "    indented",
    ]
    pieces += ["word " * 400, "Setext", "-----", "```", "code()", "<!-- hidden -->", "1. first"]
    for _ in range(300):
        lines = [draw.choice(pieces) for _ in range(draw.randrange(1, 60))]
        try:
            passages = _split("\n".join(lines))
        except brief.InvalidError:
            continue
        for passage in passages:
            first = passage["text"].split("\n")[0]
            source = lines[passage["line"] - 1]
            assert first.split()[:3] == source.split()[:3] or "word " in source or "hidden" in source, (passage, seed)
        lines_at = [passage["line"] for passage in passages]
        assert lines_at == sorted(lines_at), seed


def test_long_text_is_cut_into_passages_of_moderate_length() -> None:
    text = "\n\n".join(f"Paragraph {i} " + "with quite a few words in it " * 5 for i in range(40))
    lengths = [len(p["text"].split()) for p in _split(text)]
    assert all(length <= 2 * brief.PASSAGE_WORDS for length in lengths)
    assert sum(lengths) == len(text.split())


def test_one_endless_line_is_cut_and_every_piece_is_cited_with_it() -> None:
    passages = _split("intro\n\n" + "word " * 2_000)
    assert len(passages) > 10
    assert {p["line"] for p in passages[1:]} == {3}


def test_a_long_table_repeats_its_head_and_keeps_its_line_numbers() -> None:
    rows = [f"| part {i} | replaced after {i} hours of work at sea | chandler |" for i in range(60)]
    text = "\n".join(["| part | interval | where |", "|---|---|---|", *rows])
    passages = _split(text)
    assert len(passages) > 1
    assert passages[1]["head"] == "| part | interval | where |\n|---|---|---|"
    cited = brief.context_lines({"passages": [{"path": "t.md", **passages[1]}]}).split("\n")
    line = int(cited[0].partition("]")[0].rpartition(":")[2])
    assert text.split("\n")[line + 1] == cited[2]


def test_code_is_kept_with_its_passage_but_is_not_searched() -> None:
    note = _note("a.md", "# Start\n\nTurn the key.\n\n```sh\nignite --now\n```\n")
    assert "ignite --now" in note["passages"][0]["text"]
    assert brief.rank_passages("what does ignite do", [note])["passages"] == []


def test_a_long_code_block_is_cut() -> None:
    note = _note("a.md", "Words.\n\n```\n" + "\n".join(f"line {i}" for i in range(500)) + "\n```\n\nMore words.\n")
    assert note["passages"][0]["text"].count("\n") < brief.CODE_ROWS + 5
    assert note["passages"][1]["line"] == 506


def test_front_matter_and_comments_are_not_quoted() -> None:
    passages = _split("---\nauthor: me\n---\n# A\n\nSeen.\n\n<!-- not\nseen -->\n\nAlso seen.\n")
    text = "\n".join(p["text"] for p in passages)
    assert "author" not in text
    assert "not" not in text
    assert passages[0]["line"] == 4


def test_a_hash_in_a_text_file_is_no_heading() -> None:
    assert _split("# just a remark\n# and one more\n", "requirements.txt")[0]["text"].startswith("# just")


@pytest.mark.parametrize("text", ["", "\n \n", "<!-- only a comment -->"])
def test_a_file_without_text_is_refused(text: str) -> None:
    with pytest.raises(brief.InvalidError, match="no text"):
        _split(text)


# --- ranking -----------------------------------------------------------------------------------------------------------


def test_the_passage_with_the_words_of_the_question_comes_first() -> None:
    notes = [
        _note(
            "a.md", "# Boats\n\nThe boat has a red sail and an old engine.\n\n## Engine\n\nThe engine needs oil every spring.\n"
        ),
        _note("b.md", "# Gardens\n\nRoses need water in summer.\n"),
    ]
    ranked = brief.rank_passages("When does the engine need oil?", notes)
    assert ranked["passages"][0]["path"] == "a.md"
    assert ranked["passages"][0]["line"] == 5
    assert ranked["files"] == ["a.md", "b.md"]


def test_other_forms_of_a_word_are_found() -> None:
    notes = [_note("a.md", "Running tasks are cancelled at once."), _note("b.md", "Nothing to see here at all.")]
    assert brief.rank_passages("What happens to a task on cancellation?", notes)["passages"][0]["path"] == "a.md"


def test_two_words_of_the_question_beat_one_word_said_often() -> None:
    notes = [
        _note("often.md", "The pump is a pump and a pump remains a pump."),
        _note("both.md", "Before winter the pump gets new oil from the store."),
        _note("other.md", "Nothing here is about any of it, only words."),
    ]
    assert brief.rank_passages("oil of the pump", notes)["passages"][0]["path"] == "both.md"


def test_one_long_file_does_not_hide_the_others() -> None:
    long = "# Keys\n\n" + "".join(f"## Key {i}\n\nThe key number {i} opens the door of room {i}.\n\n" for i in range(50))
    notes = [_note("long.md", long), _note("short.md", "The door key hangs behind the clock.")]
    paths = [p["path"] for p in brief.rank_passages("Where is the key of the door?", notes)["passages"]]
    assert paths.count("long.md") == brief.PER_FILE
    assert "short.md" in paths


def test_a_question_without_any_hit_gives_no_passage_and_keeps_the_files() -> None:
    ranked = brief.rank_passages("zeppelin", [_note("a.md", "Only boats here.")])
    assert ranked["passages"] == []
    assert ranked["files"] == ["a.md"]


def test_a_question_of_empty_words_gives_no_passage() -> None:
    assert brief.rank_passages("what is it?", [_note("a.md", "Only boats here.")])["passages"] == []


def test_skipped_files_are_not_ranked() -> None:
    ranked = brief.rank_passages("boats", [brief.unusable("x.md", {"message": "no"}), _note("a.md", "Only boats here.")])
    assert ranked["files"] == ["a.md"]


# --- writing -----------------------------------------------------------------------------------------------------------


def test_the_brief_lists_every_file_once_and_says_why_one_was_skipped() -> None:
    notes = [_note(f"f{i}.md", f"Words about topic {i}.") for i in range(brief.SUMMARIES + 3)]
    notes.append(brief.unusable("bad.txt", {"code": "capability", "message": "it is not UTF-8 text"}))
    ranked = brief.rank_passages("topic", notes)
    text = brief.compose_brief("docs", "topic?", "An answer.", notes, ranked)
    listed = text.partition("## Files")[2]
    for note in notes:
        assert listed.count(f"`{note['path']}`") == 1
    assert "`bad.txt`: it is not UTF-8 text" in text
    assert "3 other files" in text


def test_a_summary_does_not_repeat_the_path() -> None:
    note = brief.summarised(brief.split_passages("Some words.", "a (b).md"), "Some words. [a (b).md:1]")
    assert note["summary"] == "Some words. (line 1)"
