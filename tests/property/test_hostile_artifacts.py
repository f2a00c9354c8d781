"""Whatever the bytes, a decode gives an artifact or an ArtifactError. Most mutants get their digest made right again."""

from __future__ import annotations

import copy
import os
import random
import struct
from typing import Any

import msgpack
import pytest

from apxm.artifact import Artifact
from apxm.artifact.format import seal, unseal
from apxm.compiler.compile import compile
from apxm.errors import ArtifactError
from apxm.scheduler.plan import ExecutionPlan
from tests.unit.artifact.programs import RICH, SMALL

MUTANTS, MUTANTS_LONG = 100_000, 1_000_000
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

_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 255, 2**31, 2**32 - 1, 2**63 - 1, -(2**63), 0.5, float("nan"), float("inf")),
    *("", "a", "error", "default", "\0", "name", b"", b"\0", b"\xff" * 8, [], {}, [[]], {"": 1}, [["a", "str"]]),
]
_INTS = (0, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32 - 1)
_HEADS = bytes((0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC6, 0xC9, 0xCA, 0xCB, 0xCF, 0xD3, 0xD4, 0xDB, 0xDD, 0xDF, 0xFF))


class Mutator:
    """Makes mutants of a few artifacts; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        programs = (SMALL, FEW, RICH)
        self.payloads = [unseal(compile(program).to_bytes()) for program in programs]
        self.weights = (5, 8, 1)  # the rich one takes five times as long to decode

    def mutant(self) -> tuple[bytes, bool]:
        """The bytes of a mutant, and whether its digest is right."""
        rng = self.rng
        payload = rng.choices(self.payloads, self.weights)[0]
        kind = rng.random()
        if kind < 0.08:
            return self._bytes(seal(payload)), False
        if kind < 0.45:
            return seal(self._bytes(payload)), True
        return seal(self._tree(payload)), True

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

    def _tree(self, payload: bytes) -> bytes:
        """Change a value somewhere in the tree of the payload."""
        tree = msgpack.unpackb(payload)
        for _ in range(self.rng.choice((1, 1, 2))):
            self._change(tree)
        try:
            return msgpack.packb(tree)
        except (ValueError, OverflowError):  # nested deeper, or a larger number, than msgpack writes
            return payload

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
        value = self.rng.choice(_VALUES)
        return copy.deepcopy(value) if isinstance(value, (list, dict)) else value

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


def _use(artifact: Artifact) -> None:
    """Look at everything a run would look at; a decoded dag must not surprise whoever takes it."""
    for dag in artifact.flows().values():
        stack = [dag]
        while stack:
            one = stack.pop()
            plan = ExecutionPlan(one)
            for slot in range(len(one)):
                assert all(edge.source < slot for edge in one.in_edges(slot))
                plan.out_edges(slot)
            assert all(len(one.parameters) <= slot < len(one) for slot in one.exits)
            for regions in one.regions.values():
                stack.extend(regions.values())
    assert artifact.into_dag() in artifact.flows().values()


@pytest.fixture(scope="module")
def count(long_run: bool) -> int:
    return MUTANTS_LONG if long_run or os.environ.get("APXM_LONG") == "1" else MUTANTS


def test_no_bytes_make_a_decode_do_anything_but_give_an_artifact_or_refuse(seed, count):
    mutator = Mutator(seed)
    accepted = right_digest = 0
    for number in range(count):
        data, right = mutator.mutant()
        right_digest += right
        try:
            artifact = Artifact.from_bytes(data)
        except ArtifactError:
            continue
        except BaseException as error:
            raise AssertionError(f"seed {seed}, mutant {number}: {data.hex()}") from error
        accepted += 1
        try:
            _use(artifact)
        except Exception as error:
            raise AssertionError(f"seed {seed}, mutant {number} was accepted: {data.hex()}") from error
    assert right_digest > 0.9 * count
    assert count // 100 < accepted < count // 2, accepted  # the mutants come close to what is right, and are not
