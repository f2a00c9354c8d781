"""The brief: what a folder of notes says about a question, with the file and the line of every statement.

The graph is at the end; before it come its capabilities, plain functions of plain values. `tools/make_artifacts.py`
writes `brief.json` and `brief.apxm` from this file.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

from apxm import CapabilityRecord, Graph, InvalidError
from apxm.llm.extractive import weigh
from apxm.llm.ranking import Corpus, diverse
from apxm.llm.text import plain, terms

PASSAGE_WORDS = 120  # long enough to carry an argument, short enough to be quoted
CODE_ROWS = 12  # of a code block that are kept with the text around it
LEAD_WORDS = 600  # of each file that the model sees for its summary
PASSAGES = 12  # that the model answers from
PER_FILE = 4  # of those from one file, so that one long file does not hide the others
HEADING_BOOST = 2  # a word of the heading counts like so many in the text
SCORE_SHARE = 0.25  # a passage this far below the best one says nothing about the question
QUOTED = 5  # passages that stand in the brief in full, and those the answer cites
SUMMARIES = 12  # files whose summary stands in the brief in full
LISTED = 60  # files after those with one row of it; the others are only named
EARLIER = 3  # earlier answers that help with this one
KEY_CHARS = 500  # of a key in memory, after which a digest stands for the rest

# --- which files -----------------------------------------------------------------------------------------------------


def absolute_folder(folder: str) -> str:
    """A folder as `list` finds it whatever was granted: absolute; a relative one is meant from the working directory."""
    if not folder.strip():
        raise InvalidError("the folder is an empty text", hint="give its path, such as docs")
    return os.path.abspath(os.path.expanduser(folder))


# --- what is remembered ----------------------------------------------------------------------------------------------


def memory_key(kind: str, place: str, what: str) -> str:
    """Under what something of this folder is remembered: `summary` of a file, `answer` to a question."""
    key = f"brief {kind} {place} {' '.join(what.split())}"
    return key if len(key) <= KEY_CHARS else f"{key[:KEY_CHARS]}… {_digest(key)}"


def remembered_summary(file: dict[str, Any], kept: dict[str, Any] | None) -> str:
    """The summary of an earlier run, if the file is still the same; else nothing."""
    return str(kept["summary"]) if kept is not None and kept["digest"] == file["digest"] else ""


def summary_to_keep(file: dict[str, Any], summary: str) -> dict[str, Any]:
    """What is remembered of a file."""
    return {"kind": "summary", "path": file["path"], "title": file["title"], "summary": summary, "digest": file["digest"]}


def answer_to_keep(place: str, question: str, answer: str, notes: list[Any], ranked: dict[str, Any]) -> dict[str, Any]:
    """What is remembered of an answer: also which files it came from, as they were."""
    sources = {passage["path"] for passage in ranked["passages"]}
    digests = {note["path"]: note["digest"] for note in notes if note["path"] in sources}
    return {"kind": "answer", "folder": place, "question": question, "answer": answer, "sources": digests}


def still_true(place: str, question: str, entries: list[Any], notes: list[Any]) -> list[dict[str, str]]:
    """Earlier answers on this folder to other questions: [{question, answer}], those whose files have not changed since."""
    now = {note["path"]: note.get("digest") for note in notes}
    asked = " ".join(question.split()).casefold()
    kept = [entry["value"] for entry in entries]
    return [
        {"question": one["question"], "answer": one["answer"]}
        for one in kept
        if one["folder"] == place
        and " ".join(one["question"].split()).casefold() != asked
        and all(now.get(path) == digest for path, digest in one["sources"].items())
    ][:EARLIER]


def earlier_lines(earlier: list[dict[str, str]]) -> str:
    """Earlier answers as a model reads them; quotations with their source in front, like passages."""
    return "\n".join(_QUOTATION.sub(r"[\2] \1", one["answer"]) for one in earlier)


_QUOTATION = re.compile(r"^(?:- )?(.+) \[([^\[\]\n]+:\d{1,9})\]$", re.MULTILINE)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


# --- a file -> its passages ------------------------------------------------------------------------------------------

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.+?)[ \t#]*$")
_UNDERLINE = re.compile(r" {0,3}(={3,}|-{3,})[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]")
_TABLE_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-{2,}[-:| \t]*$")
_SENTENCE_END = re.compile(r"[.!?…:。！？][)\"'”’\]*_`]*\s*$")
_HIDDEN = re.compile(r"\A---[ \t]*\n(?=[\w-]+:).*?\n---[ \t]*$|<!--.*?-->", re.DOTALL | re.MULTILINE)  # front matter, comments
_QUANTITY = re.compile(r"\bhow (?:far|large|long|many|much|often)\b", re.IGNORECASE)  # words that no answer repeats
_TITLE = re.compile(r"\A---[ \t]*\n(?:[\w-]+:.*\n)*?title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)  # in front matter
_CODE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1|\Z)", re.DOTALL | re.MULTILINE)


class _Passages:
    """Gathers rows into passages; the row loop is `_read`."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self.title = ""
        self.words = 0  # of the whole file, code left out
        self.length = 0  # of the open passage
        self.rows: list[str] = []
        self._first = 1
        self._titles: list[str] = []  # rows of headings at the beginning of the open passage
        self._headings: list[tuple[int, str]] = []

    def add(self, number: int, row: str, words: int) -> None:
        if not self.rows:
            self._first = number
        self.rows.append(row)
        self.length += words
        self.words += words

    def heading(self, number: int, level: int, text: str, rows: list[str]) -> None:
        """A heading begins a passage, and is its first row."""
        self.close()
        text = plain(text)
        self._headings = [entry for entry in self._headings if entry[0] < level]
        if level > 1 or self.title:
            self._headings.append((level, text))
        else:
            self.title = text  # said once for the file, not again for every passage
        self._titles = rows
        self._first, self.rows = number, list(rows)

    def close(self, head: list[str] | None = None) -> None:
        """End the open passage; `head` are the rows of a table head that stand above it."""
        while self.rows and not self.rows[-1].strip(" \t-=_*"):  # blank rows and rules at the end
            self.rows.pop()
        if len(self.rows) > len(self._titles):
            passage = {"heading": " › ".join(text for _, text in self._headings), "line": self._first}
            if head:
                passage["head"] = "\n".join(head)
            self.done.append({**passage, "text": "\n".join(self.rows)})
        self.rows, self._titles, self.length = [], [], 0


