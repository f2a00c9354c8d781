"""Renewals: as long as something is held, and no longer."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from apxm.coordination.leases import Leases
from apxm.errors import TransientError

LEASE_MS = 15  # a renewal every 5 ms
SOON_S = 5.0  # for what comes in milliseconds


def renewing():
    return [thread for thread in threading.enumerate() if thread.name == "apxm-leases"]


class Renewals:
    """Notes the renewals of one lease, and answers them."""

    def __init__(self, *answers):
        self.answers, self.count, self.enough = list(answers), 0, threading.Event()
        self.wanted = len(answers)

    def __call__(self):
        self.count += 1
        if self.count >= self.wanted:
            self.enough.set()
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_lease_is_renewed_again_and_again_whatever_goes_wrong_once():
    leases = Leases()
    seen, other = Renewals(True, TransientError("busy"), RuntimeError("bug"), True), Renewals(True, True)
    leases.keep("a", LEASE_MS, seen)
    leases.keep("b", LEASE_MS, other)
    assert seen.enough.wait(SOON_S)
    assert other.enough.wait(SOON_S)
    leases.close()


def test_a_lost_lease_is_renewed_no_more_and_the_thread_ends_with_the_last():
    leases = Leases()
    lost = Renewals(True, False)
    leases.keep("a", LEASE_MS, lost)
    (thread,) = renewing()
    thread.join(SOON_S)
    assert (thread.is_alive(), lost.count) == (False, 2)


def test_after_it_was_let_go_the_thread_ends_and_comes_back_for_the_next():
    leases = Leases()
    for token in ("a", "b"):
        leases.keep(token, 60_000, Renewals())
        (thread,) = renewing()
        leases.let_go(token)
        thread.join(SOON_S)
        assert renewing() == []


def test_closing_ends_the_thread():
    leases = Leases()
    for token in "abc":
        leases.keep(token, 60_000, Renewals())
    leases.close()
    assert renewing() == []
    leases.close()


def test_a_server_that_has_not_answered_is_not_asked_again():
    leases, answer = Leases(), Future()
    asked = Renewals(answer, True)
    other = Renewals(*[True] * 6)
    leases.keep("a", LEASE_MS, asked)
    leases.keep("b", LEASE_MS, other)
    assert other.enough.wait(SOON_S)
    assert asked.count == 1
    answer.set_result(True)
    assert asked.enough.wait(SOON_S)
    leases.close()
