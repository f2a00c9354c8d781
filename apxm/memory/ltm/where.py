"""Filters over the fields of an entry: what they may say, and the same as SQL. Reads no disk.

The fields of an entry are its metadata and, beneath them, what lies at the top of a value that is a map. A field is null, a
boolean, a number, a text or a list of texts; whatever else a value holds is no field, nor is a text past FIELD_CHARS_MAX.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError
from apxm.values import SCALARS, check, same

if TYPE_CHECKING:
    from collections.abc import Iterator

    Where = Mapping[str, Any]

FIELD_CHARS_MAX = 1_000  # of a text in a value that is a field: what is longer is searched for by its words
CONDITIONS_MAX = 100  # of one filter, those that ask for nothing too
DEPTH_MAX = 20  # filters within each other: SQLite reads some more
VALUES_MAX = 10_000  # of all `$in` and `$contains` of one filter
_ORDERS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
OPERATORS = ("$in", "$ne", *_ORDERS, "$exists", "$contains", "$and", "$or", "$not")


def fields_of(value: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a filter can ask for."""
    if type(value) is not dict:
        return dict(metadata)
    inside = {name: item for name, item in value.items() if _is_field(item)}
    return {**inside, **metadata}


def _is_field(item: Any) -> bool:
    if type(item) is str:
        return len(item) <= FIELD_CHARS_MAX
    if type(item) is list:
        return all(type(one) is str for one in item) and sum(map(len, item)) <= FIELD_CHARS_MAX
    return type(item) in SCALARS and type(item) is not bytes


def encoded(fields: Mapping[str, Any]) -> str:
    """Fields as the JSON text that conditions read."""
    return as_json({_name(name): _told(value) for name, value in fields.items()})


def fits(fields: Mapping[str, Any], where: Where) -> bool:
    """Whether fields pass a filter. What the SQL of `condition` says of `encoded` ones."""
    return all(_holds(fields, name, wanted) for name, wanted in where.items())