def _read(text: str, markdown: bool) -> _Passages:
    """A heading always begins a passage; a paragraph, list item or table row is cut only when it is very long."""
    out = _Passages()
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = _HIDDEN.sub(lambda hidden: "\n" * hidden.group().count("\n"), text).split("\n")
    table = _Table()
    number = 0
    while number < len(lines):
        row = lines[number]
        number += 1
        if markdown and (fence := _FENCE.match(row)):
            number = _code(out, lines, number, fence.group(1))
        elif markdown and (heading := _HEADING.match(row)):
            out.heading(number, len(heading.group(1)), heading.group(2), [row])
        elif (under := _UNDERLINE.match(row)) and _is_title(lines, number - 2):
            title = out.rows.pop()
            out.heading(number - 1, 1 if under.group(1)[0] == "=" else 2, title, [title, row])
        elif not row.strip():
            if out.length >= PASSAGE_WORDS:
                out.close(table.head_of(out.rows))
            elif out.rows:
                out.add(number, row, 0)
            table = _Table()
        else:
            table.see(row, out.rows)
            _prose(out, number, row, table)
    out.close(table.head_of(out.rows))
    return out


def _is_title(lines: list[str], at: int) -> bool:
    """Whether the row above a rule is a heading: text, alone in its paragraph, and no list or table."""
    if at < 0 or not lines[at].strip() or (at > 0 and lines[at - 1].strip()):
        return False
    title = lines[at]
    return len(title) < 120 and any(map(str.isalnum, title)) and "|" not in title and not _ITEM.match(title)


