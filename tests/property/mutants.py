"""Mutants of artifacts: bytes, msgpack, columns, nearly right. The same seed and number make the same one. Judges nothing."""

from __future__ import annotations

import copy
import random
import struct
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import msgpack

from apxm.artifact.format import seal, unseal
from apxm.compiler.compile import compile
from apxm.graph.contract import from_json
from apxm.graph.ops import BY_CODE, COMMON_ATTRIBUTES
from apxm.testing.programs import generate
from tests.unit.artifact.programs import RICH, SMALL

if TYPE_CHECKING:
    from apxm.artifact import Artifact

_NODES = [
    {"id": 1, "name": "one", "op": "CONST_STR", "attributes": {"value": True}},
    {"id": 2, "name": "two", "op": "BRANCH_ON_VALUE"},
    {"id": 3, "name": "three", "op": "INV", "attributes": {"capability": "c", "arg_x": "{p}"}},
    {"id": 4, "name": "four", "op": "MERGE", "attributes": {"mode": "array"}},
]
_EDGES = [
    {"from": 1, "to": 2},
    {"from": 2, "to": 3, "label": "true", "dependency": "Control"},
    {"from": 3, "to": 4},
    {"from": 1, "to": 4},
    {"from": 2, "to": 4, "dependency": "Effect"},
]
FEW = {"name": "few", "parameters": [{"name": "p", "type_name": "str"}], "nodes": _NODES, "edges": _EDGES}
PROGRAMS = range(24)  # seeds of random programs: between them they have every operation that this version has a handler for

_SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}, "b": {"pattern": "(a+)+$"}}, "required": ["a"]}
_TEXTS = (
    "",
    "a",
    "{0}",
    "{",
    "}{",
    "{{node_1}}",
    "{p}",
    "{0.x[1]}",
    "x > 1",
    "len(x) == 0",
    "1/0",
    "(a+)+$",
    "[",
    "error",
    "default",
)
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 255, 2**31, 2**32 - 1, 2**63 - 1, -(2**63), 0.5, float("nan"), float("inf"), 1e308),
    *(*_TEXTS, "\0", "name", "\ud7ff\U0010ffff", "x" * 5_000, b"", b"\0", b"\xff" * 8),
    *([], {}, [[]], {"": 1}, [["a", "str"]], ["a", "b"], {"a": "{0}"}, _SCHEMA, {"$ref": "http://127.0.0.1:9/"}),
]
_INTS = (0, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32 - 1)
_HEADS = bytes((0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC6, 0xC9, 0xCA, 0xCB, 0xCF, 0xD3, 0xD4, 0xDB, 0xDD, 0xDF, 0xFF))
_BY_TYPE: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, 2, 5, 1000, 2**31, 2**63 - 1),
    "float": (0, 0.5, 1.5, 1e308),
    "bool": (True, False),
    "list": ([], ["a"], ["{0}", 1], [[1, 2]]),
    "map": ({}, {"a": 1}, {"a": "{0}"}, _SCHEMA),
    "names": ([], ["a"], ["c", "read"], ["iteration", "item"]),
    "name": ("a", "c", "read", "p", "few", "small", "iteration", "item"),
    "condition": ("x > 1", "true", "input == 'a'", "not (", "len(input) > 0 and input[0] != 1", "iteration >= 3"),
}


