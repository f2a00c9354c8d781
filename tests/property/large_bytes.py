"""Artifacts of any size that are hostile by their amount: each is much of one thing. Not a test module."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any

import msgpack

from apxm.artifact.encode import DAG_FIELDS
from apxm.artifact.format import seal
from apxm.graph.ops import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CONST, _INV, _MERGE, _CALL = (OPERATIONS[name].code for name in ("CONST_STR", "INV", "MERGE", "FLOW_CALL"))
_SWITCH, _TRY = OPERATIONS["SWITCH"].code, OPERATIONS["TRY_CATCH"].code
_DATA, _CONTROL = b"\0", b"\1"


def _ints(values: Iterable[int], code: str = "I") -> bytes:
    values = list(values)
    return struct.pack(f"<{len(values)}{code}", *values)


def _dag(
    ops: Sequence[int],
    edges: Sequence[Sequence[int]] = (),
    *,
    name: str = "main",
    names: Sequence[str] | None = None,
    exits: Iterable[int] | None = None,
    parameters: int = 0,
    attributes: Sequence[Any] = ({"value": 0},),
    attribute_of: Iterable[int] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One dag: `edges` has the sources of each slot's in-edges."""
    size = parameters + len(ops)
    sources = [list(edges[slot]) if slot < len(edges) else [] for slot in range(size)]
    offsets = [0]
    for one in sources:
        offsets.append(offsets[-1] + len(one))
    values = {
        "name": name,
        "ops": bytes(parameters) + bytes(ops),
        "ids": _ints([-1] * parameters + list(range(len(ops))), "q"),
        "names": "\0".join(names or [f"n{slot}" for slot in range(size)]).encode(),
        "offsets": _ints(offsets),
        "sources": _ints(source for one in sources for source in one),
        "kinds": _DATA * offsets[-1],
        "exits": _ints([size - 1] if exits is None else exits),
        "ranks": _ints([0] * size, "q"),
        "parameters": [[f"n{slot}", "str"] for slot in range(parameters)],
        "attributes": list(attributes),
        "attribute_of": _ints([0] * parameters + [1] * len(ops) if attribute_of is None else attribute_of),
        "ports": [[], b"", b""],
        "labels": [[], b"", b""],
        "regions": [],
        "metadata": {},
        **more,
    }
    return {field: values[field] for field in DAG_FIELDS}


def _sealed(dags: list[Any], flows: list[Any] | None = None, agents: list[Any] | None = None, **more: Any) -> bytes:
    flows = [{"dag": 0, "capabilities": {}}] if flows is None else flows
    agents = [{"name": "a", "metadata": {}, "flows": flows}] if agents is None else agents
    payload = {"name": "p", "compiler": "0", "level": 0, "entry": 0, "metadata": {}, "agents": agents, "dags": dags, **more}
    return seal(msgpack.packb(payload))


def _nodes(count: int) -> bytes:
    return _sealed([_dag([_CONST] * count)])


def _chain(count: int) -> bytes:
    return _sealed(
        [
            _dag(
                [_CONST, *[_MERGE] * (count - 1)],
                [[], *([slot] for slot in range(count - 1))],
                attributes=[{"value": 0}, {"mode": "array"}],
                attribute_of=[1, *[2] * (count - 1)],
            )
        ]
    )


def _fan_in(count: int) -> bytes:
    return _sealed([_dag([_CONST, _MERGE], [[], [0] * count], attributes=[{"value": 0}, {"mode": "array"}], attribute_of=[1, 2])])


def _ports(count: int) -> bytes:
    texts = [[f"p{edge}" for edge in range(count)], _ints(range(count)), _ints(range(count))]
    return _sealed(
        [
            _dag(
                [_CONST, _MERGE],
                [[], [0] * count],
                ports=texts,
                attributes=[{"value": 0}, {"mode": "array"}],
                attribute_of=[1, 2],
            )
        ]
    )


def _labels(count: int) -> bytes:
    texts = [[f"p{edge}" for edge in range(count)], _ints(range(1, count + 1)), _ints(range(count))]
    edges, kinds = [[], [0], [1] * count], _DATA + _CONTROL * count
    table = [{"value": 0}, {"case_labels": ["a"]}]
    return _sealed([_dag([_CONST, _SWITCH, _CONST], edges, labels=texts, kinds=kinds, attributes=table, attribute_of=[1, 2, 1])])


def _attributes(count: int) -> bytes:
    return _sealed(
        [_dag([_CONST] * count, attributes=[{"value": slot} for slot in range(count)], attribute_of=range(1, count + 1))]
    )


def _exits(count: int) -> bytes:
    return _sealed([_dag([_CONST] * count, exits=range(count))])


def _same_names(count: int) -> bytes:
    return _sealed([_dag([_CONST] * count, names=["n"] * count, exits=range(count))])


def _parameters(count: int) -> bytes:
    return _sealed([_dag([_CONST], parameters=count)])