class _Table:
    """Remembers the head of the table that the rows stand in, for the passages in which it goes on."""

    def __init__(self) -> None:
        self.head: list[str] = []

    def see(self, row: str, before: list[str]) -> None:
        if "|" not in row:
            self.head = []
        elif _TABLE_RULE.match(row) and before and "|" in before[-1]:
            self.head = [before[-1], row]

    def head_of(self, rows: list[str]) -> list[str] | None:
        """The head, unless the rows have it already."""
        return self.head if self.head and self.head[1] not in rows else None


def _prose(out: _Passages, number: int, row: str, table: _Table) -> None:
    words = len(row.split())
    whole = bool(_ITEM.match(row)) or bool(table.head) or (bool(out.rows) and bool(_SENTENCE_END.search(out.rows[-1])))
    full = out.length + words > (1.5 if whole else 3) * PASSAGE_WORDS
    if full and out.length:
        out.close(table.head_of(out.rows))
    if words <= 3 * PASSAGE_WORDS:
        out.add(number, row, words)
        return
    parts = row.split()
    for begin in range(0, words, PASSAGE_WORDS):  # one endless row: its pieces are all cited with its line
        part = parts[begin : begin + PASSAGE_WORDS]
        out.add(number, " ".join(part), len(part))
        out.close()


def _code(out: _Passages, lines: list[str], number: int, fence: str) -> int:
    """A code block stays with the passage before it, without what goes past CODE_ROWS; gives the row after it."""
    end = number
    while end < len(lines) and not lines[end].strip().startswith(fence):
        end += 1
    shown = lines[number - 1 : end]
    out.add(number, shown[0], 0)
    for offset, row in enumerate(shown[1 : CODE_ROWS + 1], 1):
        out.add(number + offset, row, 0)
    if len(shown) > CODE_ROWS + 1:
        out.add(end, "…", 0)
    out.add(end + 1, fence, 0)
    if len(shown) > CODE_ROWS + 1 or out.length >= PASSAGE_WORDS / 2:
        out.close()
    return end + 1


def split_passages(text: str, path: str) -> dict[str, Any]:
    """Split one file: {path, title, words, digest, passages: [{heading, line, text, head?}]}; fails when there is no text.

    `text` is the source from `line` on, row by row, so that a model that counts rows cites the right ones. `head` is the
    head of a table that began in an earlier passage.
    """
    out = _read(text, markdown=PurePath(path).suffix.lower() != ".txt")
    if not out.done:
        raise InvalidError("there is no text in it")
    said = _TITLE.search(text, 0, 2_000)
    title = out.title or (said and said.group(1)) or PurePath(path).stem
    return {"path": path, "title": title, "words": out.words, "digest": _digest(text), "passages": out.done}


# --- passages -> what a model reads ----------------------------------------------------------------------------------


def _cited(path: str, passage: dict[str, Any]) -> str:
    """`[path:line] text`. The two rows of a repeated table head are counted, so that the rows after them are right."""
    head = passage.get("head")
    if head is None:
        return f"[{path}:{passage['line']}] {passage['text']}"
    return f"[{path}:{max(1, passage['line'] - 2)}] {head}\n{passage['text']}"


def lead_lines(file: dict[str, Any]) -> str:
    """The beginning of a file, as passages that a model can cite."""
    taken, words = [], 0
    for passage in file["passages"]:
        taken.append(_cited(file["path"], passage))
        words += len(passage["text"].split())
        if words >= LEAD_WORDS:
            break
    return "\n".join(taken)


def context_lines(ranked: dict[str, Any]) -> str:
    """The ranked passages, best first, as passages that a model can cite."""
    return "\n".join(_cited(passage["path"], passage) for passage in ranked["passages"])


# --- which passages answer -------------------------------------------------------------------------------------------


def _searched(note: dict[str, Any], passage: dict[str, Any]) -> list[str]:
    """The words a passage is found by: its prose, and more than once its heading; code is no prose."""
    named = passage["heading"] or note["title"]
    return terms(_CODE.sub("", passage["text"])) + HEADING_BOOST * terms(named) + terms(PurePath(note["path"]).stem)


