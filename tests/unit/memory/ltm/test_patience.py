"""Calls that end in time for who asked, whatever they wait for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from apxm.errors import TransientError
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm.patience import CALLS_MAX, Limited, Patience, limited

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def free():
    event = threading.Event()
    yield event
    event.set()


def give_up(patience: Patience, work: Callable[[], object], calls: int) -> None:
    """Until so many are stuck: one that no thread had begun yet does not count."""
    for _ in range(100 * calls):
        if patience.stuck == calls:
            return
        with pytest.raises(TransientError, match="no answer within"):
            patience.ask(work, 0.01)
    pytest.fail(f"{patience.stuck} of {calls} calls are stuck")


def test_a_call_gives_what_it_gives_and_raises_what_it_raises():
    patience = Patience()
    assert patience.ask(lambda: 7, None) == 7
    with pytest.raises(KeyError, match="x"):
        patience.ask(lambda: {}["x"], 10)
    assert patience.stuck == 0


def test_calls_one_after_the_other_share_a_thread():
    patience = Patience()
    assert len({patience.ask(threading.get_ident, None) for _ in range(20)}) == 1


def test_who_has_waited_long_enough_goes_on_and_the_call_counts_until_it_ends(free):
    patience = Patience()
    give_up(patience, free.wait, 1)
    assert patience.stuck == 1
    before = patience.recovered
    free.set()
    patience.settle(60)
    assert patience.stuck == 0
    assert patience.recovered > before


def test_a_call_that_failed_in_the_end_is_no_recovery(free):
    def fails() -> None:
        free.wait()
        raise ValueError

    patience = Patience()
    give_up(patience, fails, 1)
    before = patience.recovered
    free.set()
    patience.settle(60)
    assert (patience.stuck, patience.recovered) == (0, before)


def test_where_every_thread_is_stuck_nobody_waits(free):
    patience = Patience()
    give_up(patience, free.wait, CALLS_MAX)
    with pytest.raises(TransientError, match=f"not answered {CALLS_MAX} calls"):
        patience.ask(lambda: 1, None)
    free.set()
    patience.settle(60)
    assert patience.ask(lambda: 1, None) == 1


def test_closing_ends_the_wait_of_all_and_begins_nothing(free):
    patience, began, said = Patience(), threading.Event(), []

    def waits() -> None:
        try:
            patience.ask(lambda: (began.set(), free.wait()), None)
        except TransientError as error:
            said.append(str(error))

    waiting = threading.Thread(target=waits)
    waiting.start()
    assert began.wait(60)
    patience.close(0.01)
    waiting.join(60)
    assert "no answer" in said[0]
    with pytest.raises(TransientError, match="being closed"):
        patience.ask(lambda: pytest.fail("it was asked"), None)


def test_the_default_embedder_needs_no_thread_and_any_other_has_a_limit():
    class Other(HashingEmbedder):
        pass

    plain, other, patience = HashingEmbedder(16), Other(16), Patience()
    assert limited(plain, patience, 1) is plain
    found = limited(other, patience, 1)
    assert isinstance(found, Limited)
    assert found.fingerprint == other.fingerprint
    assert (found.embed(["a"])[0] == found.embed_query("a")).all()
