"""What a condition says about a value: the grammar of GUARD, BRANCH_ON_VALUE, LOOP. Never guesses: unknown text is refused.

    not_empty  is_empty  is_null  not_null  is_true | true  is_false | false
    == LITERAL   != LITERAL   < NUMBER   <= NUMBER   > NUMBER   >= NUMBER
    len == N  (and the other five)
    contains LITERAL   matches PATTERN

A LITERAL is JSON, or text in single quotes, or bare text. Equality is JSON equality (true is not 1, "true" is not true,
1 is 1.0), with one addition for the texts that models write: a number compares with a text that is nothing but a number
as if the text were that number (`>= 0.5` holds for "0.8"; to compare texts, quote: `== "0.8"`). Booleans are no numbers.
Empty are null, "", [], {}, and bytes or arrays without elements. `contains` looks for a text in a text, an equal element
in a list, a key in a map. `matches` searches a text with RE2. A value of another kind makes a condition false, also a
negated one: `len != 3` is false for 7; `!= 3` is true for "a", since those two are not equal.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from apxm.errors import InvalidError
from apxm.graph.template import as_text
from apxm.values import same

Test = Callable[[Any], bool]


class ConditionError(InvalidError, ValueError):
    """A text that is no condition."""

    default_code = "graph.condition"


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition."""

    text: str
    test: Test = field(repr=False, compare=False)  # whether it holds for a value


def _is_empty(value: Any) -> bool:
    if value is None:
        return True
    length = _length(value)
    return length == 0


def _length(value: Any) -> int | None:
    if isinstance(value, (str, bytes, list, tuple, dict)):
        return len(value)
    shape = getattr(value, "shape", None)  # an array or a tensor; a zero-dimensional one has no length
    return int(shape[0]) if shape else None


_WORDS: dict[str, Test] = {
    "not_empty": lambda value: not _is_empty(value),
    "is_empty": _is_empty,
    "is_null": lambda value: value is None,
    "not_null": lambda value: value is not None,
    "is_true": lambda value: value is True,
    "true": lambda value: value is True,
    "is_false": lambda value: value is False,
    "false": lambda value: value is False,
}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPARISON = re.compile(r"(==|!=|<=|>=|<|>)\s*(.*)", re.DOTALL)
_PREFIXED = re.compile(r"(len|contains|matches)\b\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"\s*-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?\s*\Z", re.ASCII)
_TEXT_MAX = 10_000  # a longer condition is no condition a person wrote


@lru_cache(maxsize=1024)
def parse(text: str) -> Condition:
    """Parse a condition; raises ConditionError with what was expected."""
    if len(text) > _TEXT_MAX:
        raise ConditionError(f"a condition of {len(text)} characters, expected at most {_TEXT_MAX}")
    bare = text.strip()
    if bare in _WORDS:
        return Condition(bare, _WORDS[bare])
    compared = _COMPARISON.match(bare)
    if compared:
        return Condition(bare, _comparison(compared[1], compared[2].strip(), bare))
    prefixed = _PREFIXED.match(bare)
    if prefixed is None:
        raise ConditionError(f"`{bare}` is no condition", hint=_suggestion(bare))
    word, rest = prefixed[1], prefixed[2].strip()
    if not rest:
        raise ConditionError(f"`{bare}` has nothing after `{word}`", hint=f"write `{word} {'>= 3' if word == 'len' else 'word'}`")
    return Condition(bare, {"len": _len, "contains": _contains, "matches": _matches}[word](rest, bare))


def _suggestion(text: str) -> str:
    known = [*_WORDS, "len >= 1", "contains word", "matches pattern"]
    close = get_close_matches(text.split(" ")[0], known, n=1)
    words = ", ".join(word for word in _WORDS if "_" in word)
    listed = f"expected one of {words}, `== < > ...` and a literal, len, contains, matches"
    return f"{listed}; close: `{close[0]}`" if close else listed


def _literal(text: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _number(value: Any) -> int | float | None:
    """The number that a value is or, as text, spells; None for everything else, booleans included."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 64 and _NUMBER.match(value):
        return float(value) if any(mark in value for mark in ".eE") else int(value)
    return None


def _comparison(sign: str, rest: str, whole: str) -> Test:
    if not rest:
        raise ConditionError(f"`{whole}` compares with nothing", hint=f"write `{sign} 3`")
    literal = _literal(rest)
    if isinstance(literal, (int, float)) and not isinstance(literal, bool):
        return _numeric(sign, literal)
    if sign in ("==", "!="):
        wanted = sign == "=="
        return lambda value: same(value, literal) is wanted
    raise ConditionError(f"`{whole}` orders by something that is no number", hint="only == and != compare other values")


def _numeric(sign: str, literal: float) -> Test:
    holds, otherwise = _ORDER[sign], sign == "!="

    def test(value: Any) -> bool:
        number = _number(value)
        return otherwise if number is None else bool(holds(number, literal))

    return test


def _len(rest: str, whole: str) -> Test:
    compared = _COMPARISON.match(rest)
    literal = _literal(compared[2].strip()) if compared else None
    if compared is None or type(literal) is not int:
        raise ConditionError(f"`{whole}` does not compare the length with an int", hint="write `len >= 3`")
    holds, bound = _ORDER[compared[1]], literal

    def test(value: Any) -> bool:
        length = _length(value)
        return length is not None and holds(length, bound)

    return test


def _contains(rest: str, whole: str) -> Test:
    literal = _literal(rest)
    text = as_text(literal)

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return text in value
        if isinstance(value, (list, tuple)):
            return any(same(item, literal) for item in value)
        return isinstance(value, dict) and text in value

    return test


def _matches(rest: str, whole: str) -> Test:
    literal = _literal(rest) if rest[0] in "'\"" else rest
    found = pattern(literal if isinstance(literal, str) else rest)
    return lambda value: isinstance(value, str) and found.search(value) is not None


def pattern(text: str) -> Any:
    """A compiled RE2 pattern: linear in time whatever the text. Raises ConditionError."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ConditionError(f"RE2 refuses the pattern `{text}`: {said}") from error