def _query(question: str) -> dict[str, float]:
    """The words to look for: the subject of the question in full, less of what questions are made of."""
    subject = _QUANTITY.sub(" ", question)
    return {term: 1.0 if weight > 0.5 else weight for term, weight in weigh(subject).items()}


def _scores(corpus: Corpus, query: dict[str, float]) -> list[float]:
    """BM25, less for a passage that has only some of the words: two words once say more than one word twice."""
    weights = {term: weight * corpus.rarity(term) for term, weight in query.items()}
    whole = sum(weights.values())
    return [
        score * (0.25 + 0.75 * sum(weight for term, weight in weights.items() if term in counts) / whole)
        for score, counts in zip(corpus.bm25(query), corpus.counts)
    ]


def rank_passages(question: str, notes: list[Any], passages: int = PASSAGES) -> dict[str, Any]:
    """The passages that say most about the question, and all files by relevance.

    {passages: [{path, heading, line, text, score}], files: [path], terms: [str]}; no passages when nothing matches.
    """
    files = [note for note in notes if "skipped" not in note]
    places = [(note, passage) for note in files for passage in note["passages"]]
    query = _query(question)
    corpus = Corpus([_searched(note, passage) for note, passage in places])
    scores = _scores(corpus, query) if query else [0.0] * len(places)
    best = {note["path"]: 0.0 for note in files}
    for (note, _), score in zip(places, scores):
        best[note["path"]] = max(best[note["path"]], score)
    least = max(SCORE_SHARE * max(scores, default=0.0), 1e-9)
    order = sorted((i for i, score in enumerate(scores) if score >= least), key=lambda i: (-scores[i], i))
    chosen = diverse(corpus, {i: scores[i] for i in _spread(order, places, 5 * passages)}, passages)
    picked = [{"path": places[i][0]["path"], **places[i][1], "score": round(scores[i], 3)} for i in chosen]
    return {"passages": picked, "files": sorted(best, key=lambda path: (-best[path], path)), "terms": sorted(query)}


def _spread(order: list[int], places: list[tuple[dict[str, Any], dict[str, Any]]], most: int) -> list[int]:
    """The first `most` of `order`, without those that come after PER_FILE of the same file."""
    taken: list[int] = []
    per_file: dict[str, int] = {}
    for i in order:
        path = places[i][0]["path"]
        per_file[path] = per_file.get(path, 0) + 1
        if per_file[path] <= PER_FILE:
            taken.append(i)
        if len(taken) == most:
            break
    return taken


# --- the notes of one file -------------------------------------------------------------------------------------------


def summarised(file: dict[str, Any], summary: str) -> dict[str, Any]:
    """A file with its summary, in which its own name is not repeated at every sentence."""
    lines = re.sub(rf"\[{re.escape(file['path'])}:(\d+)\]", r"(line \1)", summary)
    return {**file, "summary": " ".join(lines.split())}


def unusable(path: str, error: dict[str, Any]) -> dict[str, Any]:
    """The note on a file that could not be used: {path, skipped: why}."""
    reason = str(error.get("message") or error.get("code") or "it failed")
    return {"path": path, "skipped": reason.removeprefix(f"{path!r} ")}


# --- the brief -------------------------------------------------------------------------------------------------------


def _cites(answer: str, passage: dict[str, Any]) -> bool:
    """Whether the answer names a line of a passage."""
    last = passage["line"] + passage["text"].count("\n")
    lines = re.findall(rf"\[{re.escape(passage['path'])}:(\d{{1,9}})\]", answer)
    return any(passage["line"] <= int(line) <= last for line in lines)


def _evidence(answer: str, passages: list[dict[str, Any]]) -> list[str]:
    """The passages that the answer cites, then the best others up to QUOTED, in full; where the rest stands."""
    order = sorted(passages, key=lambda passage: not _cites(answer, passage))
    count = max(QUOTED, sum(_cites(answer, passage) for passage in passages))
    parts = [_quoted(number, passage) for number, passage in enumerate(order[:count], 1)]
    if order[count:]:
        parts.append("See also:\n\n" + "\n".join(f"- {_place(passage)}" for passage in order[count:]))
    return parts


