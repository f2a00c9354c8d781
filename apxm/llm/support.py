"""Whether a text says what a claim says, judged by words alone. It can see support; it never sees a contradiction.

A claim is supported when each of its sentences is: all its words that carry meaning stand, in their order, in one sentence of
the evidence, with the same numbers, and both have the same words that turn or weaken a statement (not, may, denies …).
Everything else is insufficient: other words may say the same, but to see that one has to understand them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from apxm.llm.reading import passages_in
from apxm.llm.text import plain, sentences, split, terms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STATEMENTS_MAX = 20  # of a claim
LINES_MAX = 20_000  # sentences of the evidence
TERMS_MIN = 2  # a statement of fewer words that carry meaning says too little to be recognised
QUOTE_CHARS_MAX = 300
SURE = 0.9  # words alone make nothing surer than this
NOTE = "Compared by words alone, by a model that does not reason."

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"\w+(?:['’]t\b)?")
_ITEM = re.compile(r"\s{0,20}(?:[-*+•]|\d{1,3}[.)])\s+")
_TURNING = frozenset(
    re.findall(
        r"\w+",
        """no not never none nobody nothing neither nor cannot without hardly scarcely barely rarely seldom may might could would
        should if unless whether perhaps maybe possibly probably likely unlikely almost nearly except allegedly supposedly
        reportedly false falsely untrue wrong wrongly incorrect myth rumour rumor hoax deny denies denied denying doubt doubts
        doubted refute refutes refuted dispute disputes disputed claim claims claimed allege alleges alleged pretend pretends
        pretended fail fails failed failing refuse refuses refused prevent prevents prevented stop stops stopped cease ceases
        ceased cancel cancels cancelled canceled lack lacks lacked avoid avoids avoided plan plans planned expect expects expected
        hope hopes hoped want wants wanted""",
    )
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """One sentence, as far as words go."""

    text: str
    place: str
    terms: tuple[str, ...]
    numbers: frozenset[str]
    turning: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Match:
    """How far one line supports one statement."""

    line: _Statement
    confirmed: bool
    share: float  # of the statement's terms, 0 to 1
    missing: tuple[str, ...]  # of its words, as they stand in it


def verdict(claim: str, evidence: str) -> dict[str, Any]:
    """{verdict, confidence, reasoning}, as far as words go: confirmed when strongly supported, else insufficient.

    The evidence is plain text or Markdown, passages `[source:line] text`, or JSON of either. The reasoning quotes it.
    """
    lines = list(islice(_lines(evidence), LINES_MAX))
    statements = [said for _, text in split(claim) if (said := _statement(text)).terms]
    if not lines or not statements or len(statements) > STATEMENTS_MAX:
        why = "There is no evidence to compare with." if not lines else "There is no claim that words alone can be compared with."
        return undecided(why)
    found = [_best(one, lines) for one in statements]
    quoted = " ".join(dict.fromkeys(f"“{_short(match.line.text)}” {match.line.place}" for match in found[:3] if match.share))
    if all(match.confirmed for match in found):
        return _said("confirmed", SURE, f"The evidence says it in the same words: {quoted}.")
    share = sum(match.share for match in found) / len(found)
    nearest = f" The nearest there is: {quoted}." if quoted else ""
    return _said("insufficient", round(max(0.1, 1 - share), 2), f"{_why(found)}{nearest}")


def undecided(why: str) -> dict[str, Any]:
    """The verdict where words have nothing to say."""
    return {"verdict": "insufficient", "confidence": 1.0, "reasoning": f"{why} This model only compares words."}


def _why(found: Sequence[_Match]) -> str:
    missing = list(dict.fromkeys(word for match in found for word in match.missing))
    if missing:
        return f"No one line of the evidence has all words of the claim; missing: {', '.join(missing[:8])}."
    return "The words are there, but in another order, with other numbers, or turned by words such as “not” or “may”."


def _said(name: str, confidence: float, reasoning: str) -> dict[str, Any]:
    return {"verdict": name, "confidence": confidence, "reasoning": f"{reasoning} {NOTE}"}


def _lines(evidence: str) -> Iterator[_Statement]:
    """Every sentence of the evidence, those too that are too short to be quoted elsewhere."""
    for passage in passages_in(evidence, "evidence"):
        seen: set[str] = set()
        for sentence in sentences(passage.text, passage.line):
            seen.add(sentence.text)
            yield _statement(sentence.text, f"[{passage.source}:{sentence.line}]")
        for number, raw in _alone(passage.text, passage.line):
            for _, piece in split(raw):
                if (text := plain(piece)) and text not in seen:
                    yield _statement(text, f"[{passage.source}:{number}]")


def _alone(text: str, line: int) -> Iterator[tuple[int, str]]:
    """The lines that are paragraphs or list items of their own: no sentence goes on from one into the next."""
    raws = text.split("\n")
    for at, raw in enumerate(raws):
        before = raws[at - 1] if at else ""
        after = raws[at + 1] if at + 1 < len(raws) else ""
        item = _ITEM.match(raw)
        if (item or not before.strip()) and (not after.strip() or _ITEM.match(after)):
            yield line + at, raw[item.end() :] if item else raw


def _statement(text: str, place: str = "") -> _Statement:
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text) if word != "May"]  # that is the month
    turning = {"not" if word.endswith("n't") else word for word in words if word in _TURNING or word.endswith("n't")}
    return _Statement(text.strip(), place, tuple(terms(text)), frozenset(_NUMBER.findall(text)), frozenset(turning))


def _best(statement: _Statement, lines: Sequence[_Statement]) -> _Match:
    """The line that supports a statement most, the first of equals."""
    wanted = frozenset(statement.terms)
    shares = [len(wanted.intersection(line.terms)) / len(wanted) for line in lines]
    most = max(shares)
    full = [line for line, share in zip(lines, shares) if share == most]
    line = next((line for line in full if most == 1 and _same(statement, line)), full[0])
    missing = tuple(word for word in _WORD.findall(statement.text) if not set(terms(word)) <= set(line.terms))
    return _Match(line, most == 1 and _same(statement, line), most, missing)


def _same(statement: _Statement, line: _Statement) -> bool:
    """The words of a statement in their order, its numbers, and no word more or less that turns it."""
    left = iter(line.terms)
    in_order = all(term in left for term in statement.terms)
    counted = statement.numbers <= line.numbers and statement.turning == line.turning
    return in_order and counted and len(statement.terms) >= TERMS_MIN


def _short(text: str) -> str:
    return text if len(text) <= QUOTE_CHARS_MAX else f"{text[: QUOTE_CHARS_MAX - 1]}…"
