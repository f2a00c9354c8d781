"""How well an entry of memory answers a query, by its words. Pure; nothing here knows what a vector is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from apxm.values import same

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_CHARS_MAX = 4_000  # of one value that a search reads: bounds a search over a full memory to a fraction of a second
QUERY_CHARS_MAX = 4_000  # of a query that are read, and the terms that are looked for: the others are left out
TERMS_MAX = 64

KEY_IS, KEY_HAS, TEXT_HAS = 1.0, 0.9, 0.6  # the whole query is the key, is in the key, is in the text
TERM_IN_KEY, TERM_IN_TEXT = 0.85, 0.6  # one term of the query; the score is their mean over the terms

_WORD_START = r"(?<![^\W_])"


class Query:
    """A search for words; `score` rates one entry from 0 (nothing in common) to 1 (the query is the key)."""

    def __init__(self, text: str) -> None:
        from apxm.llm.text import terms  # here, so that a run that never searches does not load it

        self._terms_of, text = terms, text[:QUERY_CHARS_MAX]
        self.whole = " ".join(text.casefold().split())
        self.terms = tuple(dict.fromkeys(terms(text) or text.casefold().split()))[:TERMS_MAX]
        self._trunks = {term: term[:-1] if len(term) > 3 and term[-1] in "iy" else term for term in self.terms}
        self.trunks = tuple(self._trunks.values())  # what the words of a text begin with that it finds
        self._begins = re.compile(rf"{_WORD_START}{re.escape(self.whole)}")
        longest_first = sorted(map(re.escape, self._trunks.values()), key=len, reverse=True)
        self._pattern = re.compile(rf"{_WORD_START}(?:{'|'.join(longest_first)})") if longest_first else None

    def score(self, key: str, value: Any) -> float:
        if self._pattern is None:
            return 0.0
        name = key.casefold()
        if name == self.whole:
            return KEY_IS
        if self.whole in name:
            return KEY_HAS
        text = text_of(value).casefold()
        found = TEXT_HAS if self._begins.search(text) else 0.0
        in_key = set(self._terms_of(key))
        in_text = set(self._pattern.findall(text))
        gained = sum(
            TERM_IN_KEY if term in in_key else TERM_IN_TEXT if trunk in in_text else 0.0 for term, trunk in self._trunks.items()
        )
        return round(max(found, gained / len(self.terms)), 4)


def text_of(value: Any, chars_max: int = TEXT_CHARS_MAX) -> str:
    """The strings inside a value, map keys included, up to a limit."""
    if type(value) is str:
        return value[:chars_max]
    parts: list[str] = []
    left = chars_max
    for part in _strings(value):
        parts.append(part[:left])
        left -= len(parts[-1]) + 1
        if left <= 0:
            break
    return "\n".join(parts)


def _strings(value: Any) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif type(value) is list:
        for item in value:
            yield from _strings(item)
    elif type(value) is dict:
        for key, item in value.items():
            yield key
            yield from _strings(item)


def fits(value: Any, where: Mapping[str, Any] | None) -> bool:
    """Whether a value is a map with these fields: equal to what they name, or as the conditions say that `ltm.where` knows."""
    if not where:
        return True
    if type(value) is not dict:
        return False
    conditions = {field: wanted for field, wanted in where.items() if _is_condition(field, wanted)}
    if any(field not in value or not same(value[field], where[field]) for field in where.keys() - conditions.keys()):
        return False
    return not conditions or _meets(value, conditions)


def _is_condition(field: str, wanted: Any) -> bool:
    return field.startswith("$") or (isinstance(wanted, Mapping) and any(name.startswith("$") for name in wanted))


def _meets(value: dict[str, Any], conditions: Mapping[str, Any]) -> bool:
    from apxm.memory.ltm import where as filters

    filters.refuse_unfit(conditions)
    return filters.fits(value, conditions)
