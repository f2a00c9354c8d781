"""How names, values, numbers and conditions are said in English sentences. Knows nothing of graphs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apxm.graph.template import Placeholder, as_text, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUOTED_MAX = 140  # characters of a text that are quoted
VALUE_MAX = 60  # of a value that stands between other words
LISTED_MAX = 6

TYPES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "json": "any value"}


@dataclass(frozen=True, slots=True)
class Value:
    """Something a step uses: as words of a sentence, and as it stands between braces in a quoted text.

    `of` is the node whose result it is, where it is one: so that several may be named together.
    """

    words: str
    short: str
    of: str | None = None


def name(text: str) -> str:
    """A name as it stands in a sentence."""
    flat = " ".join(text.split())
    return f"`{flat if len(flat) <= VALUE_MAX else flat[:VALUE_MAX] + '…'}`"


def result_of(node: str) -> Value:
    """What a node gives."""
    return Value(f"the result of {name(node)}", " ".join(node.split()), node)


def constant(value: Any) -> Value:
    """A value of the program itself: text in quotes, anything else as JSON."""
    text = as_text(value)
    if not text.strip() or text in ("[]", "{}"):
        return Value({"[]": "an empty list", "{}": "an empty map"}.get(text, "an empty text"), text)
    return Value(quoted(value, VALUE_MAX) if isinstance(value, str) else shortened(text, VALUE_MAX), shortened(text, VALUE_MAX))


def several(values: Sequence[Value], word: str = "and") -> str:
    """Values one after the other; results of several nodes are named together."""
    nodes = [value.of for value in values if value.of is not None]
    if len(nodes) < 2:
        return listed([value.words for value in values], word)
    together = f"the {'results' if word == 'and' else 'result'} of {listed([name(node) for node in nodes], word)}"
    return listed([together, *(value.words for value in values if value.of is None)], word)


def listed(words: Sequence[str], word: str = "and", most: int = LISTED_MAX) -> str:
    """`a, b and c`; past `most` only how many more there are."""
    if len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most:,} more"]
        word = "and"
    return f"{', '.join(words[:-1])} {word} {words[-1]}" if len(words) > 1 else "".join(words)


def shortened(text: str, most: int = QUOTED_MAX) -> str:
    """A text on one line of at most so many characters, cut between words where that is possible."""
    flat = " ".join(text.split())
    if len(flat) <= most:
        return flat
    cut = flat[:most].rpartition(" ")[0]
    return (cut if len(cut) > most // 2 else flat[:most]).rstrip(" ,;:.-—") + " …"


def quoted(text: str, most: int = QUOTED_MAX) -> str:
    """A text between quotation marks, shortened."""
    return f"“{shortened(text, most)}”"


def template(text: str, look: Callable[[Placeholder], str]) -> str:
    """A quoted template; `look` says what stands in the braces of a placeholder."""
    parts = (part if isinstance(part, str) else f"{{{look(part)}}}" for part in parse(text).segments)
    return quoted("".join(parts))


def count(number: int, one: str, many: str | None = None) -> str:
    """`one call`, `3 calls`."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    said = words[number] if 0 <= number < len(words) else f"{number:,}"
    return f"{said} {one if number == 1 else many or one + 's'}"


def duration(ms: float) -> str:
    """`200 ms`, `5 s`, `2 min`."""
    if ms < 1_000:
        return f"{ms:g} ms"
    seconds = ms / 1_000
    return f"{seconds:g} s" if seconds < 120 or seconds % 60 else f"{seconds / 60:g} min"


def begins(sentence: str) -> str:
    """With a capital letter."""
    return sentence[:1].upper() + sentence[1:]


# ---- conditions ------------------------------------------------------------------------------------------------------
_STATES = {
    "not_empty": "is not empty",
    "is_empty": "is empty",
    "is_null": "is null",
    "not_null": "is not null",
    "is_true": "is true",
    "true": "is true",
    "is_false": "is false",
    "false": "is false",
}
_SIGNS = {
    "==": "is",
    "!=": "is not",
    "<": "is less than",
    "<=": "is at most",
    ">": "is more than",
    ">=": "is at least",
}
_LENGTHS = {"==": "of", "!=": "other than", "<": "below", "<=": "of at most", ">": "above", ">=": "of at least"}
_COMPARED = re.compile(r"(==|!=|<=|>=|<|>)\s*(.*)", re.DOTALL)
_LEADING = re.compile(r"(len|contains|matches)\b\s*(.*)", re.DOTALL)


def condition(text: str) -> str:
    """What a condition says of its value, as a predicate: `is not empty`, `is at least 3`, `has a length of 2`."""
    bare = text.strip()
    if bare in _STATES:
        return _STATES[bare]
    if compared := _COMPARED.match(bare):
        return f"{_SIGNS[compared[1]]} {_literal(compared[2])}"
    if leading := _LEADING.match(bare):
        word, rest = leading[1], leading[2].strip()
        if word == "len" and (compared := _COMPARED.match(rest)):
            return f"has a length {_LENGTHS[compared[1]]} {compared[2].strip()}"
        return f"{word} {_literal(rest)}" if word == "contains" else f"matches the pattern {quoted(rest, VALUE_MAX)}"
    return f"satisfies {quoted(bare, VALUE_MAX)}"


def _literal(text: str) -> str:
    bare = text.strip()
    if re.fullmatch(r"-?\d+(\.\d+)?|true|false|null|\[.*\]|\{.*\}", bare, re.DOTALL):
        return shortened(bare, VALUE_MAX)
    return quoted(bare.strip("'\""), VALUE_MAX)
