"""Firings of one run as they pile up: columns, not objects. What a node costs when every firing is on record.

The engine appends a slot and a time; everything else about a node is looked up once for its flow. Episodes are made of them
when somebody looks. Earned by benches/test_episodes.py.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import accumulate, chain, groupby
from operator import attrgetter
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

        groups = [_packed(columns, list(sheets)) for columns, sheets in groupby(self.sheets, _columns)]
        packed: bytes = msgpack.packb([self.shift, groups], unicode_errors="surrogatepass")
        return packed

    @classmethod
    def unpack(cls, run: str, data: bytes) -> Firings:
        """What was packed."""
        import msgpack

        shift, groups = msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")
        return cls(run, shift, [sheet for group in groups for sheet in _unpacked(group)])


_columns = attrgetter("columns")
_slots = attrgetter("slots")
_rare = attrgetter("codes", "attempts", "contents", "labels")


def _packed(columns: Columns, sheets: Sequence[Sheet]) -> list[Any]:
    """Sheets of one flow together: most may have a single firing."""
    slots = list(chain.from_iterable(map(_slots, sheets)))
    known = {slot: at for at, slot in enumerate(dict.fromkeys(slots))}
    return [
        columns.flow,
        columns.agent,
        [(columns.ids[slot], columns.names[slot], columns.ops[slot]) for slot in known],
        [sheet.path for sheet in sheets],
        array("I", [len(sheet.slots) for sheet in sheets]).tobytes(),
        array("d", [sheet.ends[0] for sheet in sheets]).tobytes(),
        array("I", map(known.__getitem__, slots)).tobytes(),
        array("f", [end - sheet.ends[0] for sheet in sheets for end in sheet.ends]).tobytes(),
        array("f", chain.from_iterable([sheet.tooks for sheet in sheets])).tobytes(),
        {at: rare for at, sheet in enumerate(sheets) if any(rare := _rare(sheet))},
    ]


def _unpacked(data: list[Any]) -> Iterator[Sheet]:
    flow, agent, nodes, paths, counts, firsts, slots, ends, tooks, rare = data
    columns = Columns(flow, agent, *zip(*nodes))
    slots, ends, tooks = array("I", slots), array("f", ends), array("f", tooks)
    upto = accumulate(array("I", counts))
    since = 0
    for at, (path, until, first) in enumerate(zip(paths, upto, array("d", firsts))):
        codes, attempts, contents, labels = rare.get(at) or ({}, {}, {}, {})
        yield Sheet(
            tuple((node, step) for node, step in path),
            columns,
            list(slots[since:until]),
            [first + end for end in ends[since:until]],
            list(tooks[since:until]),
            *(codes, attempts, contents, {at: tuple(several) for at, several in labels.items()}),
        )
        since = until


def spans(began: float, ends: Sequence[float]) -> list[float]:
    """How long each of some firings took that came one right after the other."""
    if len(ends) == 1:  # as in most frames of a large MAP
        return [ends[0] - began]
    return [end - before for before, end in zip((began, *ends), ends)]