def _place(passage: dict[str, Any]) -> str:
    heading = f" · {passage['heading']}" if passage["heading"] else ""
    return f"`{passage['path']}:{passage['line']}`{heading}"


def _quoted(number: int, passage: dict[str, Any]) -> str:
    rows = passage["text"].split("\n")
    if len(rows) > 1 and _UNDERLINE.match(rows[1]) and "|" not in rows[0]:
        del rows[:2]
    while _HEADING.match(rows[0]) or not rows[0].strip():  # the heading is said already
        del rows[0]
    if "head" in passage:
        rows[:0] = passage["head"].split("\n")
    quoted = re.sub(r"\n{3,}", "\n\n", "\n".join(row.rstrip() for row in rows))  # where a comment was
    return f"**{number}.** {_place(passage)}\n\n" + "\n".join(f"> {row}".rstrip() for row in quoted.split("\n"))


def _summary(note: dict[str, Any]) -> str:
    return f"- **{note['title']}** (`{note['path']}`, {note['words']:,} words): {note['summary']}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _short(text: str, most: int = 110) -> str:
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"


def compose_brief(
    folder: str, question: str, answer: str, notes: list[Any], ranked: dict[str, Any], earlier: list[dict[str, str]]
) -> str:
    """The brief in Markdown: the answer, its passages, earlier answers, the files by relevance, what was skipped."""
    read = {note["path"]: note for note in notes if "skipped" not in note}
    order = [read[path] for path in ranked["files"]]
    skipped = [note for note in notes if "skipped" in note]
    sources = {passage["path"] for passage in ranked["passages"]}
    words = sum(note["words"] for note in order)
    parts = [
        f"# {' '.join(question.split())}",
        f"{_counted(len(order), 'file')} of `{folder}` read ({words:,} words), {len(skipped)} skipped. The answer draws on "
        f"{_counted(len(ranked['passages']), 'passage')} of {_counted(len(sources), 'file')}.",
        f"## Answer\n\n{answer.strip()}",
    ]
    if ranked["passages"]:
        parts += ["## Passages", *_evidence(answer, ranked["passages"])]
    if earlier:
        parts += ["## Asked before", *(f"**{' '.join(one['question'].split())}**\n\n{one['answer'].strip()}" for one in earlier)]
    if order:
        parts.append("## Files, most relevant first\n\n" + "\n".join(map(_summary, order[:SUMMARIES])))
    if order[SUMMARIES:]:
        parts.append(f"## {_counted(len(order) - SUMMARIES, 'other file')}")
        rows = order[SUMMARIES : SUMMARIES + LISTED]
        parts.append("\n".join(f"- `{note['path']}`: {_short(note['summary'] or note['title'])}" for note in rows))
        parts += [", ".join(f"`{note['path']}`" for note in order[SUMMARIES + LISTED :])]
    if skipped:
        parts.append("## Skipped\n\n" + "\n".join(f"- `{note['path']}`: {note['skipped']}" for note in skipped))
    return "\n\n".join(filter(None, parts)) + "\n"


# --- the program -----------------------------------------------------------------------------------------------------

CAPABILITIES = {
    "absolute_folder": CapabilityRecord("A folder as an absolute path.", absolute_folder, effect="read", run="inline"),
    "memory_key": CapabilityRecord("Under what something is remembered.", memory_key, effect="pure"),
    "remembered_summary": CapabilityRecord("The summary of an earlier run.", remembered_summary, effect="pure"),
    "summary_to_keep": CapabilityRecord("What is remembered of a file.", summary_to_keep, effect="pure"),
    "answer_to_keep": CapabilityRecord("What is remembered of an answer.", answer_to_keep, effect="pure"),
    "still_true": CapabilityRecord("Earlier answers that still hold.", still_true, effect="pure"),
    "earlier_lines": CapabilityRecord("Earlier answers as a model reads them.", earlier_lines, effect="pure"),
    "split_passages": CapabilityRecord("Split a text into passages.", split_passages, effect="pure", run="thread", gives=True),
    "lead_lines": CapabilityRecord("The beginning of a file, to be summarised.", lead_lines, effect="pure"),
    "summarised": CapabilityRecord("A file with its summary.", summarised, effect="pure", borrows=True),
    "unusable": CapabilityRecord("The note on a file that could not be used.", unusable, effect="pure"),
    "rank_passages": CapabilityRecord(
        "Rank passages.", rank_passages, effect="pure", run="thread", timeout_ms=600_000, borrows=True
    ),
    "context_lines": CapabilityRecord("Passages as a model reads them.", context_lines, effect="pure"),
    "compose_brief": CapabilityRecord("Write the brief.", compose_brief, effect="pure", run="thread"),
}