class Mutator:
    """Makes mutants of a few artifacts."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random()
        programs = [*(compile(program) for program in (SMALL, FEW, RICH)), *random_programs()]
        self.payloads = [unseal(program.to_bytes()) for program in programs]
        self.weights = [1e3 / (300 + len(payload)) for payload in self.payloads]  # large ones take longer
        self.tokens = [_values(payload) for payload in self.payloads]

    def mutant(self, number: int) -> tuple[bytes, bool]:
        """The bytes of a mutant, and whether its digest is right."""
        rng = self.rng
        rng.seed(self.seed * 1_000_003 + number)
        which = rng.choices(range(len(self.payloads)), self.weights)[0]
        payload, kind = self.payloads[which], rng.random()
        if kind < 0.06:
            return self._bytes(seal(payload)), False
        if kind < 0.26:
            return seal(self._bytes(payload)), True
        if kind < 0.46:
            return seal(self._written(payload, which)), True
        return seal(self._tree(payload)), True

    # ---- bytes -----------------------------------------------------------------------------------------------------
    def _bytes(self, data: bytes) -> bytes:
        """Change, take away, insert, repeat some bytes."""
        rng, changed = self.rng, bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(changed) + 1)
            match rng.randrange(6):
                case 0 | 1 if at < len(changed):
                    changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256), rng.choice(_HEADS)))
                case 2:
                    del changed[at : at + rng.choice((1, 2, 8))]
                case 3:
                    changed[at:at] = bytes((rng.choice(_HEADS),)) * rng.choice((1, 1, 4, 100))
                case 4:
                    changed[at:at] = changed[at : at + rng.randrange(40)]
                case _:
                    del changed[at : at + 1 if rng.random() < 0.7 else None]
        return bytes(changed)

    # ---- msgpack as it is written ----------------------------------------------------------------------------------
    def _written(self, payload: bytes, which: int) -> bytes:
        """Write one value in another way, or another value in its place; the rest stays msgpack."""
        rng = self.rng
        start, end, entries = rng.choice(self.tokens[which])
        old = payload[start:end]
        match rng.randrange(7):
            case 0 if entries:  # a map entry twice: `entries` has where each begins
                first, last = rng.choice(list(zip(entries, [*entries[2:], end])))
                head = payload[start]
                grown = bytes((head + 1,)) if head < 0x8F else b"\xde\x00\x10"
                new = grown + payload[start + 1 : end] + payload[first:last] if head <= 0x8F else old
            case 1:  # nested deeper
                new = rng.choice((b"\x91", b"\x81\xa1a", b"\xdc\x00\x01")) * rng.choice((1, 5, 25, 31, 32, 33, 200)) + old
            case 2:  # what stands elsewhere
                other = rng.randrange(len(self.payloads))
                begin, stop, _ = rng.choice(self.tokens[other])
                new = self.payloads[other][begin:stop]
            case 3:  # a count that is not true
                new = rng.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6")) + rng.choice((0, 1, 17, 2**16, 2**31, 2**32 - 1)).to_bytes(
                    4, "big"
                )
                new += old[1:]
            case 4:  # a longer form of the same
                new = _longer(old)
            case 5:  # what is not ours
                new = rng.choice((b"\xc1", b"\xd4\x01\x00", b"\xc7\x00\xff", b"\xca\x00\x00\x00\x00", b"\xcb\x7f\xf8" + bytes(6)))
            case _:
                new = b"" if rng.random() < 0.5 else old + old
        return payload[:start] + new + payload[end:]

    # ---- the tree --------------------------------------------------------------------------------------------------
    def _tree(self, payload: bytes) -> bytes:
        """Change what the payload says; it is written as it should be."""
        rng, tree = self.rng, msgpack.unpackb(payload)
        kind = rng.random()
        if kind < 0.35:
            self._retype(tree)
        elif kind < 0.45:
            self._reorder(tree)
        for _ in range(rng.choice((0, 1, 1, 2)) if kind < 0.45 else rng.choice((1, 1, 2))):
            self._change(tree)
        if rng.random() < 0.6:
            _repair(tree)
        try:
            return msgpack.packb(tree)
        except (ValueError, OverflowError, TypeError):  # nested deeper, or a larger number, than msgpack writes
            return payload

    def _retype(self, tree: Any) -> None:
        """Make a node another operation, with attributes that it may have."""
        rng = self.rng
        dag = rng.choice(tree["dags"])
        first, ops = len(dag["parameters"]), bytearray(dag["ops"])
        slot = rng.randrange(first, len(ops))
        row = rng.choice(BY_CODE[1:]) if rng.random() < 0.6 else BY_CODE[ops[slot]]
        assert row is not None
        values = {}
        for attribute in (*COMMON_ATTRIBUTES, *row.attributes):
            if attribute.required or rng.random() < 0.3:
                name = attribute.name.replace("*", rng.choice(("x", "p", "0")))
                values[name] = self._of(attribute)
        ops[slot] = row.code
        dag["ops"] = bytes(ops)
        places = list(struct.unpack(f"<{len(ops)}I", dag["attribute_of"]))
        table = [*dag["attributes"], {key: values[key] for key in sorted(values)}]
        places[slot] = len(table) if values else 0
        used = sorted({place for place in places if place})
        dag["attributes"] = [table[place - 1] for place in used]
        dag["attribute_of"] = struct.pack(f"<{len(ops)}I", *(used.index(place) + 1 if place else 0 for place in places))

    def _of(self, attribute: Any) -> Any:
        """A value for an attribute, mostly of its type."""
        rng = self.rng
        if attribute.choices and rng.random() < 0.9:
            return rng.choice(attribute.choices)
        return copy.deepcopy(rng.choice(_BY_TYPE.get(attribute.type, _TEXTS))) if rng.random() < 0.9 else self._value()

    def _reorder(self, tree: Any) -> None:
        """Dags in another order, twice, or in another place; regions of somebody else; an edge that leads back."""
        rng, dags = self.rng, tree["dags"]
        dag = rng.choice(dags)
        match rng.randrange(6):
            case 0:
                rng.shuffle(dags)
            case 1:
                dags.insert(rng.randrange(len(dags) + 1), copy.deepcopy(dag))
            case 2 if dag["regions"]:
                rng.choice(dag["regions"])[2] = rng.randrange(len(dags) + 2)
            case 3:
                dag["regions"].append([rng.randrange(len(dag["ops"])), rng.choice(("try", "body", "case", "x")), len(dags)])
                dags.append(copy.deepcopy(rng.choice(dags)))
            case 4 if dag["sources"]:
                sources = list(struct.unpack(f"<{len(dag['kinds'])}I", dag["sources"]))
                sources[rng.randrange(len(sources))] = rng.randrange(len(dag["ops"]) + 2)
                dag["sources"] = struct.pack(f"<{len(sources)}I", *sources)
            case _:
                edges = len(dag["kinds"])
                column = rng.choice(("ports", "labels"))
                dag[column] = [["a"], struct.pack("<I", rng.randrange(edges + 2)), struct.pack("<I", rng.choice((0, 0, 0, 1)))]

    def _change(self, tree: Any) -> None:
        """Go down a random way, and change what is at its end."""
        rng, place = self.rng, tree
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                return
            key = rng.choice(keys)
            value = place[key]
            if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
                place = value
                continue
            self._change_at(place, key, value)
            return

    def _change_at(self, place: Any, key: Any, value: Any) -> None:
        rng = self.rng
        kind = rng.randrange(10)
        if isinstance(value, bytes) and kind < 8:
            place[key] = self._column(value)
        elif isinstance(value, list) and value and kind < 5:
            rng.choice(
                (value.reverse, value.pop, lambda: value.append(rng.choice(value)), lambda: value.insert(0, self._value()))
            )()
        elif isinstance(place, dict) and kind == 8:
            place[rng.choice(("more", "name", "value", "capability", key + "_"))] = place.pop(key)
        elif isinstance(value, int) and kind < 5:
            place[key] = rng.choice((value + 1, value - 1, *_INTS))
        elif isinstance(value, str) and kind < 5:
            place[key] = rng.choice((value + "x", value[:-1], value * 3, "read", "c"))
        else:
            place[key] = self._value()

    def _value(self) -> Any:
        return copy.deepcopy(self.rng.choice(_VALUES))

    def _column(self, data: bytes) -> bytes:
        """Change a column as the packed integers that it holds."""
        rng = self.rng
        width = rng.choice((1, 4, 4, 8))
        if rng.random() < 0.2 or len(data) < width:
            return rng.choice((data + bytes(width), data[:-width], data + data, b""))
        at = rng.randrange(len(data) // width) * width
        number = int.from_bytes(data[at : at + width], "little")
        other = rng.choice((number + 1, number - 1, *_INTS, rng.randrange(8))) % (1 << (8 * width))
        return data[:at] + struct.pack("<Q", other)[:width] + data[at + width :]


@cache
def random_programs() -> list[Artifact]:
    """Small random programs, compiled, with their loops and regions."""
    return [compile(from_json(generate(seed).graph), level=0) for seed in PROGRAMS]


def _values(payload: bytes) -> list[tuple[int, int, tuple[int, ...]]]:
    """Where each value of a payload begins and ends, and where its keys and values begin if it is a map."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(payload))
    unpacker.feed(payload)
    found: list[tuple[int, int, tuple[int, ...]]] = []

    def walk() -> None:
        start = unpacker.tell()
        head, entries = payload[start], list[int]()
        if head & 0xF0 == 0x80 or head in (0xDE, 0xDF):
            for _ in range(unpacker.read_map_header() * 2):
                entries.append(unpacker.tell())
                walk()
        elif head & 0xF0 == 0x90 or head in (0xDC, 0xDD):
            for _ in range(unpacker.read_array_header()):
                walk()
        else:
            unpacker.skip()
        found.append((start, unpacker.tell(), tuple(entries)))

    walk()
    return found


def _longer(old: bytes) -> bytes:
    head = old[0]
    if head < 0x80:
        return b"\xcc" + old
    if 0x80 <= head < 0xA0:
        return bytes((0xDE if head < 0x90 else 0xDC, 0, head & 0x0F)) + old[1:]
    if 0xA0 <= head < 0xC0:
        return bytes((0xD9, head & 0x1F)) + old[1:]
    if head == 0xC4:
        return b"\xc5\x00" + old[1:]
    return b"\xd3" + old[1:].rjust(8, b"\0")[:8]


def _repair(tree: Any) -> None:
    """Make the capability manifest say what the nodes name, as far as the tree can be read."""
    with suppress(KeyError, TypeError, IndexError, AttributeError):
        flows = [flow for agent in tree["agents"] for flow in agent["flows"]]
        starts = [flow["dag"] for flow in flows] + [len(tree["dags"])]
        for flow, start, end in zip(flows, starts, starts[1:]):
            tables = [values for dag in tree["dags"][start:end] for values in dag["attributes"]]
            named = {values["capability"] for values in tables if "capability" in values}
            known = flow["capabilities"]
            flow["capabilities"] = {name: known.get(name, {"effect": None, "schema": None}) for name in sorted(named)}
