"""What values, texts and conditions mean, written a second time for the oracle and kept as plain as possible."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apxm.testing.readgraph import PLACEHOLDER

if TYPE_CHECKING:
    from apxm.testing.readgraph import ReadNode

_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class Trouble(Exception):
    """An operation fails. `message` is None where the wording is nobody's promise."""

    def __init__(self, failure: str, code: str, message: str | None = None) -> None:
        super().__init__(failure, code, message)
        self.failure, self.code, self.message = failure, code, message
        self.attempts = 1


def plain(value: Any) -> Any:
    """A copy of a value as a token carries it: tuples are lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not _INT_MIN <= value <= _INT_MAX:
        raise Trouble("invalid", "value")
    return value


def text_of(value: Any) -> str:
    """A value inside a text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def same(one: Any, other: Any) -> bool:
    """JSON equality: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other
    return type(one) is type(other) and bool(one == other)


def holds(condition: str, value: Any) -> bool:
    """GUARD's grammar."""
    text = condition.strip()
    empty = value is None or (isinstance(value, (str, list, dict, bytes)) and len(value) == 0)
    words = {
        "not_empty": not empty,
        "is_empty": empty,
        "is_null": value is None,
        "not_null": value is not None,
        "is_true": value is True,
        "true": value is True,
        "is_false": value is False,
        "false": value is False,
    }
    if text in words:
        return words[text]
    if text.startswith("len"):
        sign, bound = _compared(text[3:])
        return isinstance(value, (str, list, dict, bytes)) and _SIGNS[sign](len(value), bound)
    if text.startswith("contains"):
        return _contains(value, _literal(text[8:].strip()))
    if text.startswith("matches"):
        pattern = text[7:].strip()
        return isinstance(value, str) and re.search(_literal(pattern) if pattern[0] in "'\"" else pattern, value) is not None
    sign, bound = _compared(text)
    if not isinstance(bound, bool) and isinstance(bound, (int, float)):
        number = _number(value)
        return sign == "!=" if number is None else _SIGNS[sign](number, bound)
    return same(value, bound) is (sign == "==")


def _compared(text: str) -> tuple[str, Any]:
    bare = text.strip()
    sign = next(sign for sign in _SIGNS if bare.startswith(sign))
    return sign, _literal(bare[len(sign) :].strip())


def _literal(text: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError:
            return None
        return found if type(found) in (int, float) else None
    return None


def _contains(value: Any, literal: Any) -> bool:
    if isinstance(value, str):
        return text_of(literal) in value
    if isinstance(value, list):
        return any(same(item, literal) for item in value)
    return isinstance(value, dict) and text_of(literal) in value


class Inputs:
    """The live Data inputs of one firing, with what its texts may ask for."""

    def __init__(self, node: ReadNode, live: Sequence[tuple[int, Any]]) -> None:
        """`live` has (position among the Data in-edges, value)."""
        self.node = node
        self.values = [value for _, value in live]
        self._edges = [node.data[position] for position, _ in live]
        self._sort()

    def _sort(self) -> None:
        self.named = {edge.name: value for edge, value in zip(self._edges, self.values) if edge.name is not None}
        self.positional = [value for edge, value in zip(self._edges, self.values) if edge.name is None]

    def subject(self, port: str, aside: str = "") -> Any:
        """What the operation is about: the input of that port, else the first that is not `aside`. It leaves the others."""
        names = [edge.name for edge in self._edges]
        place = names.index(port) if port in names else next(i for i, name in enumerate(names) if name != aside)
        value = self.values[place]
        self._drop(place)
        return value

    def optional(self, port: str, default: Any) -> Any:
        """The input of that port if there is one. It leaves the others."""
        for place, (edge, value) in enumerate(zip(self._edges, self.values)):
            if edge.name == port:
                self._drop(place)
                return value
        return default

    def copy(self) -> Inputs:
        """The same inputs again, to be taken apart anew."""
        other = Inputs(self.node, ())
        other.values, other._edges = self.values.copy(), self._edges.copy()
        other._sort()
        return other

    def _drop(self, place: int) -> None:
        self._edges.pop(place)
        self.values.pop(place)
        self._sort()

    def unused(self, texts: Sequence[str]) -> list[Any]:
        """Positional inputs that no placeholder of `texts` uses."""
        marks = [match for text in texts for match in PLACEHOLDER.finditer(text)]
        numbers = {int(m["position"]) for m in marks if m["position"] is not None}
        nodes = {int(m["node"]) for m in marks if m["node"] is not None}
        found = []
        for place, (edge, value) in enumerate((e, v) for e, v in zip(self._edges, self.values) if e.name is None):
            if place not in numbers and not any(edge.comes_from(node) for node in nodes):
                found.append(value)
        return found

    def _lookup(self, match: re.Match[str]) -> Any:
        if match["name"] is not None:
            return self.named[match["name"]]
        if match["position"] is not None:
            return self.positional[int(match["position"])]
        return next(value for edge, value in zip(self._edges, self.values) if edge.comes_from(int(match["node"])))

    def _known(self, match: re.Match[str]) -> bool:
        return match["name"] is None or match["name"] in self.named

    def render(self, text: str) -> str:
        """A text with its placeholders filled."""
        return PLACEHOLDER.sub(lambda m: text_of(self._lookup(m)) if self._known(m) else m[0], text)

    def fill(self, value: Any) -> Any:
        """A JSON value with its strings filled: a string that is one placeholder becomes the value itself."""
        if isinstance(value, str):
            whole = PLACEHOLDER.fullmatch(value)
            return self._lookup(whole) if whole is not None and self._known(whole) else self.render(value)
        if isinstance(value, Mapping):
            return {key: self.fill(item) for key, item in value.items()}
        return [self.fill(item) for item in value] if isinstance(value, list) else value
