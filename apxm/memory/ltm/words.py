"""How a query becomes one for the index of words: which of its words are asked for, and how. Reads counts only; ranks nothing.

Rating a match costs about a microsecond, so that words that nearly everything has would cost more than all the rest of a search,
and decide next to nothing. So the rare words of a query find the candidates, and of the common ones only all of them together.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apxm.llm.text import STOP_WORDS, stem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from apxm.memory.ltm.passing import Passed

    Rated: TypeAlias = list[tuple[str, float]]  # an id, and its BM25: the best first
    Ask = Callable[[str, Sequence[Any]], list[Any]]  # a statement and what it binds: its rows

TERMS_MAX = 32  # of a query, by their words; the others are left out
PHRASE_MAX = 6  # words in a row that are looked for: a name, a title, a message. Who says more is found by words and vector
MATCHES_MAX = 1_000  # that the rare words of a query may have together
TRUNK_LEAST = 4  # letters of a word whose other forms are found too
_WORDS = re.compile(r"[^\x00-\x20\x7f!-/:-@\[-`{-~]+")  # the tokenizer of SQLite decides on what is not ASCII
_RATED = """SELECT e.id, -found.score FROM (
    SELECT rowid AS place, bm25(words, 0.0, 1.0, 1.0) AS score FROM words WHERE words MATCH ? ORDER BY score, place LIMIT ?
) found CROSS JOIN entries e ON e.place = found.place
WHERE (e.expires_at IS NULL OR e.expires_at > ?) AND (? IS NULL OR e.kind = ?) ORDER BY found.score, found.place LIMIT ?"""
_PLACES = """SELECT rowid, -bm25(words, 0.0, 1.0, 1.0) AS score FROM words WHERE words MATCH ?
ORDER BY score DESC, rowid LIMIT ?"""
_LIVES = "SELECT id FROM entries WHERE place = ? AND (expires_at IS NULL OR expires_at > ?) AND (? IS NULL OR kind = ?)"
_HAVING = """SELECT e.id FROM words CROSS JOIN entries e ON e.place = words.rowid
WHERE words MATCH ? AND (e.expires_at IS NULL OR e.expires_at > ?) AND (? IS NULL OR e.kind = ?) ORDER BY words.rowid LIMIT ?"""


@dataclass(frozen=True, slots=True)
class Space:
    """The namespace that is searched: its number, or None where there is but one.

    `counts` are how many entries have a term, as far as that was asked since the last write.
    """

    number: int | None
    counts: dict[str, int]


def rated(ask: Ask, space: Space, query: str, limit: int, kind: str | None, now: float) -> Rated:
    """(id, BM25) of the living entries of a namespace with words of `query`, the best first, of equals the older."""
    asked = words_of(query)
    if not asked:
        return []
    match = _match(space, _candidates(ask, space, asked, limit))
    most = limit
    while True:
        rows = ask(_RATED, (match, most, now, kind, kind, limit))
        if len(rows) == limit or _count(ask, match, most + 1) <= most:
            return rows
        most *= 4  # some of the best are not alive, or of another kind


def rated_among(
    ask: Ask, space: Space, query: str, limit: int, kind: str | None, now: float, passed: Passed
) -> tuple[Rated, Rated, bool]:
    """The same, of the `limit` best only those that passed a filter; the best of all, if any; and whether there are no others.

    Who passed is known by its place. To ask the rows of all others who they are would take most of the time.
    """
    asked = words_of(query)
    if not asked:
        return [], [], True
    rows = ask(_PLACES, (_match(space, _candidates(ask, space, asked, limit)), limit))
    best: Rated = next(([(id, score)] for place, score in rows for (id,) in ask(_LIVES, (place, now, kind, kind))), [])
    return passed.living(rows, now), best, len(rows) < limit


def in_a_row(ask: Ask, space: Space, query: str, limit: int, kind: str | None, now: float) -> list[str]:
    """The ids of living entries that have all the words of `query` one after the other, the older first."""
    said = _said(query)
    if not 1 < len(said) <= PHRASE_MAX:
        return []
    rows = ask(_HAVING, (_match(space, f'"{" ".join(said)}"'), now, kind, kind, limit))
    return [id for (id,) in rows]


def words_of(query: str) -> list[str]:
    """The words that a query asks for, each once: without those that say nothing, unless there are no others."""
    said = list(dict.fromkeys(_said(query)))
    return ([word for word in said if word not in STOP_WORDS] or said)[:TERMS_MAX]


def _said(query: str) -> list[str]:
    return _WORDS.findall(unicodedata.normalize("NFC", query.encode("utf-8", "replace").decode()).casefold())


def _candidates(ask: Ask, space: Space, asked: Sequence[str], limit: int) -> str:
    """What finds the candidates: any of the rare words, and where those have too few, all of the common ones together.

    Where all words are common and too few entries have all of them, the first word alone.
    """
    terms = [term_of(word) for word in asked]
    if len(terms) == 1:
        return terms[0]
    counts = _counts(ask, space, terms)
    rare: list[str] = []
    matches = 0
    by_count = sorted(range(len(terms)), key=lambda place: (counts[place], place))
    for place in by_count:
        if matches + counts[place] > MATCHES_MAX:
            break
        matches += counts[place]
        rare.append(terms[place])
    common = " AND ".join(terms[place] for place in by_count[len(rare) :])
    if common and matches < limit:
        if not rare and _count(ask, _match(space, common), limit) < limit:
            return terms[by_count[0]]
        rare.append(f"({common})")
    return " OR ".join(rare)


def _counts(ask: Ask, space: Space, terms: Sequence[str]) -> list[int]:
    """How many entries have each term, as far as that matters."""
    matches = [_match(space, term) for term in terms]
    unknown = [match for match in matches if match not in space.counts]
    if unknown:
        one = f"(SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT {MATCHES_MAX + 1}))"
        rows = ask(f"SELECT {', '.join([one] * len(unknown))}", unknown)
        space.counts.update(zip(unknown, rows[0], strict=True))
    return [space.counts[match] for match in matches]


def _count(ask: Ask, match: str, most: int) -> int:
    return int(ask("SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)", (match, most))[0][0])


def _match(space: Space, wanted: str) -> str:
    words = f"{{key text}} : ({wanted})"
    return words if space.number is None else f'space : "{space.number}" AND {words}'


def term_of(word: str) -> str:
    """A word, and with it the other forms that begin with its trunk."""
    trunk = stem(word)
    if word.isascii() and len(trunk) > TRUNK_LEAST and trunk[-1] in "iy":  # study, studies
        trunk = trunk[:-1]
    return f'"{trunk}"*' if len(trunk) >= TRUNK_LEAST else f'"{word}"'
