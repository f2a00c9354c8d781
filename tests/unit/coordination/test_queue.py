"""Who has which task, and until when."""

from __future__ import annotations

import pytest

from apxm import database
from apxm.coordination import queue as queue_module
from apxm.coordination.queue import ATTEMPTS_MAX, DATA_BYTES_MAX, Claim, Queues, QueueStat
from apxm.coordination.store import Store
from apxm.errors import FailureClass, InvalidError, TransientError, UnknownEffectError


def taken(queues, queue="q", lease_ms=1_000):
    claim = queues.claim(queue, "me", lease_ms)
    return None if claim is None else claim.data


def test_tasks_come_in_the_order_of_their_priority_then_of_their_putting(queues):
    for data, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
        queues.put("q", data, priority=priority)
    assert [task.data for task in queues.list("q")] == ["b", "e", "a", "c", "d"]
    assert [taken(queues) for _ in range(6)] == ["b", "e", "a", "c", "d", None]


def test_a_claim_has_the_id_the_data_and_a_token_of_its_own(queues):
    first, second = queues.put("q", {"n": [1, None, "ä"]}), queues.put("q", 2)
    one, two = queues.claim("q", "me", 1_000), queues.claim("q", "me", 1_000)
    assert (one.task_id, one.data, two.task_id) == (first, {"n": [1, None, "ä"]}, second)
    assert one.token != two.token


def test_queues_do_not_share_tasks(queues):
    queues.put("a", 1)
    assert taken(queues, "b") is None
    assert taken(queues, "a") == 1


def test_a_delayed_task_comes_after_its_time(queues, clock):
    queues.put("q", "late", delay_ms=500)
    queues.put("q", "now")
    assert [taken(queues), taken(queues)] == ["now", None]
    clock.pass_ms(499)
    assert taken(queues) is None
    clock.pass_ms(1)
    assert taken(queues) == "late"


def test_an_acknowledged_task_is_gone(queues):
    queues.put("q", 1)
    claim = queues.claim("q", "me", 1_000)
    queues.acknowledge(claim.task_id, claim.token)
    assert (queues.stats(), taken(queues)) == ([], None)
    with pytest.raises(InvalidError, match="there is no task"):
        queues.get(claim.task_id)


def test_a_task_given_back_is_there_at_once_in_its_old_place_and_the_attempt_counted(queues):
    first = queues.put("q", 1)
    queues.put("q", 2)
    claim = queues.claim("q", "me", 1_000)
    queues.give_back(claim.task_id, claim.token)
    assert (queues.get(first).state, queues.get(first).attempts) == ("ready", 1)
    assert taken(queues) == 1


def test_a_lease_that_ran_out_lets_others_have_the_task(queues, clock):
    queues.put("q", 1)
    first = queues.claim("q", "me", 1_000)
    clock.pass_ms(999)
    assert taken(queues) is None
    clock.pass_ms(1)
    second = queues.claim("q", "you", 1_000)
    assert second.data == 1
    assert (queues.get(first.task_id).owner, queues.get(first.task_id).attempts) == ("you", 2)


def test_who_comes_late_is_refused_and_changes_nothing(queues, clock):
    task_id = queues.put("q", 1)
    old = queues.claim("q", "me", 1_000)
    clock.pass_ms(2_000)
    new = queues.claim("q", "you", 1_000)
    with pytest.raises(UnknownEffectError, match=r"lease of task .* was lost") as refused:
        queues.acknowledge(task_id, old.token)
    assert (refused.value.code, refused.value.failure) == ("lease_lost", FailureClass.UNKNOWN)
    queues.give_back(task_id, old.token)
    assert not queues.renew(task_id, old.token, 9_000)
    assert queues.get(task_id).state == "leased"
    assert queues.renew(task_id, new.token, 1_000)
    queues.acknowledge(task_id, new.token)


def test_a_late_acknowledgement_counts_while_nobody_else_had_the_task(queues, clock):
    queues.put("q", 1)
    claim = queues.claim("q", "me", 1_000)
    clock.pass_ms(5_000)
    queues.acknowledge(claim.task_id, claim.token)
    assert queues.stats() == []


