"""What a text is made of: words, stems, and the sentences of Markdown with their lines. Pure; every pattern here is linear."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

SENTENCE_CHARS_MAX = 2_000  # a longer run without an end is cut into pieces of this size
CLAUSE_CHARS = 280  # a longer sentence is split at its semicolons, so that a quote stays a quote
CLAUSE_CHARS_MIN = 40
FRONT_MATTER_LINES_MAX = 200

# Words that say nothing about the subject of a sentence.
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about above after again against all also am an and any are aren as at be because been before being below between both
    but by can cannot could couldn did didn do does doesn doing don down during each either else ever every few for from further
    had hadn has hasn have haven having he hence her here hers herself him himself his how however i if in into is isn it its
    itself just let ll me might more most must my myself neither no nor not of off on once only or other otherwise our ours
    ourselves out over own per rather re same shall she should shouldn since so some such than that the their theirs them
    themselves then there therefore these they this those though through thus to too under until up upon us ve very via was
    wasn we were weren what when where whether which while who whom whose why will with within without won would wouldn yet
    you your yours yourself yourselves""",
    )
)

# Longer ones first. "ing" and "ed" may leave three letters, the others four.
_SUFFIXES = re.findall(r"\w+", "ations ation ingly edly able ible ment ness ure ate ing ion ed ly er or")
_WORD = re.compile(r"\w+")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_a-zA-Z0-9]+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]")  # scripts written without spaces: pairs of signs stand for words

_END = re.compile(r"""(?<![.!?…])[.!?…]++[)"'”’\]*_`]*+\s++|[。！？]++""")
_LAST_WORD = re.compile(r"[^\W_][\w.]*$")
_ABBREVIATIONS = frozenset(
    re.findall(
        r"[\w.]+",
        "al approx art ca cf ch co corp dept dr e.g ed eq eqs esp est etc fig figs i.e inc jr ltd max min mr mrs ms no nos p pp "
        "prof resp sec secs sr st tab vol vs",
    )
)
_OPENERS = frozenset("\"'`([*_“‘«")

_HEADING = re.compile(r"#{1,6}(?:\s+|$)")
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?")
_DEFINITION = re.compile(r"\[[^\[\]\n]{1,200}\]:\s")
_ADMONITION = re.compile(r"\[![A-Za-z]{1,20}\]\s*$")
_IMAGE = re.compile(r"!\[[^\[\]]{0,300}\](?:\([^()\n]{0,1000}\)|\[[^\[\]]{0,200}\])")
_LINK = re.compile(r"\[([^\[\]]{1,300})\](?:\([^()\n]{0,1000}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\)|\[[^\[\]]{0,200}\])")
_ADDRESS = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,1000})>")
_TAG = re.compile(
    r"</?(?:a|abbr|b|br|center|code|details|div|em|font|h[1-6]|hr|i|img|kbd|li|ol|p|picture|pre|small|source|span|strong|sub|"
    r"summary|sup|table|tbody|td|th|thead|tr|u|ul)(?:\s[^<>]{0,500})?/?>",
    re.IGNORECASE,
)
_MARKUP = frozenset("<*\\&")
_EMPHASIS = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*]{1,300})(?<=\S)\*(?![\w*])")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|<>~])")


def estimate_tokens(text: str) -> int:
    """Tokens of `text`, estimated upwards for prose: four ASCII characters each, two bytes of anything else."""
    if text.isascii():
        return math.ceil(len(text) / 4)
    narrow = len(text.encode("ascii", "ignore"))
    return math.ceil(narrow / 4 + (len(text.encode("utf-8", "surrogatepass")) - narrow) / 2)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The trunk that the common forms of an English word share; not a word itself. Other words stay as they are."""
    if len(word) <= 3 or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith(("ies", "ied")) and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= (3 if suffix in ("ing", "ed") else 4):
            word = word[: -len(suffix)]
            break
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    if word.endswith("at") and len(word) > 5:  # what "-ated" and "-ating" leave
        word = word[:-2]
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou" else word


@lru_cache(maxsize=1 << 16)
def _terms_of(word: str) -> tuple[str, ...]:
    lower = word.lower()
    if lower in STOP_WORDS or (len(word) == 1 and not word.isdigit() and word.isascii()):
        return ()
    if _UNSPACED.search(word):
        return tuple(word[i : i + 2] for i in range(max(1, len(word) - 1)))
    whole = stem(lower.strip("_"))
    parts = _PARTS.findall(word)
    if len(parts) < 2:
        return (whole,) if whole else ()
    named = (stem(part.lower()) for part in parts if len(part) > 1 and part.lower() not in STOP_WORDS)
    return (whole, *(part for part in named if part != whole))


def terms(text: str) -> list[str]:
    """The stems of the words of a text that carry meaning, in order; `snake_case` and `CamelCase` also give their parts."""
    return list(chain.from_iterable(map(_terms_of, _WORD.findall(text))))


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence as it can be quoted: markup removed, on one line. `line` is where it begins in the source.

    `heading` is the heading it stands under, `position` its place in its paragraph, and `tabular` is True for the row of
    a table, whose cells are then joined by dashes.
    """

    text: str
    line: int
    heading: str = ""
    position: int = 0
    tabular: bool = False


