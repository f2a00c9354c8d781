"""Labels that a frame has noted are those that a walk through everything that led to a value finds. Random programs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Allow, RunOptions, compile
from apxm.capability.policy import Request  # noqa: TC001  (the hints of interceptors are read)
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.labels import LabelTable
from apxm.scheduler.dataflow import USER, Frame
from apxm.scheduler.run import RunState
from apxm.testing.check import DEADLINE_S, Bench
from apxm.testing.programs import generate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROGRAMS, PROGRAMS_LONG = 40, 5_000


class Walk:
    """Provenance as the definition says it, from scratch for every question; `given` says what a frame was given."""

    def __init__(self, table: LabelTable, given: Callable[[Frame], int]) -> None:
        self.table, self.given = table, given

    def labels(self, frame: Frame, slots: Iterable[int], inherited: bool) -> int:
        todo = list(slots)
        found, seen = self.taint(frame) if inherited and todo else 0, set(todo)
        while todo:
            here = todo.pop()
            if here < frame.plan.parameters:
                found |= self.given(frame) if inherited else 0
                continue
            name = frame.binding.labels.get(here)
            found |= (self.table.bit(name) if name is not None else 0) | (frame.own or {}).get(here, 0)
            more = set(frame._led_from(here)) - seen
            seen |= more
            todo += more
        return found

    def taint(self, frame: Frame) -> int:
        found = 0
        while frame.up is not None:
            name = frame.up.binding.labels.get(frame.node)
            found |= self.table.bit(name) | self.given(frame) if name is not None else 0
            frame = frame.up
        return found

    def of_opener(self, frame: Frame) -> int:
        """What the opener of a frame has now."""
        up = frame.up
        if up is None:
            return self.table.bit(USER)
        alone = isinstance(frame.step, int) and up.plan.operation(frame.node) == "MAP"
        return self.labels(up, up._led_from(frame.node), True) | (0 if alone else (up.own or {}).get(frame.node, 0))


class Witness:
    """Holds every answer of a run against a walk: at least what was there when frames opened, at most what is there now."""

    def __init__(self) -> None:
        self.opened: dict[int, tuple[Frame, int]] = {}  # by id, with the frame, so that no other gets its id
        self.table: LabelTable = LabelTable()  # of the run that goes on
        self.labelled = 0

    def given_at_first(self, frame: Frame) -> int:
        return self.opened[id(frame)][1] if frame.up is not None else self.table.bit(USER)

    def see_open(self, frame: Frame) -> None:
        self.opened[id(frame)] = frame, Walk(self.table, self.given_at_first).of_opener(frame)

    def see_answer(self, frame: Frame, slots: list[int], table: LabelTable, inherited: bool, answer: int) -> None:
        assert table is self.table
        least = Walk(table, self.given_at_first).labels(frame, slots, inherited)
        now = Walk(table, lambda frame: Walk.of_opener(now, frame))
        most = now.labels(frame, slots, inherited)
        names = frame.plan.dag.names
        shown = f"of {[names[slot] for slot in slots]}: {table.names(answer)}"
        assert answer | least == answer, f"{shown} lacks {table.names(least & ~answer)}"
        assert answer | most == most, f"{shown} has {table.names(answer & ~most)} too much"
        self.labelled += bool(answer)


@pytest.mark.parametrize("level", [0, 1])
def test_what_is_noted_is_what_a_walk_finds(level: int, seed: int, long_run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = Witness()
    begin, init, joined = RunState.__init__, Frame.__init__, Frame._joined_labels

    def beginning(run: RunState, *args: Any, **named: Any) -> None:
        begin(run, *args, **named)
        witness.table = run.labels

    def opening(frame: Frame, *args: Any, **named: Any) -> None:
        init(frame, *args, **named)
        if frame.up is not None:
            witness.see_open(frame)

    def answering(frame: Frame, slots: Iterable[int], table: LabelTable, inherited: bool = True) -> int:
        listed = list(slots)
        answer = joined(frame, listed, table, inherited)
        witness.see_answer(frame, listed, table, inherited, answer)
        return answer

    def look(request: Request) -> Allow:
        assert isinstance(request.labels, dict)
        return Allow()

    with Bench() as bench:
        system = bench.runtime.capability_system()
        names = system.list_capability_names()
        system.untrusted = ()
        system.intercept(look, [name for name in names if system.get(name).effect.value == "guarded"])
        monkeypatch.setattr(RunState, "__init__", beginning)
        monkeypatch.setattr(Frame, "__init__", opening)
        monkeypatch.setattr(Frame, "_joined_labels", answering)
        for number in range(PROGRAMS_LONG if long_run else PROGRAMS):
            program = generate(seed + number)
            witness.opened.clear()
            with suppress(ApxmError):
                result = bench.runtime.execute(
                    compile(from_json(program.graph), level=level), program.parameters, run=RunOptions(deadline_s=DEADLINE_S)
                )
                root = result._run.root
                for slot in range(root.plan.size):
                    root.labels(slot, result._run.labels)
    assert witness.labelled > 3 * number, "hardly any value got a label: the programs show little"