def test_between_the_look_for_a_task_and_its_taking_nobody_gets_in(queues, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    other = Store(lambda: tmp_path, clock)
    assert Queues(other).claim("q", "you", 1_000) is None
    queues.put("q", 1)
    met = []

    def token(size):
        with pytest.raises(TransientError):
            Queues(other).claim("q", "you", 1_000)
        met.append(size)
        return "x" * size

    monkeypatch.setattr(queue_module.secrets, "token_hex", token)
    assert taken(queues) == 1
    assert met
    other.close()


def test_a_renewed_lease_counts_from_now(queues, clock):
    queues.put("q", 1)
    claim = queues.claim("q", "me", 1_000)
    clock.pass_ms(900)
    assert queues.renew(claim.task_id, claim.token, 1_000)
    clock.pass_ms(900)
    assert taken(queues) is None
    clock.pass_ms(100)
    assert taken(queues) == 1


@pytest.mark.parametrize("how", ["given back", "ran out"])
def test_after_so_many_attempts_a_task_is_dead(queues, clock, how):
    task_id = queues.put("q", 1, attempts_max=2)
    for attempt in (1, 2):
        claim = queues.claim("q", "me", 1_000)
        assert queues.get(task_id).attempts == attempt
        if how == "given back":
            queues.give_back(claim.task_id, claim.token)
        else:
            clock.pass_ms(1_000)
    assert queues.get(task_id).state == "dead"
    assert (taken(queues), queues.stats()) == (None, [QueueStat("q", 0, 0, 0, 1)])
    queues.requeue(task_id)
    assert (queues.get(task_id).state, queues.get(task_id).attempts, taken(queues)) == ("ready", 0, 1)


def test_by_default_a_task_has_five_attempts(queues):
    task_id = queues.put("q", 1)
    for _ in range(ATTEMPTS_MAX):
        claim = queues.claim("q", "me", 1_000)
        queues.give_back(claim.task_id, claim.token)
    assert (ATTEMPTS_MAX, queues.get(task_id).state) == (5, "dead")


def test_a_leased_task_that_is_put_back_in_the_queue_is_lost_to_its_claimer(queues):
    task_id = queues.put("q", 1)
    claim = queues.claim("q", "me", 1_000)
    queues.requeue(task_id)
    with pytest.raises(UnknownEffectError):
        queues.acknowledge(task_id, claim.token)
    assert taken(queues) == 1


def test_counts_and_lists_see_what_the_clock_says(queues, clock):
    queues.put("a", 1, attempts_max=1)
    queues.put("a", 2)
    queues.put("a", 3, delay_ms=10_000)
    queues.put("b", 4)
    queues.claim("a", "me", 1_000)
    queues.claim("a", "me", 1_000)
    assert queues.stats() == [QueueStat("a", 0, 1, 2, 0), QueueStat("b", 1, 0, 0, 0)]
    clock.pass_ms(1_000)
    assert queues.stats() == [QueueStat("a", 1, 1, 0, 1), QueueStat("b", 1, 0, 0, 0)]
    assert [task.data for task in queues.list("a", state="dead")] == [1]
    assert [task.data for task in queues.list("a", state="ready")] == [2, 3]
    assert [task.data for task in queues.list("a", limit=2)] == [1, 2]


def test_one_task_or_those_of_a_state_can_be_deleted(queues):
    ids = [queues.put("q", number) for number in range(4)]
    queues.claim("q", "me", 1_000)
    queues.drop(ids[2])
    assert queues.purge("q", state="ready") == 2
    assert [task.data for task in queues.list("q")] == [0]
    assert queues.purge("q") == 1
    for gone in (queues.drop, queues.requeue, queues.get):
        with pytest.raises(InvalidError, match="there is no task"):
            gone(ids[0])


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
def test_a_queue_needs_a_name_that_can_be_shown(queues, name):
    for use in (lambda: queues.put(name, 1), lambda: queues.claim(name, "me", 1_000)):
        with pytest.raises(InvalidError, match="is no name of a queue"):
            use()


@pytest.mark.parametrize(
    "wrong", [{"attempts_max": 0}, {"delay_ms": -1}, {"delay_ms": float("nan")}, {"delay_ms": float("inf")}, {"priority": 2**70}]
)
def test_a_task_with_a_number_that_makes_no_sense_is_refused(queues, wrong):
    with pytest.raises(InvalidError, match=f"{next(iter(wrong))} of a task is"):
        queues.put("q", 1, **wrong)
    assert queues.stats() == []


def test_the_data_of_a_task_is_bounded(queues):
    queues.put("q", "x" * (DATA_BYTES_MAX - 2))
    with pytest.raises(InvalidError, match="at most 1,048,576 are kept"):
        queues.put("q", "x" * (DATA_BYTES_MAX - 1))


def test_a_token_is_shown_to_nobody_else(queues):
    queues.put("q", 1)
    claim = queues.claim("q", "me", 1_000)
    assert isinstance(claim, Claim)
    assert claim.token not in str(queues.get(claim.task_id))