def split(text: str) -> list[tuple[int, str]]:
    """The sentences of plain text, each with its offset. Abbreviations and initials end none."""
    found: list[tuple[int, str]] = []
    start = 0
    for end in _END.finditer(text):
        if _ends(text, end):
            found.append((start, text[start : end.end()]))
            start = end.end()
    found.append((start, text[start:]))
    return [piece for whole in found for piece in _clauses(*whole)]


def _ends(text: str, end: re.Match[str]) -> bool:
    at = end.end()
    if at >= len(text) or text[end.start()] in "。！？":
        return True
    follower = text[at]
    if not (follower.isupper() or follower.isdigit() or follower in _OPENERS or _UNSPACED.match(follower)):
        return False
    mark = end.group()
    if mark[0] == "…" or mark.startswith(".."):  # mostly something left out; an end only when a new sentence is plain to see
        return mark[-2] in ".…" and follower.isupper()
    if mark[0] != ".":
        return True
    word = _LAST_WORD.search(text, max(0, end.start() - 20), end.start())
    if word is None:
        return True
    last = word.group()
    return not (last.lower() in _ABBREVIATIONS or (len(last) == 1 and last.isalpha() and last.isupper() and last != "I"))


def _clauses(start: int, text: str) -> list[tuple[int, str]]:
    """A sentence that is too long, in pieces; any other as it is."""
    if len(text) <= CLAUSE_CHARS:
        return [(start, text)]
    pieces: list[tuple[int, str]] = []
    begin = 0
    while len(text) - begin > CLAUSE_CHARS:
        at = text.find("; ", begin + CLAUSE_CHARS_MIN)
        if at < 0 or len(text) - at < CLAUSE_CHARS_MIN:
            break
        pieces.append((start + begin, text[begin : at + 1]))
        begin = at + 2
    while begin < len(text):
        pieces.append((start + begin, text[begin : begin + SENTENCE_CHARS_MAX]))
        begin += SENTENCE_CHARS_MAX
    return pieces


def plain(text: str) -> str:
    """One sentence without its Markdown: links and images reduced to their text, no emphasis, no tags, one line."""
    if "[" in text:
        text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    if not _MARKUP.isdisjoint(text):
        pieces = text.split("`")
        pieces[::2] = [_plain_prose(piece) for piece in pieces[::2]]
        text = "`".join(pieces)
    return " ".join(text.split())


def _plain_prose(text: str) -> str:
    if "<" in text:
        text = _TAG.sub("", _ADDRESS.sub(r"\1", text))
    return html.unescape(_ESCAPE.sub(r"\1", _EMPHASIS.sub(r"\1", text.replace("**", ""))))