_SUMMARISE = "Summarise this file in two sentences, each with its source as [source:line], and write nothing else.\n\n"
_ANSWER = (
    "Question: {question}\n\nAnswer from the passages below only. Give the source of every "
    "statement as [source:line]. Say what the passages leave open.\n\n{passages}\n{earlier}"
)


def _brief() -> Graph:
    graph = Graph("brief", metadata={"description": "answers a question from a folder of notes, with sources"})
    folder, question = graph.param("folder"), graph.param("question")
    place = graph.inv("absolute_folder", folder=folder, name="place")
    listed = graph.inv("list", path=place, patterns=["*.md", "*.txt"], name="list")
    files = graph.guard(
        listed,
        condition="not_empty",
        error_message="there is no *.md or *.txt file beneath {folder}",
        folder=folder,
        name="files",
    )
    notes = graph.map(files, window=32, name="notes")
    with notes as path:
        text = graph.inv("read", path=path, name="read")
        file = graph.inv("split_passages", text=text, path=path, name="split")
        key = graph.inv("memory_key", place=place, what=path, arg_kind="summary", name="key")
        kept = graph.qmem(key=key, memory_tier="ltm", name="kept")
        known = graph.branch_on_value(
            graph.inv("remembered_summary", file=file, kept=kept, name="remembered"), condition="not_empty", name="known"
        )
        lead = graph.inv("lead_lines", file=file, on=(known, "false"), name="lead")
        made = graph.ask(_SUMMARISE + "{lead}", lead=lead, fallback="", name="summarise")
        keep = graph.inv("summary_to_keep", file=file, summary=made, name="to_keep")
        graph.umem(key, keep, memory_tier="ltm", name="keep")
        summary = graph.merge(known.on("true"), made, mode="any", name="summary")
        note = graph.inv("summarised", file=file, summary=summary, name="note")
        failure = graph.merge(text.on("error"), file.on("error"), mode="any", name="failure")
        skipped = graph.inv("unusable", path=path, error=failure, name="skipped")
        graph.yield_(graph.merge(note, skipped, mode="any", name="either"), name="file")
    ranked = graph.inv("rank_passages", question=question, notes=notes, name="rank")
    passages = graph.inv("context_lines", ranked=ranked, name="passages")
    found = graph.branch_on_value(passages, condition="not_empty", name="found")
    entries = graph.qmem(query=question, memory_tier="ltm", where={"kind": "answer"}, limit=20, min_score=0.2, name="before")
    earlier = graph.inv("still_true", place=place, question=question, entries=entries, notes=notes, name="earlier")
    lines = graph.inv("earlier_lines", earlier=earlier, name="lines")
    asked = graph.ask(_ANSWER, passages=found.on("true"), question=question, earlier=lines, name="answer")
    keep = graph.inv(
        "answer_to_keep", place=place, question=question, answer=asked, notes=notes, ranked=ranked, name="answer_to_keep"
    )
    key = graph.inv("memory_key", place=place, what=question, arg_kind="answer", name="answer_key")
    graph.umem(key, keep, memory_tier="ltm", name="keep_answer")
    nothing = graph.const_str("No passage of these files has the words of the question.", on=(found, "false"), name="nothing")
    answer = graph.merge(asked, nothing, mode="any", name="either")
    text = graph.inv(
        "compose_brief",
        folder=folder,
        question=question,
        answer=answer,
        notes=notes,
        ranked=ranked,
        earlier=earlier,
        name="compose",
    )
    graph.return_(text, name="brief")
    return graph


BRIEF = _brief()
