"""The main job: what the brief reads, what it cites, and what it says when there is nothing to say."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Artifact, DeniedError, HandlerError, ModelError, RaisedError, RunOptions, Runtime
from apxm.observability.events import FrameClosed, FrameOpened

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Top\n\nWords.", "Top"),
        ("---\ntags: a\ntitle: 'From the front'\n---\n## Part\n\nWords.", "From the front"),
        ("## Only a part\n\nWords.", "notes"),
        ("Words.", "notes"),
    ],
)
def test_the_title_is_that_of_the_file(text: str, title: str) -> None:
    assert brief.split_passages(text, "a/notes.md")["title"] == title


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
    count = brief.SUMMARIES + brief.LISTED + 3
    notes = [_note(f"f{i}.md", f"Words about topic {i}.") for i in range(count)]
    notes.append(brief.unusable("bad.txt", {"code": "capability", "message": "it is not UTF-8 text"}))
    ranked = brief.rank_passages("topic", notes)
    text = brief.compose_brief("docs", "topic?", "An answer.", notes, ranked, [])
    listed = text.partition("## Files")[2]
    for note in notes:
        assert listed.count(f"`{note['path']}`") == 1
    assert "`bad.txt`: it is not UTF-8 text" in text
    assert f"{brief.LISTED + 3} other files" in text


def test_what_the_answer_cites_is_quoted_in_full() -> None:
    passages = [{"path": f"f{i}.md", "heading": "", "line": 1, "text": f"Text {i}\nends here.", "score": 1.0} for i in range(9)]
    parts = brief._evidence("So it is. [f8.md:2]", passages)
    assert "Text 8" in parts[0]
    assert len(parts) == brief.QUOTED + 1
    assert parts[-1].count("`f") == 9 - brief.QUOTED


def test_a_summary_does_not_repeat_the_path() -> None:
    note = brief.summarised(brief.split_passages("Some words.", "a (b).md"), "Some words. [a (b).md:1]")
    assert note["summary"] == "Some words. (line 1)"


# --- the program -------------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(apxm_runtime: Callable[..., Runtime]) -> Runtime:
    return apxm_runtime(capabilities=brief.CAPABILITIES)


def _options(folder: Path, **more: Any) -> RunOptions:
    return RunOptions(grants=(f"read={folder}", f"list={folder}"), **more)


def _answer(runtime: Runtime, folder: Path, question: str) -> str:
    artifact = Artifact.load(HOME / "brief.apxm")
    text = runtime.execute(artifact, folder=str(folder), question=question, run=_options(folder)).value
    assert isinstance(text, str)
    return text


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return folder


def test_the_compiled_artifact_and_the_json_are_those_of_the_source() -> None:
    spec = importlib.util.spec_from_file_location("make_artifacts", ROOT / "tools" / "make_artifacts.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for path, content in tool.outputs(HOME / "brief.py"):
        assert path.read_bytes() == content, f"{path.name} is out of date: run tools/make_artifacts.py"


def test_the_sample_gives_the_brief_that_is_kept_with_it(runtime: Runtime) -> None:
    got = _answer(runtime, SAMPLE, "How often must the pump be serviced?").replace(str(SAMPLE), "sample")
    assert got == (HOME / "expected.md").read_text(encoding="utf-8")


def test_every_source_of_the_answer_has_the_words_that_are_quoted(runtime: Runtime) -> None:
    text = _answer(runtime, SAMPLE, "What happens when the lamp fails?")
    answer = text.partition("## Answer")[2].partition("## Passages")[0]
    quotes = re.findall(r"^(?:- )?(.+) \[(.+):(\d+)\]$", answer, re.MULTILINE)
    assert len(quotes) >= 2
    for quote, path, line in quotes:
        source = (SAMPLE / path).read_text(encoding="utf-8").split("\n")
        here = " ".join(source[int(line) - 1 : int(line) + 2])
        assert " ".join(quote.split()[:4]) in here


def test_the_json_runs_as_the_artifact_does(runtime: Runtime) -> None:
    from apxm import compile

    dag = compile((HOME / "brief.json").read_text(encoding="utf-8"))
    question = "How much gas is kept?"
    result = runtime.execute(dag, folder=str(SAMPLE), question=question, run=_options(SAMPLE))
    assert result.value == _answer(runtime, SAMPLE, question)


def test_a_question_without_any_hit_says_so_and_asks_no_model_for_an_answer(runtime: Runtime) -> None:
    artifact = Artifact.load(HOME / "brief.apxm")
    result = runtime.execute(artifact, folder=str(SAMPLE), question="zeppelin?", run=_options(SAMPLE))
    assert "No passage of these files" in result.value
    assert "draws on 0 passages" in result.value
    assert result.stats.usage["node"]["summarise"]["llm_calls"] == 4
    assert "answer" not in result.stats.usage["node"]


def test_an_unreadable_file_is_listed_and_the_others_are_used(runtime: Runtime, tmp_path: Path) -> None:
    _write(tmp_path, {"good.md": "The key hangs behind the clock.", "empty.md": ""})
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "latin.txt").write_bytes("Schlüssel".encode("latin-1"))
    text = _answer(runtime, tmp_path, "Where is the key?")
    assert "The key hangs behind the clock. [good.md:1]" in text
    skipped = text.partition("## Skipped")[2]
    assert [name for name in ("binary.txt", "latin.txt", "empty.md") if f"`{name}`: " in skipped] == [
        "binary.txt",
        "latin.txt",
        "empty.md",
    ]


def test_a_model_that_fails_on_one_summary_costs_that_summary_only(
    apxm_runtime: Callable[..., Runtime], scripted_model: Callable[..., Any], tmp_path: Path
) -> None:
    _write(tmp_path, {"a.md": "The key hangs behind the clock.", "b.md": "The boat is red."})
    model = scripted_model((r"\[b\.md:1\]", ModelError("no opinion on b.md")), default="A fine file.", strict=True)
    text = _answer(apxm_runtime(model=model, capabilities=brief.CAPABILITIES), tmp_path, "Where is the key?")
    assert "2 files" in text
    assert "A fine file." in text


@pytest.mark.parametrize("question", ["How often must the pump be serviced?", "zeppelin?"], ids=["found", "nothing"])
def test_what_fires_for_the_sample_is_what_is_kept(runtime: Runtime, trace_snapshot: Callable[..., None], question: str) -> None:
    artifact = Artifact.load(HOME / "brief.apxm")
    trace_snapshot(runtime.execute(artifact, folder=str(SAMPLE), question=question, run=_options(SAMPLE, trace=True)))


QUESTION = "How often must the pump be serviced?"
OTHER = "What is done to the pump before the winter, and how often is it serviced?"


def _calls(runtime: Runtime, folder: Path, question: str) -> tuple[str, dict[str, float]]:
    """The brief, and how often each node asked a model."""
    artifact = Artifact.load(HOME / "brief.apxm")
    result = runtime.execute(artifact, folder=str(folder), question=question, run=_options(folder))
    return result.value, {name: used["llm_calls"] for name, used in result.stats.usage.get("node", {}).items()}


def test_a_second_question_needs_no_summary_again_and_has_the_earlier_answer(apxm_runtime: Callable[..., Runtime]) -> None:
    with apxm_runtime(capabilities=brief.CAPABILITIES) as runtime:
        first, calls = _calls(runtime, SAMPLE, QUESTION)
    assert calls == {"summarise": 4, "answer": 1}
    with apxm_runtime(capabilities=brief.CAPABILITIES) as runtime:  # another one, with the same state
        second, calls = _calls(runtime, SAMPLE, OTHER)
    assert calls == {"answer": 1}
    answer = first.partition("## Answer\n\n")[2].partition("\n\n## Passages")[0]
    assert f"## Asked before\n\n**{QUESTION}**\n\n{answer}" in second
    assert "## Asked before" not in first


def test_the_model_sees_earlier_answers(apxm_runtime: Callable[..., Runtime], scripted_model: Callable[..., Any]) -> None:
    model = scripted_model((OTHER.partition(",")[0], "Drain it."), (QUESTION, "Every 50 hours. [pump.md:7]"), default="A file.")
    runtime = apxm_runtime(model=model, capabilities=brief.CAPABILITIES)
    for question in (QUESTION, OTHER):
        _calls(runtime, SAMPLE, question)
    assert "[pump.md:7] Every 50 hours." in model.calls[-1].text


def test_what_was_said_of_a_file_that_changed_is_not_used_again(apxm_runtime: Callable[..., Runtime], tmp_path: Path) -> None:
    folder = _write(tmp_path / "notes", {"key.md": "The key hangs behind the clock.", "boat.md": "The boat is red."})
    runtime = apxm_runtime(capabilities=brief.CAPABILITIES)
    _calls(runtime, folder, "Where is the key?")
    assert "## Asked before" in _calls(runtime, folder, "Which key hangs there?")[0]
    _write(folder, {"key.md": "The key lies under the mat."})
    text, calls = _calls(runtime, folder, "Where does the key lie?")
    assert calls == {"summarise": 1, "answer": 1}
    assert "clock" not in text


def test_the_memory_of_one_folder_is_not_told_to_another(apxm_runtime: Callable[..., Runtime], tmp_path: Path) -> None:
    runtime = apxm_runtime(capabilities=brief.CAPABILITIES)
    for name in ("ours", "theirs"):
        folder = _write(tmp_path / name, {"key.md": "The key hangs behind the clock."})
        text, calls = _calls(runtime, folder, f"Where do {name} hang the key?")
        assert calls == {"summarise": 1, "answer": 1}
        assert "## Asked before" not in text


def test_a_key_in_memory_is_short_and_no_two_are_the_same() -> None:
    keys = {brief.memory_key("answer", "/notes", question) for question in ("a" * 2_000, "a" * 2_001, "b")}
    assert len(keys) == 3
    assert max(map(len, keys)) < 600


@pytest.mark.parametrize("files", [{}, {"picture.png": "no text", ".hidden.md": "not seen"}])
def test_a_folder_without_a_matching_file_is_a_clear_error(runtime: Runtime, tmp_path: Path, files: dict[str, str]) -> None:
    _write(tmp_path, files)
    with pytest.raises(RaisedError, match=r"there is no \*\.md or \*\.txt file beneath"):
        _answer(runtime, tmp_path, "Where is the key?")


def test_a_folder_that_was_not_granted_is_denied(runtime: Runtime, tmp_path: Path) -> None:
    _write(tmp_path, {"in/a.md": "Words.", "out/b.md": "Other words."})
    artifact = Artifact.load(HOME / "brief.apxm")
    with pytest.raises(DeniedError, match="not beneath a granted directory"):
        runtime.execute(artifact, folder=str(tmp_path / "out"), question="?", run=_options(tmp_path / "in"))
    with pytest.raises(DeniedError):
        runtime.execute(artifact, folder=str(tmp_path), question="?")


def test_a_folder_that_does_not_exist_is_named(runtime: Runtime, tmp_path: Path) -> None:
    artifact = Artifact.load(HOME / "brief.apxm")
    with pytest.raises(HandlerError, match="nowhere"):
        runtime.execute(artifact, folder=str(tmp_path / "nowhere"), question="?", run=_options(tmp_path))


def test_a_relative_folder_is_meant_from_the_working_directory(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, {"notes/a.md": "The key hangs behind the clock."})
    monkeypatch.chdir(tmp_path)
    assert "[a.md:1]" in _answer(runtime, Path("notes"), "Where is the key?")


def test_hundreds_of_files_are_read_in_parallel_with_progress(runtime: Runtime, tmp_path: Path) -> None:
    count = 300
    filler = "Ropes and sails are checked by the crew before every trip to the outer islands. " * 60
    files = {
        f"part{i % 7}/note{i:03}.md": f"# Note {i}\n\n{filler}\n\n## Number\n\nThe walls of cabin {i} are painted blue.\n"
        for i in range(count)
    }
    _write(tmp_path, files)
    artifact = Artifact.load(HOME / "brief.apxm")
    handle = runtime.start(
        artifact, folder=str(tmp_path), question="What colour are the walls of cabin 217?", run=_options(tmp_path)
    )
    opened = closed = open_now = most = 0
    for event in handle.events():
        if isinstance(event, FrameOpened):
            assert event.total == count
            opened += 1
            open_now += 1
            most = max(most, open_now)
        elif isinstance(event, FrameClosed):
            closed += 1
            open_now -= 1
    result = handle.result()
    assert (opened, closed) == (count, count)
    assert 1 < most <= 32
    assert "The walls of cabin 217 are painted blue. [part0/note217.md:7]" in result.value
    assert result.value.count("note217.md") >= 2
    assert "300 files" in result.value