class _Reader:
    """Cuts Markdown into blocks line by line, and blocks into sentences."""

    def __init__(self, line: int) -> None:
        self.sentences: list[Sentence] = []
        self.heading = ""
        self.line = line
        self.block: list[str] = []
        self.block_line = line
        self.fence: str | None = None
        self.comment = False
        self.table = False
        self.listed = False

    def close(self) -> None:
        """End the block that is open."""
        if not self.block:
            return
        text, self.block = "\n".join(self.block), []
        line, counted = self.block_line, 0
        for position, (offset, piece) in enumerate(split(text)):
            begin = offset + len(piece) - len(piece.lstrip())
            line, counted = line + text.count("\n", counted, begin), begin
            self.add(piece, line, position)

    def add(self, text: str, line: int, position: int = 0, tabular: bool = False) -> None:
        quoted = plain(text)
        if quotable(quoted):
            self.sentences.append(Sentence(quoted, line, self.heading, position, tabular))

    def feed(self, raw: str) -> None:
        """One line of the source."""
        bare = raw.strip() if self.fence is not None else self._uncommented(raw).strip()
        if self.fence is not None or bare.startswith(("```", "~~~")):
            self._fenced(bare)
        elif not bare:
            self.close()
            self.table = False
        elif not self._structure(bare) and not self._row(bare):
            self._prose(raw, bare)
        self.line += 1

    def _fenced(self, bare: str) -> None:
        if self.fence is None:
            self.close()
            self.fence = bare[:3]
        elif bare.startswith(self.fence):
            self.fence = None

    def _uncommented(self, raw: str) -> str:
        if not self.comment and "<!--" not in raw:
            return raw
        kept: list[str] = []
        at = 0
        while at < len(raw):
            mark = raw.find("-->" if self.comment else "<!--", at)
            end = len(raw) if mark < 0 else mark
            if not self.comment:
                kept.append(raw[at:end])
            if mark >= 0:
                self.comment, end = not self.comment, mark + (3 if self.comment else 4)
            at = end
        return "".join(kept)

    def _structure(self, bare: str) -> bool:
        """Headings, rules, definitions of links: nothing to quote."""
        if bare[0] == "#" and (mark := _HEADING.match(bare)):
            self.close()
            self.heading, self.listed = plain(bare[mark.end() :].rstrip("#")), False
            return True
        if len(bare) > 1 and len(set(bare)) == 1 and bare[0] in "=-*_":
            if bare[0] in "=-" and len(self.block) == 1:
                self.heading, self.block = plain(self.block[0]), []
            self.close()
            return True
        return bare[0] == "[" and (_DEFINITION.match(bare) or _ADMONITION.match(bare)) is not None

    def _row(self, bare: str) -> bool:
        """A row of a table, from its separator on; the line before the separator was its head."""
        if "|" not in bare or bare.startswith("||"):
            self.table = False
            return False
        if "-" in bare and set(bare) <= set("|-:+ \t"):
            if not self.table and self.block:
                self.block.pop()
            self.close()
            self.table = True
            return True
        if self.table or (bare[0] == "|" and bare[-1] == "|" and len(bare) > 1):
            self.close()
            cells = [cell.replace("\0", "|").strip() for cell in bare.replace("\\|", "\0").strip("|").split("|")]
            if self.table:  # the head, before the separator, says nothing by itself
                self.add(" — ".join(cell for cell in cells if cell.strip("-—–")), self.line, tabular=True)
            return True
        return False

    def _prose(self, raw: str, bare: str) -> None:
        if raw.startswith(("    ", "\t")) and not self.block and not self.listed:
            return  # indented code
        if bare[0] == ">":
            bare = bare.lstrip("> \t")
            if not bare:
                self.close()
                return
        if _ADMONITION.match(bare):
            return
        if mark := _ITEM.match(bare):
            self.close()
            self.listed = True
            bare = bare[mark.end() :]
        elif not self.block and not raw[:1].isspace():
            self.listed = False
        if not self.block:
            self.block_line = self.line
        self.block.append(bare)


def quotable(text: str) -> bool:
    """Whether a piece of text reads as a sentence: four words or more, mostly letters."""
    letters = sum(map(str.isalpha, text))
    if letters < 12 and not (letters >= 6 and _UNSPACED.search(text)):
        return False
    inked = len(text) - text.count(" ")
    return letters >= 0.6 * inked and (text.count(" ") >= 3 or _UNSPACED.search(text) is not None)


def sentences(text: str, line: int = 1) -> list[Sentence]:
    """The sentences of Markdown or plain text that begins at `line` of its source.

    Headings, code blocks, comments, rules, link definitions and the heads of tables give none; rows of tables are marked.
    """
    reader = _Reader(line)
    lines = text.split("\n")
    if line == 1 and lines[0].strip() == "---":
        end = next((i for i in range(1, min(len(lines), FRONT_MATTER_LINES_MAX)) if lines[i].strip() == "---"), 0)
        if end:
            reader.line, lines = end + 2, lines[end + 1 :]
    for raw in lines:
        reader.feed(raw)
    reader.close()
    return reader.sentences
