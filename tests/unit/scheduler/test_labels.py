"""Labels of slots: noted once they cannot change any more, and never before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.outcome import Child, Route, Spawn
from apxm.scheduler.binding import SYNC
from apxm.scheduler.dataflow import Frame
from tests.unit.scheduler.dags import PARAMETER, N, Steps, binding_of, on

if TYPE_CHECKING:
    import pytest

    from apxm.scheduler.binding import Binding

CHAIN = 300


def labelled(nodes: list[N], **labels: str) -> Binding:
    """A binding some of whose nodes are sources; `labels` says which, by name."""
    binding = binding_of(nodes)
    places = {node.name: slot for slot, node in enumerate(nodes)}
    binding.labels.update({places[name]: label for name, label in labels.items()})
    return binding


def names(run: Steps, frame: Frame, slot: int) -> tuple[str, ...]:
    return run.labels.names(frame.labels(slot, run.labels))


def test_what_led_to_a_value_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [N("p", op=PARAMETER), N("n1", ins=("p",)), *(N(f"n{i}", ins=(f"n{i - 1}",)) for i in range(2, CHAIN))]
    run = Steps(labelled(nodes, n1="web"), "x").run()
    looked: list[int] = []
    led_from = Frame._led_from

    def looking(frame: Frame, slot: int) -> Any:
        looked.append(slot)
        return led_from(frame, slot)

    monkeypatch.setattr(Frame, "_led_from", looking)
    for slot in (CHAIN - 1, *range(CHAIN), *reversed(range(CHAIN))):
        assert set(names(run, run.root, slot)) == ({"user", "web"} if slot else {"user"})
    assert len(looked) == len(set(looked)) == CHAIN - 1


def test_what_has_not_ended_is_not_noted() -> None:
    nodes = [
        N("r", lambda context: Route("true", 1), kind=SYNC),
        N("no", ins=(on("r", "false"),)),
        N("yes", ins=(on("r", "true"),)),
        N("all", lambda *values: list(values), ("no", "yes"), op="WAIT_ALL"),
    ]
    run = Steps(labelled(nodes, no="web", yes="tool:x"))
    assert names(run, run.root, 3) == ("web", "tool:x")  # nobody knows yet which way it takes
    run.run()
    assert names(run, run.root, 3) == ("tool:x",)
    assert names(run, run.root, 3) == ("tool:x",)


def test_frames_that_nobody_asks_note_nothing() -> None:
    run = Steps(labelled([N("a"), N("b", ins=("a",))], a="web")).run()
    assert not hasattr(run.root, "known")
    assert names(run, run.root, 1) == ("web",)
    assert run.root.known


def test_a_frame_deep_down_can_be_asked_though_it_is_deeper_than_the_stack_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.scheduler.dags.check", lambda run: None)
    seen: list[tuple[str, ...]] = []
    body = binding_of([N("p", op=PARAMETER), N("leaf", lambda _, given: seen.append(asked()) or given, ("p",), kind=SYNC)])
    depth = 400

    def opens(below: Binding) -> Binding:
        def fire(_: Any, given: Any) -> Spawn:
            return Spawn((Child(below, [given], "down"),), lambda results: results[0].value)

        return binding_of([N("p", op=PARAMETER), N("open", fire, ("p",), kind=SYNC, attributes={"opens": True})])

    deepest = body
    for _ in range(depth):
        deepest = opens(deepest)
    run = Steps(deepest, "x", max_depth=depth + 1)

    def asked() -> tuple[str, ...]:
        *_, last = run.frames()
        return names(run, last, 0)

    run.run()
    assert seen == [("user",)]
