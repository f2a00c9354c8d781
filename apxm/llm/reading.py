"""What a prompt asks and what it gives to answer from: Request, Passage. Reads text only; ranks nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apxm.llm.base import Message

PASSAGES_MAX = 100_000  # what a prompt may hold; those past it are left out
NESTING_MAX = 20  # of JSON context
QUESTION_CHARS_MAX = 2_000  # a longer paragraph without a label is taken for context

_PASSAGE = re.compile(r"\[([^\[\]\n]{1,500}):(\d{1,9})\](?:[ \t]+(.*))?$")
_BLOCK = re.compile(r"Context (\d{1,6}):[ \t]?(.*)$")
_LABEL = re.compile(r"[*_#> ]{0,4}(?:question|query|task|instruction)\b[*_]{0,2}\s{0,2}:[*_]{0,2}\s*(.*)$", re.IGNORECASE)
_REPLY = re.compile(r"[*_#> ]{0,4}(?:answer|response|summary|reply)\b[*_]{0,2}\s{0,2}:[*_]{0,2}\s*$", re.IGNORECASE)
_TITLE = re.compile(
    r"[*_#> ]{0,4}(?:context|passages?|text|documents?|sources?|excerpts?|evidence|notes|facts|input)\b"
    r"[*_]{0,2}\s{0,2}:[*_]{0,2}\s*$",
    re.IGNORECASE,
)
_SUMMARISE = re.compile(
    r"\b(?:summari[sz]e|summari[sz]ing|summary|tl;?dr|sum up|gist|key points|main points|overview of)\b", re.IGNORECASE
)
_ASKS = re.compile(
    r"\s*(?:please\s+)?(?:who|what|when|where|which|why|how|is|are|does|do|did|can|could|should|was|were|answer|summari[sz]e|describe|"
    r"explain|list|name|compare|define|find|give|tell|show|write|extract|quote|using|based on|according to|read)\b",
    re.IGNORECASE,
)
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNT = re.compile(
    rf"\b({'|'.join(_NUMBERS)}|\d{{1,2}})\s+(?:\w{{1,20}}\s+)?(?:sentences?|quotes?|quotations?|bullets?|points?)\b",
    re.IGNORECASE,
)
_BARE = re.compile(r"\b(?:quotes only|only (?:the )?quotes|nothing else|no notice|without (?:a )?notice)\b", re.IGNORECASE)

_TEXT_KEYS = ("text", "content", "passage", "snippet", "quote", "summary", "body", "value")
_SOURCE_KEYS = ("source", "path", "file", "url", "title", "key", "name", "id")
_LINE_KEYS = ("line", "start_line", "lineno", "start")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document; its text begins at `line` of `source`."""

    source: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, what may be quoted, how many sentences are wanted (None: not said), and whether bare quotes are."""

    question: str
    passages: tuple[Passage, ...]
    summarise: bool = False
    count: int | None = None
    bare: bool = False


def read(messages: Sequence[Message]) -> Request:
    """The request in a conversation: the question of its last user turn, the context of all turns but the model's own."""
    question = ""
    passages: list[Passage] = []
    spoken: list[str] = []
    users = [message for message in messages if message.role == "user"]
    for message in messages:
        if message.role == "system":
            scan = _Scan(message.content)
            passages += scan.passages
            spoken.append(scan.before)
        elif message.role == "user":
            scan = _Scan(message.content)
            asked = scan.question(alone=len(users) == 1 and not passages)
            passages += scan.passages
            question = asked or question
            spoken.append(scan.before if scan.passages else asked)
    said = "\n".join([*spoken, question])
    summarise = not question.strip() or ("?" not in question and _SUMMARISE.search(question) is not None)
    return Request(question.strip(), tuple(passages[:PASSAGES_MAX]), summarise, _count(question), _BARE.search(said) is not None)


def passages_in(text: str, source: str) -> list[Passage]:
    """The passages of a text that is nothing but context: JSON, `[source:line]` passages, or all of it as one."""
    return (_json_passages(text.strip(), source) or list(_marked(text, source)))[:PASSAGES_MAX]


def _count(question: str) -> int | None:
    found = _COUNT.search(question)
    if found is None:
        return None
    word = found.group(1).lower()
    return max(1, min(20, int(word) if word.isdigit() else _NUMBERS.index(word) + 1))


