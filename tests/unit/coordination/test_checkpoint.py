"""Who asked what, and what was answered."""

from __future__ import annotations

import contextlib
import threading

import pytest

from apxm.coordination.checkpoint import Checkpoints
from apxm.coordination.store import Store
from apxm.errors import InvalidError

YES_OR_NO = {"enum": ["yes", "no"]}


def test_a_question_is_pending_with_all_that_a_person_needs(checkpoints, clock):
    checkpoints.open("b", "And this?", run_id="r2", timeout_ms=2_000)
    clock.pass_ms(500)
    checkpoints.open("a", "May I?", {"sum": 3}, run_id="r1", schema=YES_OR_NO)
    first, second = checkpoints.pending()
    assert (first.id, first.message, first.data, first.run_id, first.deadline) == ("b", "And this?", None, "r2", 1_000_002.0)
    assert (second.data, second.answer_schema, second.deadline, second.opened_at) == ({"sum": 3}, YES_OR_NO, None, 1_000_000.5)
    assert "answer" not in second.to_map()


@pytest.mark.parametrize("value", [None, True, 0, "", [1, {"a": 2}]])
def test_an_answer_is_what_was_said(checkpoints, value):
    checkpoints.open("c", "?")
    assert checkpoints.answer("c", value).answer == value
    found = checkpoints.get("c")
    assert (found.state, found.answer, checkpoints.pending()) == ("answered", value, [])
    assert found.to_map()["answer"] == value


def test_the_first_answer_wins(checkpoints):
    checkpoints.open("c", "?")
    checkpoints.answer("c", 1)
    with pytest.raises(InvalidError, match="`c` was answered already"):
        checkpoints.answer("c", 2)
    assert checkpoints.get("c").answer == 1


def test_of_many_answers_at_once_one_is_taken(tmp_path, clock):
    stores = [Store(lambda: tmp_path, clock) for _ in range(4)]
    Checkpoints(stores[0]).open("c", "?")
    went = []
    start = threading.Barrier(4)

    def answers(number):
        start.wait()
        with contextlib.suppress(InvalidError):
            went.append(Checkpoints(stores[number]).answer("c", number).answer)

    threads = [threading.Thread(target=answers, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert went == [Checkpoints(stores[0]).get("c").answer]
    for store in stores:
        store.close()


def test_an_answer_between_the_look_and_the_storing_of_another_one_wins(tmp_path, clock):
    other = Store(lambda: tmp_path, clock)
    Checkpoints(other).open("c", "?")
    looks = []

    def late_clock():
        looks.append(1)
        if len(looks) == 2:  # the first is the look, the second the storing
            Checkpoints(other).answer("c", "first")
        return clock()

    mine = Store(lambda: tmp_path, late_clock)
    with pytest.raises(InvalidError, match="was answered already"):
        Checkpoints(mine).answer("c", "second")
    assert Checkpoints(other).get("c").answer == "first"
    mine.close()
    other.close()


def test_an_answer_must_fit_the_schema(checkpoints):
    checkpoints.open("c", "?", schema=YES_OR_NO)
    with pytest.raises(InvalidError, match=r"takes no such answer: \"maybe\" is not one of") as refused:
        checkpoints.answer("c", "maybe")
    assert refused.value.hint == 'it wants {"enum": ["yes", "no"]}'
    assert checkpoints.answer("c", "no").answer == "no"


def test_a_null_answer_is_not_no_answer_to_a_schema(checkpoints):
    checkpoints.open("c", "?", schema={"type": "null"})
    assert checkpoints.answer("c", None).state == "answered"


@pytest.mark.parametrize("value", [float("inf"), {1: 1}, b"", "x" * (1 << 20)])
def test_an_answer_must_be_json_of_a_size(checkpoints, value):
    checkpoints.open("c", "?")
    with pytest.raises(InvalidError, match="the answer"):
        checkpoints.answer("c", value)
    assert checkpoints.get("c").state == "open"


def test_after_the_deadline_nobody_can_answer(checkpoints, clock):
    checkpoints.open("c", "?", timeout_ms=1_000)
    clock.pass_ms(999)
    assert [one.id for one in checkpoints.pending()] == ["c"]
    clock.pass_ms(1)
    assert (checkpoints.pending(), checkpoints.get("c").state) == ([], "expired")
    with pytest.raises(InvalidError, match="takes no answer any more: its deadline passed"):
        checkpoints.answer("c", 1)


def test_the_end_of_the_time_and_an_answer_cannot_both_win(checkpoints):
    checkpoints.open("c", "?")
    assert checkpoints.expire("c").state == "expired"
    with pytest.raises(InvalidError, match="its deadline passed"):
        checkpoints.answer("c", 1)
    checkpoints.open("d", "?")
    checkpoints.answer("d", 1)
    assert (checkpoints.expire("d").state, checkpoints.get("d").answer) == ("answered", 1)


def test_a_question_can_be_withdrawn_by_the_run_that_asked_last(checkpoints):
    checkpoints.open("c", "?", run_id="r1")
    checkpoints.open("c", "?", run_id="r2")
    assert checkpoints.withdraw("c", "r1").state == "open"
    assert checkpoints.withdraw("c", "r2").state == "withdrawn"
    with pytest.raises(InvalidError, match="the run that asked was cancelled"):
        checkpoints.answer("c", 1)


@pytest.mark.parametrize("end", [lambda c: c.expire("c"), lambda c: c.withdraw("c", "r1")])
def test_a_question_that_was_closed_can_be_asked_anew(checkpoints, end):
    checkpoints.open("c", "old", run_id="r1", timeout_ms=5)
    end(checkpoints)
    again = checkpoints.open("c", "new", [1], run_id="r2", schema=YES_OR_NO)
    assert (again.state, again.message, again.data, again.answer_schema, again.deadline) == ("open", "new", [1], YES_OR_NO, None)


def test_who_asks_again_is_given_the_answer_that_is_there(checkpoints):
    checkpoints.open("c", "?", run_id="r1")
    checkpoints.answer("c", "yes")
    again = checkpoints.open("c", "other words", run_id="r2", timeout_ms=1)
    assert (again.state, again.answer, again.message) == ("answered", "yes", "?")


def test_what_was_answered_can_be_forgotten(checkpoints):
    checkpoints.open("c", "?")
    checkpoints.answer("c", 1)
    checkpoints.forget("c")
    assert checkpoints.get("c") is None
    with pytest.raises(InvalidError, match="there is no checkpoint `c`"):
        checkpoints.forget("c")


def test_an_unknown_id_names_the_nearest(checkpoints):
    checkpoints.open("deploy-42", "?")
    with pytest.raises(InvalidError, match="there is no checkpoint `deploy-24`") as refused:
        checkpoints.answer("deploy-24", 1)
    assert refused.value.hint == "close: `deploy-42`"


@pytest.mark.parametrize("id", ["", " ", " a", "a\n", "x" * 201])
def test_an_id_must_be_something_that_can_be_typed(checkpoints, id):
    with pytest.raises(InvalidError, match="is no id of a checkpoint"):
        checkpoints.open(id, "?")


def test_what_is_shown_must_be_json(checkpoints):
    with pytest.raises(InvalidError, match="what a PAUSE shows is no JSON"):
        checkpoints.open("c", "?", b"bytes")
