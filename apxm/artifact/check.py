"""Whether the columns of a decoded dag can be run: order, ranges, and what the operation table says about every node.

A graph is validated with the place and the fix in every message (`apxm.graph.validate`); here the bytes may be
anything, so each rule is one pass over a column, written for speed: a dag of 100,000 nodes takes some 50 ms.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from apxm.artifact.columns import all_below, repeated
from apxm.dag import CONTROL, EFFECT, PARAMETER_CODE
from apxm.errors import ArtifactError
from apxm.graph.ops import BY_CODE, COMMON_ATTRIBUTES, OPERATIONS, Attribute, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from apxm.dag import ExecutionDag

_CODES = bytes(code for code, row in enumerate(BY_CODE) if row is not None)
_DESCENT = re.compile(rb"[\x01\x02](?=\x00)|\x02(?=\x01)")  # an edge before one of a kind that comes earlier
_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "str": (str,),
    "name": (str,),
    "names": (list,),
    "condition": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "map": (dict,),
    "filled": (type(None), bool, int, float, str, bytes, list, dict),
    "json": (type(None), bool, int, float, str, bytes, list, dict),
}
_RETURN = OPERATIONS["RETURN"].code
_PICKY = frozenset(
    code for code, row in enumerate(BY_CODE) if row and (row.inputs_min or row.inputs_max is not None or row.needs)
)


def check_dag(dag: ExecutionDag, regions: Mapping[int, AbstractSet[str]], where: str) -> None:
    """Raise ArtifactError where the columns contradict each other or the operation table."""
    _check_slots(dag, where)
    _check_edges(dag, where)
    _check_exits(dag, where)
    _check_attributes(dag, where)
    _check_regions(dag, regions, where)
    _check_inputs(dag, regions, where)


def _fail(where: str, what: str) -> NoReturn:
    raise ArtifactError(f"{where}: {what}")


def _check_slots(dag: ExecutionDag, where: str) -> None:
    ops, first = dag.ops, len(dag.parameters)
    if not dag.name:
        _fail(where, "it has no name")
    if first > len(ops) or ops[:first].strip(bytes([PARAMETER_CODE])):
        _fail(where, f"expected {first} slots of parameters first")
    if dag.names[:first] != [parameter.name for parameter in dag.parameters]:
        _fail(where, "the first names are not those of the parameters")
    if first == len(ops):
        _fail(where, "it has no nodes")
    unknown = ops[first:].translate(None, _CODES)
    if unknown:
        _fail(where, f"operation code {unknown[0]}, which this apxm does not have")
    ids = dag.ids[first:].tolist()
    if len(set(ids)) != len(ids) or min(ids) < 0 or any(i != -1 for i in dag.ids[:first]):
        _fail(where, "node ids must be different and not negative, those of parameters -1")
    if "" in dag.names or min(dag.ranks) < 0:
        _fail(where, "a slot without a name, or with a negative rank")


def _check_edges(dag: ExecutionDag, where: str) -> None:
    first = len(dag.parameters)
    offsets, sources, kinds = dag.in_offsets.tolist(), dag.in_sources, dag.in_kinds
    if offsets[0] or offsets[first] or offsets[-1] != len(kinds) or sorted(offsets) != offsets:
        _fail(where, "offsets must grow from 0, behind the parameters, to the number of edges")
    targets = repeated(list(map(int.__sub__, offsets[1:], offsets)))
    if not all_below(sources, targets):
        _fail(where, "an edge to a slot that does not come later than its source")
    if kinds.count(0) != len(kinds):
        _check_kinds(dag, set(offsets), where)


def _check_kinds(dag: ExecutionDag, starts: set[int], where: str) -> None:
    kinds = dag.in_kinds
    if kinds.translate(None, bytes(range(EFFECT + 1))):
        _fail(where, "an edge of an unknown kind")
    if any(match.end() not in starts for match in _DESCENT.finditer(kinds)):
        _fail(where, "in-edges must be Data, then Control, then Effect")
    if any(kinds[edge] >= CONTROL for edge in dag.ports):
        _fail(where, "a port on an edge that carries no value")


def _check_exits(dag: ExecutionDag, where: str) -> None:
    exits = dag.exits
    if not exits or len(set(exits)) != len(exits) or min(exits) < len(dag.parameters) or max(exits) >= len(dag):
        _fail(where, "exits must be different nodes, one at least")
    named = [dag.names[slot] for slot in exits if dag.ops[slot] != _RETURN]  # of several RETURN one is live at most
    if len(set(named)) != len(named):
        _fail(where, "two exits have the same name")


def _check_attributes(dag: ExecutionDag, where: str) -> None:
    """Check every different (operation, attribute map) once. Nodes without attributes count too: some are required."""
    for sort in dag.sorts:
        op, place = sort
        row = BY_CODE[op]
        if row is None:
            if place:
                _fail(where, f"parameter `{dag.names[dag.first_of(sort)]}` has attributes")
            continue
        problem = attribute_problem(row, dag.attributes.table[place - 1] if place else {})
        if problem:
            _fail(where, f"{row.name} `{dag.names[dag.first_of(sort)]}`: {problem}")


def attribute_problem(row: Operation, values: Mapping[str, Any]) -> str | None:
    """What is wrong with the normalised attributes of a node, or None."""
    known, patterns, required = _KNOWN[row.code]
    for name, value in values.items():
        types, picky = known.get(name) or _of_pattern(patterns, name)
        if type(value) not in types:
            if not types:
                return f"attribute {name!r}, which it does not have"
            return f"attribute `{name}` is {type(value).__name__}, expected {types[-1].__name__}"
        if picky is not None and (problem := _value_problem(picky, value)):
            return f"attribute `{name}`: {problem}"
    for name in required:
        if name not in values:
            return f"attribute `{name}` is missing"
    return None


_Allowed: TypeAlias = tuple[tuple[type, ...], Attribute | None]  # types of a value; its row when that says more


def _allowed(attribute: Attribute) -> _Allowed:
    picky = attribute.choices or attribute.least is not None or attribute.type in ("name", "names")
    return _TYPES.get(attribute.type, ()), attribute if picky else None


def _of_pattern(patterns: dict[str, _Allowed], name: str) -> _Allowed:
    """What a name under a pattern such as `arg_*` may hold; no type at all when there is no such pattern."""
    for prefix, allowed in patterns.items():
        if name.startswith(prefix) and name != prefix:
            return allowed
    return (), None


def _known(row: Operation) -> tuple[dict[str, _Allowed], dict[str, _Allowed], list[str]]:
    """Attributes of a row with what they may hold: by name, by the beginning of the name; and those that must be there."""
    attributes = [*COMMON_ATTRIBUTES, *row.attributes]
    allowed = {attribute.name: _allowed(attribute) for attribute in attributes}
    known = {name: what for name, what in allowed.items() if not name.endswith("*")}
    patterns = {name[:-1]: what for name, what in allowed.items() if name.endswith("*")}
    return known, patterns, [attribute.name for attribute in attributes if attribute.required]


_KNOWN = {row.code: _known(row) for row in BY_CODE if row is not None}


def _value_problem(attribute: Attribute, value: Any) -> str | None:
    if attribute.choices and value not in attribute.choices:
        return f"{value!r} is not one of {', '.join(attribute.choices)}"
    if attribute.least is not None and value < attribute.least:
        return f"{value} is less than {attribute.least}"
    if attribute.type == "name" and not value:
        return "an empty name"
    if attribute.type == "names" and not all(type(item) is str and item for item in value):
        return "expected a list of names"
    return None


def _check_regions(dag: ExecutionDag, regions: Mapping[int, AbstractSet[str]], where: str) -> None:
    for slot in range(len(dag.parameters), len(dag)) if _has_fixed_regions(dag) else regions:
        row = BY_CODE[dag.ops[slot]]
        names = regions.get(slot, set())
        if row is None or (names and "*" not in row.regions and names - set(row.regions)):
            _fail(where, f"slot {slot} has regions {sorted(names)}, which its operation does not have")
        if row.regions and row.regions[0] != "*" and row.regions[0] not in names:
            _fail(where, f"{row.name} `{dag.names[slot]}` has no region `{row.regions[0]}`")


_FIXED_REGIONS = bytes(code for code, row in enumerate(BY_CODE) if row and row.regions and row.regions[0] != "*")


def _has_fixed_regions(dag: ExecutionDag) -> bool:
    """Whether some node must have a region: LOOP, MAP and TRY_CATCH are nothing without the first one of their row."""
    return len(dag.ops.translate(None, _FIXED_REGIONS)) != len(dag.ops)


def _check_inputs(dag: ExecutionDag, regions: Mapping[int, AbstractSet[str]], where: str) -> None:
    """Check how many Data in-edges a node has, and that it has one of what it needs."""
    if _PICKY.isdisjoint(dag.ops):
        return
    offsets, kinds = dag.in_offsets, dag.in_kinds
    for slot, code in enumerate(dag.ops):
        if code not in _PICKY:
            continue
        row = BY_CODE[code]
        assert row is not None
        inputs = kinds.count(0, offsets[slot], offsets[slot + 1])
        if inputs < row.inputs_min or (row.inputs_max is not None and inputs > row.inputs_max):
            _fail(where, f"{row.name} `{dag.names[slot]}` has {inputs} inputs")
        attributes = dag.attributes.get(slot, {})
        given = {name for name, value in attributes.items() if value != ""}
        given.update(f"<{name}>" for name in regions.get(slot, ()))
        if inputs:
            given.add("input")
        if any(given.isdisjoint(group) for group in row.needs):
            _fail(where, f"{row.name} `{dag.names[slot]}` needs one of {' / '.join(', '.join(group) for group in row.needs)}")