@dataclass(slots=True)
class _Open:
    """A passage while its lines are read."""

    source: str
    line: int
    lines: list[str] = field(default_factory=list)
    block: bool = False  # opened by `Context N:`, so that its text may be JSON


class _Scan:
    """One message, read line by line into what is asked and what may be quoted."""

    def __init__(self, text: str) -> None:
        self.passages: list[Passage] = []
        self.outside: list[tuple[int, str]] = []  # lines that belong to no passage, numbered from 1
        self.before = ""
        self.labelled: str | None = None
        self._open: _Open | None = None
        self._asking: list[str] | None = None
        lines = [line.rstrip("\r") for line in text.split("\n")]
        while lines and (not lines[-1].strip() or _REPLY.match(lines[-1])):
            lines.pop()
        self._label = _label_line(lines)
        for number, line in enumerate(lines, 1):
            self._line(number, line)
        self._end_question()
        self._last = self._open
        self._end_passage()
        if not self.passages:
            self.before = "\n".join(line for _, line in self.outside)

    def _line(self, number: int, line: str) -> None:
        if line.startswith("[") and (passage := _PASSAGE.match(line)):
            self._begin(_Open(passage[1].strip(), int(passage[2]), [passage[3] or ""]))
        elif line.startswith("Context ") and (block := _BLOCK.match(line)):
            self._begin(_Open(f"context {block[1]}", 1, block=True))
            if inner := _PASSAGE.match(block[2]):
                self._begin(_Open(inner[1].strip(), int(inner[2]), [inner[3] or ""]))
            elif self._open is not None:
                self._open.lines.append(block[2])
        elif number == self._label and (label := _LABEL.match(line)):
            self._end_passage()
            self._asking = [label[1]]
        elif self._asking is not None:
            if line.strip():
                self._asking.append(line)
            else:
                self._end_question()
        elif self._open is not None:
            self._open.lines.append(line)
        elif found := _json_passages(line.strip(), "prompt"):
            self._opened()
            self.passages += found
        else:
            self.outside.append((number, line))

    def _opened(self) -> None:
        if not self.passages and self._open is None:
            self.before = "\n".join(line for _, line in self.outside)

    def _begin(self, opened: _Open) -> None:
        self._end_question()
        self._opened()
        self._end_passage()
        self._open = opened

    def _end_passage(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        found = _json_passages("\n".join(opened.lines).strip(), opened.source) if opened.block else []
        self.passages += found or _closed(opened)

    def _end_question(self) -> None:
        if self._asking is not None:
            text, self._asking = "\n".join(self._asking).strip(), None
            self.labelled = text or None

    def question(self, *, alone: bool) -> str:
        """What is asked. With `alone`, a message without marked context is divided into question and context here."""
        if self.labelled is not None:
            if not self.passages and alone:
                self._take_plain(self.outside)
            return self.labelled
        if not self.passages:
            return self._divide() if alone else self.before.strip()
        asked = self.before.strip()
        if not _has_request(asked):
            return self._handed_over() or self._trailing(required=bool(asked)) or asked
        return asked

    def _handed_over(self) -> str:
        """The one context block that is a question of one line: an input that the prompt builder appended."""
        found = [
            p for p in self.passages if p.source.startswith("context ") and p.text.strip().endswith("?") and "\n" not in p.text
        ]
        if len(found) != 1 or len(found[0].text) > QUESTION_CHARS_MAX:
            return ""
        self.passages.remove(found[0])
        return found[0].text.strip()

    def _trailing(self, *, required: bool) -> str:
        """The last paragraph after the last passage, if it asks; it is then no part of that passage."""
        last = self.passages[-1]
        head, gap, tail = last.text.rpartition("\n\n")
        if self._last is None or not gap or len(tail) > QUESTION_CHARS_MAX or "\n" in tail.strip():
            return ""
        asks = tail.rstrip().endswith("?") if required else tail.rstrip().endswith("?") or _ASKS.match(tail)
        if not asks:
            return ""
        self.passages[-1] = Passage(last.source, last.line, head)
        return tail.strip()

    def _divide(self) -> str:
        """Plain paragraphs: the first one that asks is the question, else the last one that does; the rest is context."""
        groups = _paragraphs(self.outside)
        if not groups:
            return ""
        if len(groups) == 1:
            group = groups[0]
            head = group[0][1].strip()
            if len(group) > 1 and (head.endswith((":", "?")) or _ASKS.match(head)):
                self._take_plain(group[1:])
                return head
            return "\n".join(line for _, line in group).strip()
        asked = 0 if _is_request(groups[0]) or not _is_request(groups[-1]) else len(groups) - 1
        self._take_plain([pair for i, group in enumerate(groups) if i != asked for pair in [*group, (group[-1][0] + 1, "")]])
        return "\n".join(line for _, line in groups[asked]).strip()

    def _take_plain(self, lines: Sequence[tuple[int, str]]) -> None:
        """Make lines outside of any passage the context; titles such as `Text:` are not part of it."""
        for group in _paragraphs(lines):
            kept = [(number, line) for number, line in group if not _TITLE.match(line)]
            if kept and not (len(kept) == 1 and kept[0][1].rstrip().endswith(":")):
                self.passages.append(Passage("prompt", kept[0][0], "\n".join(line for _, line in kept)))


def _has_request(text: str) -> bool:
    return "?" in text or _SUMMARISE.search(text) is not None


def _label_line(lines: Sequence[str]) -> int:
    """The number of the line whose label says where the question is; 0 when there is none.

    It stands before all passages, or, when what stands there asks nothing, after all of them and a blank line. A label
    amid passages is part of what they quote: a document may not ask in place of the prompt.
    """
    marked = [
        i for i, line in enumerate(lines) if line.startswith(("[", "Context ")) and (_PASSAGE.match(line) or _BLOCK.match(line))
    ]
    first, last = (marked[0], marked[-1]) if marked else (len(lines), 0)
    for i in range(first):
        if _LABEL.match(lines[i]):
            return i + 1
    if not _has_request("\n".join(lines[:first])):
        for i in range(len(lines) - 1, last, -1):
            if _LABEL.match(lines[i]) and not lines[i - 1].strip():
                return i + 1
    return 0


def _is_request(group: Sequence[tuple[int, str]]) -> bool:
    text = " ".join(line for _, line in group).strip()
    return len(text) < QUESTION_CHARS_MAX and (text.endswith(("?", ":")) or _ASKS.match(text) is not None)


def _paragraphs(lines: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    groups: list[list[tuple[int, str]]] = [[]]
    for number, line in lines:
        if line.strip():
            groups[-1].append((number, line))
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]


def _json_passages(text: str, source: str) -> list[Passage]:
    """The passages in a text that is JSON; none when it is not."""
    if not text.startswith(('["', "[{", "[[", '{"', '"', "[ ", "{ ", "[\n", "{\n")):
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return list(_flatten(value, source, 0))


def _flatten(value: Any, source: str, depth: int) -> Iterator[Passage]:
    if depth > NESTING_MAX:
        return
    if isinstance(value, str):
        yield from _marked(value, source)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _flatten(item, source if len(value) == 1 else f"{source}.{i + 1}", depth + 1)
    elif isinstance(value, dict):
        text = next((value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)), None)
        name = next((value[key] for key in _SOURCE_KEYS if isinstance(value.get(key), str)), None)
        if text is not None:
            line = next((value[key] for key in _LINE_KEYS if type(value.get(key)) is int), 1)
            yield from _marked(text, name or source, line)
        else:
            for key, item in value.items():
                yield from _flatten(item, key if isinstance(item, str) else source, depth + 1)


def _marked(text: str, source: str, line: int = 1) -> Iterator[Passage]:
    """A text that may itself hold `[source:line]` passages."""
    opened = _Open(source, line)
    for raw in text.split("\n"):
        if raw.startswith("[") and (passage := _PASSAGE.match(raw)):
            yield from _closed(opened)
            opened = _Open(passage[1].strip(), int(passage[2]), [passage[3] or ""])
        else:
            opened.lines.append(raw)
    yield from _closed(opened)


def _closed(opened: _Open) -> Iterator[Passage]:
    text = "\n".join(opened.lines).rstrip()
    if text:
        yield Passage(opened.source, opened.line, text)
