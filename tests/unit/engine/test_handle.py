"""What a watcher of a run is given, driven without a run."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from apxm.engine.handle import RunHandle
from apxm.errors import InvalidError
from apxm.observability.events import RunStarted
from apxm.observability.stream import EventStream


class Watched:
    """The part of a run that a handle uses."""

    run_id = "r"

    class root:
        class plan:
            dag = None


@pytest.fixture
def watched():
    stream, future = EventStream(), Future()
    made = RunHandle(Watched(), stream)
    made.attach(future)
    return stream, made, future


def test_events_end_when_the_run_does_even_if_it_could_not_say_so(watched):
    stream, made, future = watched
    stream.put(RunStarted("r", "default.f", 1, seq=1))
    future.set_exception(RuntimeError("crashed"))
    assert [event.seq for event in made.events()] == [1]
    assert list(made.events(after=1)) == []


def test_a_sequence_number_below_zero_is_refused(watched):
    with pytest.raises(InvalidError, match="0 or more"):
        watched[1].events(after=-1)


def test_a_handle_knows_when_its_run_is_done(watched):
    _, made, future = watched
    assert not made.done()
    future.set_result("value")
    assert (made.done(), made.result(1)) == (True, "value")
