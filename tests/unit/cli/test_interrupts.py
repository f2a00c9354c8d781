"""A signal is heard even where the main thread waits and never comes to run a handler."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from apxm.cli.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_while_the_main_thread_is_deaf(number):
    """The signal is given to another thread: the main one, in its wait, does not notice."""
    said, wait = [], threading.Lock()
    wait.acquire()

    def cancel(reason):
        said.append(reason)
        wait.release()

    def deaf():
        return wait.acquire(timeout=10)

    def send():
        for _ in range(1_000):  # long after the main thread has come to its wait
            while sys._current_frames()[threading.main_thread().ident].f_code is not deaf.__code__:
                pass
            os.sched_yield()
        signal.pthread_kill(threading.get_ident(), number)

    before = signal.getsignal(number)
    with Interrupts(cancel, said.append) as interrupts:
        threading.Thread(target=send).start()
        assert deaf()
    assert interrupts.received == number
    assert said[0].endswith("cancelling; once more ends at once")
    assert said[1].endswith("cancelled the run")
    assert signal.getsignal(number) is before


def test_what_was_watched_before_is_watched_again():
    wakeup = signal.set_wakeup_fd(-1)
    try:
        with Interrupts(lambda _: None, lambda _: None) as interrupts:
            pass
        assert interrupts.received is None
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(wakeup)