def _holds(fields: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name == "$and":
        return all(fits(fields, part) for part in wanted)
    if name == "$or":
        return any(fits(fields, part) for part in wanted)
    if name == "$not":
        return not fits(fields, wanted)
    if not isinstance(wanted, Mapping):
        return name in fields and same(fields[name], wanted)
    return all(_compares(fields, name, operator, operand) for operator, operand in wanted.items())


def _compares(fields: Mapping[str, Any], name: str, operator: str, operand: Any) -> bool:
    there = name in fields
    found = fields.get(name)
    match operator:
        case "$exists":
            return there is operand
        case "$ne":
            return not (there and same(found, operand))
        case "$in":
            return there and any(same(found, one) for one in operand)
        case "$contains":
            return isinstance(found, list) and all(one in found for one in _several(operand))
    if isinstance(operand, str) is not isinstance(found, str) or type(found) not in (int, float, str):
        return False
    left: Any = found
    orders = {"$gt": left > operand, "$gte": left >= operand, "$lt": left < operand, "$lte": left <= operand}
    return bool(orders[operator])


def condition(where: Where, fields: str) -> tuple[str, list[Any]]:
    """A filter as SQL over the JSON text that the expression `fields` gives, true or false and never null; and what it binds.

    InvalidError for what is no filter.
    """
    refuse_unfit(where)
    bound: list[Any] = []
    return _all_of(where, fields, bound), bound


def _all_of(where: Where, fields: str, bound: list[Any]) -> str:
    return _joined("AND", (_one(name, wanted, fields, bound) for name, wanted in where.items()), "1")


def _one(name: str, wanted: Any, fields: str, bound: list[Any]) -> str:
    if name in ("$and", "$or"):
        parts = (_all_of(part, fields, bound) for part in wanted)
        return _joined("AND", parts, "1") if name == "$and" else _joined("OR", parts, "0")
    if name == "$not":
        return f"NOT {_all_of(wanted, fields, bound)}"
    path = f'$."{_name(name)}"'
    if not isinstance(wanted, Mapping):
        return _among([wanted], fields, path, bound)
    return _joined("AND", (_compared(path, operator, operand, fields, bound) for operator, operand in wanted.items()), "1")


def _compared(path: str, operator: str, operand: Any, fields: str, bound: list[Any]) -> str:
    match operator:
        case "$exists":
            bound.append(path)
            return f"(json_type({fields}, ?) IS {'NOT ' if operand else ''}NULL)"
        case "$ne":
            return f"NOT {_among([operand], fields, path, bound)}"
        case "$in":
            return _among(operand, fields, path, bound)
        case "$contains":
            return _joined("AND", (_contains(path, one, fields, bound) for one in _several(operand)), "1")
    kinds = "= 'text'" if isinstance(operand, str) else "IN ('integer', 'real')"
    bound += [path, path]
    right = _right(operand, bound)
    return f"((json_type({fields}, ?) {kinds} AND json_extract({fields}, ?) {_ORDERS[operator]} {right}) IS TRUE)"


def _contains(path: str, one: str, fields: str, bound: list[Any]) -> str:
    bound += [path, path, _text(one)]
    here = f"json_type({fields}, ?) = 'array' AND EXISTS (SELECT 1 FROM json_each({fields}, ?) WHERE json_each.value = ?)"
    return f"(({here}) IS TRUE)"


def _among(values: Any, fields: str, path: str, bound: list[Any]) -> str:
    """Whether the field is one of `values`: by kind, because JSON tells true from 1, and SQL does not."""
    parts = []
    for kinds, members in _by_kind(values).items():
        bound.append(path)
        if kinds in ("'null'", "'true'", "'false'"):
            parts.append(f"(json_type({fields}, ?) IS {kinds})")
            continue
        bound.append(path)
        rights = ", ".join(_right(one, bound) for one in members)
        parts.append(f"((json_type({fields}, ?) IN ({kinds}) AND json_extract({fields}, ?) IN ({rights})) IS TRUE)")
    return _joined("OR", parts, "0")


def _by_kind(values: Any) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = {}
    for one in values:
        if one is None:
            kind = "'null'"
        elif isinstance(one, bool):
            kind = "'true'" if one else "'false'"
        else:
            kind = "'text'" if isinstance(one, str) else "'array'" if isinstance(one, list) else "'integer', 'real'"
        kinds.setdefault(kind, []).append(one)
    return kinds


def _right(operand: Any, bound: list[Any]) -> str:
    """An operand: numbers go through JSON as those of fields do, so that the same number is the same to the last bit."""
    if isinstance(operand, str):
        bound.append(_text(operand))
        return "?"
    bound.append(as_json(_told(operand)))
    return "?" if isinstance(operand, list) else "json_extract(?, '$')"


def _joined(word: str, parts: Any, empty: str) -> str:
    several = list(parts)
    return f"({f' {word} '.join(several)})" if several else empty


# ---- texts and names, so that JSON of SQLite tells all of them apart ------------------------------------------------------
def _name(name: str) -> str:
    """A name that a JSON path can hold: without quotes, backslashes and control characters, and not empty."""
    if name.isidentifier():
        return name
    return "".join(f"%{ord(one):02X}" if one in '%"\\' or one < " " else one for one in name) or "%"


def _text(text: str) -> str:
    """A text without NUL, where JSON of SQLite would end it; the order of texts stays as it is."""
    if "\0" not in text and "\1" not in text:
        return text
    return text.replace("\1", "\1\2").replace("\0", "\1\1")


def _told(value: Any) -> Any:
    if type(value) is str:
        return _text(value)
    if type(value) is list:
        return [_text(one) for one in value]
    return value


def _several(operand: Any) -> list[str]:
    return [operand] if isinstance(operand, str) else list(operand)


# ---- what is refused ------------------------------------------------------------------------------------------------------
def refuse_unfit(where: Any) -> None:
    """InvalidError for what is no filter, and for one that is too large."""
    if not isinstance(where, Mapping):
        raise InvalidError(f"`where` is {where!r:.60}, expected a map of fields and what they must be")
    operands = list(_operands(where, 0))
    check(_plain(where), "`where`")
    conditions = sum(len(one) if named == "$contains" and isinstance(one, list) else 1 for named, one in operands)
    if conditions > CONDITIONS_MAX:
        raise InvalidError(f"`where` has {conditions:,} conditions, at most {CONDITIONS_MAX} are taken")
    values = sum(len(one) for _, one in operands if isinstance(one, list))
    if values > VALUES_MAX:
        raise InvalidError(f"`where` has {values:,} values in lists, at most {VALUES_MAX:,} are taken")


def _plain(where: Any) -> Any:
    """The same of dicts and lists alone, which is what can be checked."""
    if isinstance(where, Mapping):
        return {name: _plain(item) for name, item in where.items()}
    return [_plain(item) for item in where] if isinstance(where, (list, tuple)) else where


def _operands(where: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Everything that is compared, and with what; a filter that asks for nothing is one, too. InvalidError for what none has."""
    if depth > DEPTH_MAX:
        raise InvalidError(f"`where` has filters within each other, more than {DEPTH_MAX} deep", hint=_HINT)
    if not isinstance(where, Mapping):
        raise InvalidError(f"`where` has {where!r:.60} in the place of a map", hint=_HINT)
    if not where:
        yield "", None
    for name, wanted in where.items():
        if type(name) is not str:
            raise InvalidError(f"`where` has the field {name!r:.60}, keys are str", hint=_HINT)
        if name in ("$and", "$or"):
            if not isinstance(wanted, (list, tuple)):
                raise InvalidError(f"`{name}` in `where` has {wanted!r:.60}, expected a list of filters", hint=_HINT)
            for part in wanted:
                yield from _operands(part, depth + 1)
        elif name == "$not":
            yield from _operands(wanted, depth + 1)
        elif name.startswith("$"):
            raise InvalidError(f"there is no `{name:.60}` in `where` in the place of a field", hint=_HINT)
        elif isinstance(wanted, Mapping):
            if not wanted:
                yield "", None
            for operator, operand in wanted.items():
                _refuse_operand(name, operator, operand)
                yield operator, operand
        else:
            _refuse_operand(name, "$ne", wanted)
            yield "$ne", wanted


def _refuse_operand(name: str, operator: str, operand: Any) -> None:
    whose = f"`where` of `{name:.60}`"
    match operator:
        case "$exists":
            good, expected = isinstance(operand, bool), "true or false"
        case "$in":
            good, expected = isinstance(operand, list) and all(map(_is_comparable, operand)), "a list of what fields can be"
        case "$contains":
            good, expected = isinstance(operand, str) or _is_texts(operand), "a text or a list of texts"
        case "$ne":
            good, expected = _is_comparable(operand), "null, a boolean, a number, a text or a list of texts"
        case "$gt" | "$gte" | "$lt" | "$lte":
            good, expected = type(operand) in (int, float, str), "a number or a text"
        case _:
            raise InvalidError(f"{whose}: there is no `{operator:.60}`", hint=_HINT)
    if not good:
        raise InvalidError(f"{whose}: {operand!r:.60} is not {expected}", hint=_HINT)


def _is_comparable(operand: Any) -> bool:
    return (type(operand) in SCALARS and type(operand) is not bytes) or _is_texts(operand)


def _is_texts(operand: Any) -> bool:
    return isinstance(operand, list) and all(type(one) is str for one in operand)


_HINT = (
    f"a field is equal to what it names, or fits {', '.join(OPERATORS[:-3])}; filters are joined by {', '.join(OPERATORS[-3:])}"
)
