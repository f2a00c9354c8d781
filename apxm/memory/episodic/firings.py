"""Firings of one run as they pile up: columns, not objects. What a node costs when every firing is on record.

The engine appends a slot and a time; everything else about a node is looked up once for its flow. Episodes are made of them
when somebody looks. Earned by benches/test_episodes.py.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.memory.episodic.episode import FIRING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from apxm.observability.events import Path

FIRINGS_MAX = 4_096  # of one batch: what a reader has to unpack at once


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What episodes say of the nodes of one flow or region, by slot."""

    flow: str
    agent: str
    ids: Sequence[int]
    names: Sequence[str]
    ops: Sequence[str]


@dataclass(slots=True, eq=False)
class Sheet:
    """Firings in one frame, in the order of their ends. `ends` are seconds of a monotonic clock, `tooks` their durations.

    What few firings have is by position: `codes` of those that failed, `attempts` past the first, `contents`, `labels`.
    """

    path: Path
    columns: Columns
    slots: list[int] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    tooks: list[float] = field(default_factory=list)
    codes: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    contents: dict[int, Mapping[str, str]] = field(default_factory=dict)
    labels: dict[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Firings:
    """Some firings of one run. `shift` makes Unix time of the clock of its sheets."""

    run: str
    shift: float
    sheets: Sequence[Sheet]

    def __len__(self) -> int:
        return sum(len(sheet.slots) for sheet in self.sheets)

    @property
    def since(self) -> float:
        """Unix time of the first end."""
        return min(sheet.ends[0] for sheet in self.sheets) + self.shift

    @property
    def until(self) -> float:
        """Unix time of the last end."""
        return max(sheet.ends[-1] for sheet in self.sheets) + self.shift

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(len(sheet.codes) for sheet in self.sheets)

    def rows(self, first: int) -> Iterator[tuple[Any, ...]]:
        """The fields of their episodes, numbered from `first` on."""
        for sheet in self.sheets:
            columns, path = sheet.columns, sheet.path
            ids, names, ops, flow, agent = columns.ids, columns.names, columns.ops, columns.flow, columns.agent
            run, shift = self.run, self.shift
            codes, attempts, contents, labels = sheet.codes, sheet.attempts, sheet.contents, sheet.labels
            for at, (slot, end, took) in enumerate(zip(sheet.slots, sheet.ends, sheet.tooks)):
                name = names[slot]
                yield (
                    *(first + at, end + shift, run, path, ids[slot], name, ops[slot], flow, agent),
                    *(FIRING, name, took * 1e3, codes.get(at), None, contents.get(at), None, labels.get(at, ())),
                    attempts.get(at, 1),
                )
            first += len(sheet.slots)

    def pack(self) -> bytes:
        """As bytes. Durations are kept to the microsecond or so: as 32-bit floats."""
        import msgpack

        packed: bytes = msgpack.packb([self.shift, [_packed(sheet) for sheet in self.sheets]], unicode_errors="surrogatepass")
        return packed

    @classmethod
    def unpack(cls, run: str, data: bytes) -> Firings:
        """What was packed."""
        import msgpack

        shift, sheets = msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")
        return cls(run, shift, [_unpacked(sheet) for sheet in sheets])


def _packed(sheet: Sheet) -> list[Any]:
    columns, slots = sheet.columns, sheet.slots
    ids, names, ops = columns.ids, columns.names, columns.ops
    first = sheet.ends[0]
    known = {op: at for at, op in enumerate(dict.fromkeys(map(ops.__getitem__, slots)))}
    return [
        sheet.path,
        columns.flow,
        columns.agent,
        [ids[slot] for slot in slots],
        [names[slot] for slot in slots],
        list(known),
        array("H", [known[ops[slot]] for slot in slots]).tobytes(),
        first,
        array("f", [end - first for end in sheet.ends]).tobytes(),
        array("f", sheet.tooks).tobytes(),
        *(sheet.codes, sheet.attempts, sheet.contents, sheet.labels),
    ]


def _unpacked(data: list[Any]) -> Sheet:
    path, flow, agent, ids, names, known, ops, first, ends, tooks, codes, attempts, contents, labels = data
    columns = Columns(flow, agent, ids, names, [known[at] for at in array("H", ops)])
    return Sheet(
        tuple((node, step) for node, step in path),
        columns,
        list(range(len(ids))),
        [first + end for end in array("f", ends)],
        list(array("f", tooks)),
        *(codes, attempts, contents, {at: tuple(several) for at, several in labels.items()}),
    )


def spans(began: float, ends: Sequence[float]) -> list[float]:
    """How long each of some firings took that came one right after the other."""
    return [end - before for before, end in zip((began, *ends), ends)]