def _regions(count: int) -> bytes:
    """Each node has a region of its own."""
    listed = [[slot, "try", slot + 1] for slot in range(count)]
    return _sealed([_dag([_TRY] * count, regions=listed, attributes=[], attribute_of=[0] * count), *[_dag([_CONST])] * count])


def _nested_regions(count: int) -> bytes:
    """As deep as it goes, again and again."""
    dags: list[Any] = []
    wide = max(1, count // 31)
    for number in range(wide):
        start = 1 + number * 31
        inner = [_dag([_TRY], regions=[[0, "try", start + depth + 1]], attributes=[], attribute_of=[0]) for depth in range(30)]
        dags += [*inner, _dag([_CONST])]
    listed = [[slot, "try", 1 + slot * 31] for slot in range(wide)]
    return _sealed([_dag([_TRY] * wide, regions=listed, attributes=[], attribute_of=[0] * wide), *dags])


def _regions_without_dags(count: int) -> bytes:
    return _sealed([_dag([_TRY] * count, regions=[[slot, "try", slot + 1] for slot in range(count)])])


def _regions_of_one_slot(count: int) -> bytes:
    names = sorted(f"case {number}" for number in range(count))
    listed = [[1, name, place + 1] for place, name in enumerate(names)]
    return _sealed([_dag([_CONST, _SWITCH], [[], [0]], regions=listed, attribute_of=[1, 0])])


def _flows(count: int) -> bytes:
    names = [f"f{number:07}" for number in range(count)]
    flows = [{"dag": number, "capabilities": {}} for number in range(count)]
    return _sealed([_dag([_CONST], name=name) for name in names], flows)


def _agents(count: int) -> bytes:
    agents = [
        {"name": f"a{number:07}", "metadata": {}, "flows": [{"dag": number, "capabilities": {}}]} for number in range(count)
    ]
    return _sealed([_dag([_CONST]) for _ in range(count)], agents=agents)


def _calls(count: int) -> bytes:
    """A chain: each flow calls the next one."""
    names = [f"f{number:07}" for number in range(count)]
    dags = [
        _dag([_CALL], name=name, attributes=[{"agent_name": "a", "flow_name": after}])
        for name, after in itertools.pairwise(names)
    ]
    dags.append(_dag([_CONST], name=names[-1]))
    return _sealed(dags, [{"dag": number, "capabilities": {}} for number in range(count)])


def _circle(count: int) -> bytes:
    """Each flow calls the next one, and the last the first."""
    names = [f"f{number:07}" for number in range(count)]
    dags = [
        _dag([_CALL], name=name, attributes=[{"agent_name": "a", "flow_name": after}])
        for name, after in zip(names, [*names[1:], names[0]])
    ]
    return _sealed(dags, [{"dag": number, "capabilities": {}} for number in range(count)])


def _capabilities(count: int) -> bytes:
    count = min(count, 65_536)
    names = sorted(f"c{number}" for number in range(count))
    dag = _dag([_INV] * count, attributes=[{"capability": name} for name in names], attribute_of=range(1, count + 1))
    return _sealed([dag], [{"dag": 0, "capabilities": {name: {"effect": None, "schema": None} for name in names}}])


def _deep_values(count: int) -> bytes:
    value: Any = 0
    for _ in range(20):
        value = [value]
    return _sealed([_dag([_CONST], attributes=[{"value": [value] * (count // 20)}])])


def _long_text(count: int) -> bytes:
    return _sealed([_dag([_CONST], attributes=[{"value": "ä" * min(20 * count, 2_000_000)}])])


def _metadata(count: int) -> bytes:
    return _sealed([_dag([_CONST])], metadata={f"k{number}": {} for number in range(min(count, 65_536))})


def _templates(count: int) -> bytes:
    """A text with very many places to fill in, and one that never ends."""
    text = "{0}" * count + "{{0" * count
    return _sealed(
        [_dag([_CONST, OPERATIONS["PRINT"].code], [[], [0]], attributes=[{"value": 0}, {"message": text}], attribute_of=[1, 2])]
    )


LARGE: dict[str, tuple[Callable[[int], bytes], int]] = {  # and the bytes that one more of it takes
    "nodes": (_nodes, 32),
    "chain": (_chain, 37),
    "fan-in": (_fan_in, 5),
    "ports": (_ports, 20),
    "labels": (_labels, 20),
    "attributes": (_attributes, 42),
    "exits": (_exits, 36),
    "same names": (_same_names, 32),
    "parameters": (_parameters, 44),
    "regions": (_regions, 320),
    "nested regions": (_nested_regions, 270),
    "regions without dags": (_regions_without_dags, 45),
    "regions of one slot": (_regions_of_one_slot, 20),
    "flows": (_flows, 260),
    "agents": (_agents, 280),
    "calls": (_calls, 300),
    "circle": (_circle, 300),
    "capabilities": (_capabilities, 80),
    "deep values": (_deep_values, 2),
    "long text": (_long_text, 40),
    "metadata": (_metadata, 8),
    "templates": (_templates, 6),
}


def large(what: str, size: int) -> bytes:
    """An artifact of about `size` bytes."""
    build, each = LARGE[what]
    return build(max(2, size // each))
