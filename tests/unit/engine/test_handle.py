"""What a watcher of a run is given, driven without a run."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from apxm.engine import handle
from apxm.engine.handle import RunHandle
from apxm.observability.events import RunEnded, RunStarted


class Watched:
    """The part of a run that a handle uses."""

    run_id = "r"

    def watch(self, subscriber):
        self.publish = subscriber


def handle_of():
    run = Watched()
    made, future = RunHandle(run), Future()
    made.attach(future)
    return run, made, future


def started(number):
    return RunStarted("r", f"default.f{number}", 1)


def test_events_come_in_order_and_end_after_the_end_of_the_run():
    run, made, _ = handle_of()
    for event in (started(1), started(2), RunEnded("r", "done", 1.0), started(3)):
        run.publish(event)
    assert list(made.events()) == [started(1), started(2), RunEnded("r", "done", 1.0)]


def test_events_end_when_the_run_does_even_if_it_could_not_say_so():
    run, made, future = handle_of()
    run.publish(started(1))
    future.set_exception(RuntimeError("crashed"))
    assert list(made.events()) == [started(1)]


def test_a_watcher_who_waits_is_woken_when_the_run_ends_without_a_word():
    _, made, future = handle_of()
    seen = []
    watcher = threading.Thread(target=lambda: seen.append(list(made.events())), daemon=True)
    watcher.start()
    while not made._changed._waiters:
        pass
    future.set_exception(RuntimeError("crashed"))
    watcher.join(5)
    assert seen == [[]]


def test_a_watcher_who_is_behind_loses_the_oldest_events_and_is_told_how_many(monkeypatch):
    monkeypatch.setattr(handle, "EVENTS_MAX", 3)
    run, made, future = handle_of()
    for number in range(5):
        run.publish(started(number))
    future.set_result(None)
    assert list(made.events()) == [started(2), started(3), started(4)]
    assert made.missed == 2


def test_a_handle_knows_when_its_run_is_done():
    _, made, future = handle_of()
    assert not made.done()
    future.set_result("value")
    assert (made.done(), made.result(1)) == (True, "value")
