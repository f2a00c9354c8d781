from __future__ import annotations

import sys
from contextlib import suppress
from threading import Barrier, Thread
from time import sleep
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from apxm.budget import QUANTITIES, Ledger, Limits, Reservation
from apxm.errors import BudgetError, ConfigError, InternalError


def test_what_is_reserved_cannot_be_reserved_again() -> None:
    ledger = Ledger(Limits(llm_calls=1))
    ledger.reserve(llm_calls=1)
    with pytest.raises(BudgetError):
        ledger.reserve(llm_calls=1)


def test_what_is_not_used_goes_back() -> None:
    ledger = Ledger(Limits(output_tokens=100))
    ledger.reserve(output_tokens=100).settle(output_tokens=30)
    assert ledger.spent()["output_tokens"] == 30
    ledger.reserve(output_tokens=70)
    with pytest.raises(BudgetError):
        ledger.reserve(output_tokens=1)


def test_a_quantity_that_is_not_named_was_not_used() -> None:
    ledger = Ledger(Limits(llm_calls=1, input_tokens=10))
    ledger.reserve(llm_calls=1, input_tokens=10).settle()
    assert not any(ledger.spent().values())
    assert not any(ledger.reserved().values())


def test_settling_twice_counts_once() -> None:
    ledger = Ledger(Limits(tool_calls=10))
    reservation = ledger.reserve(tool_calls=5)
    reservation.settle(tool_calls=2)
    reservation.settle(tool_calls=5)
    assert ledger.spent()["tool_calls"] == 2
    assert ledger.reserved()["tool_calls"] == 0


def test_usage_above_its_reservation_is_an_overrun_and_admits_nothing_more() -> None:
    ledger = Ledger(Limits(output_tokens=100))
    ledger.reserve(output_tokens=90).settle(output_tokens=120)
    assert ledger.spent()["output_tokens"] == 120
    assert ledger.overrun() == {"output_tokens": 30}
    for amount in (1, 0):
        with pytest.raises(BudgetError, match="overrun 30"):
            ledger.reserve(output_tokens=amount)


def test_what_was_not_used_is_no_overrun() -> None:
    ledger = Ledger(Limits())
    ledger.reserve(input_tokens=10).settle(input_tokens=4)
    assert ledger.overrun() == {}


def test_usage_of_what_was_not_reserved_is_an_overrun() -> None:
    ledger = Ledger(Limits())
    ledger.reserve(llm_calls=1).settle(llm_calls=1, cost_usd=0.25)
    assert ledger.overrun() == {"cost_usd": 0.25}


@pytest.mark.parametrize("lie", [-5, float("nan"), float("inf"), float("-inf")])
def test_usage_that_cannot_be_true_counts_as_what_was_reserved(lie: float) -> None:
    ledger = Ledger(Limits(input_tokens=10))
    ledger.reserve(input_tokens=7).settle(input_tokens=lie)
    assert ledger.spent()["input_tokens"] == 7


def test_all_quantities_are_reserved_or_none() -> None:
    ledger = Ledger(Limits(llm_calls=5, input_tokens=10))
    with pytest.raises(BudgetError, match="input_tokens"):
        ledger.reserve(llm_calls=1, input_tokens=11)
    assert not any(ledger.reserved().values())


def test_an_amount_is_reserved_at_every_level_or_nowhere() -> None:
    tenant = Ledger(Limits(tool_calls=3), scope="tenant")
    first, second = Ledger(Limits(tool_calls=2), tenant), Ledger(Limits(), tenant)
    first.reserve(tool_calls=2)
    with pytest.raises(BudgetError, match="budget tool_calls of the tenant"):
        second.reserve(tool_calls=2)
    assert second.reserved()["tool_calls"] == 0
    assert tenant.reserved()["tool_calls"] == 2
    with pytest.raises(BudgetError, match="of the run"):
        first.reserve(tool_calls=1)
    assert tenant.reserved()["tool_calls"] == 2


def test_what_a_level_spends_its_parents_spend() -> None:
    tenant = Ledger(Limits())
    run = Ledger(Limits(), tenant)
    node = Ledger(Limits(), run)
    node.reserve(input_tokens=5).settle(input_tokens=8)
    for level in (node, run, tenant):
        assert level.spent()["input_tokens"] == 8
        assert level.overrun() == {"input_tokens": 3}


def test_a_tool_call_is_spent_at_every_level() -> None:
    tenant = Ledger(Limits(tool_calls=1), scope="tenant")
    run = Ledger(Limits(), tenant)
    run.take_tool_call()
    assert [level.spent()["tool_calls"] for level in (run, tenant)] == [1, 1]
    with pytest.raises(BudgetError, match="of the tenant"):
        run.take_tool_call()


def test_the_error_has_the_numbers_and_what_to_try() -> None:
    ledger = Ledger(Limits(llm_calls=3))
    ledger.reserve(llm_calls=1).settle(llm_calls=1)
    ledger.reserve(llm_calls=1)
    with pytest.raises(BudgetError) as refused:
        ledger.reserve(llm_calls=2)
    assert "budget llm_calls of the run is exhausted: limit 3, spent 1, reserved 1, asked for 2" in str(refused.value)
    assert "--budget llm_calls=" in str(refused.value)
    assert refused.value.code == "budget"


def test_cents_add_up_exactly() -> None:
    ledger = Ledger(Limits(cost_usd=0.3))
    for _ in range(3):
        ledger.reserve(cost_usd=0.1).settle(cost_usd=0.1)
    assert ledger.spent()["cost_usd"] == 0.3
    with pytest.raises(BudgetError):
        ledger.reserve(cost_usd=0.000001)


@pytest.mark.parametrize("amount", [2.01, 2.03, 0.000000001])
def test_an_amount_of_money_is_spent_to_its_last_digit(amount: float) -> None:
    ledger = Ledger(Limits(cost_usd=amount))
    ledger.reserve(cost_usd=amount).settle(cost_usd=amount)
    assert ledger.spent()["cost_usd"] == amount


def test_a_part_of_a_token_is_a_token() -> None:
    ledger = Ledger(Limits())
    ledger.reserve(input_tokens=1.5).settle(input_tokens=0.5)
    assert ledger.spent()["input_tokens"] == 1


@pytest.mark.parametrize("bad", [{"llm_calls": -1}, {"nodes": 1.5}, {"cost_usd": float("nan")}, {"tool_calls": True}])
def test_limits_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"budget {next(iter(bad))} is"):
        Limits(**bad)


@pytest.mark.parametrize("bad", [{"calls": 1}, {"llm_calls": -1}, {"cost_usd": float("inf")}])
def test_reservations_that_make_no_sense_are_our_own_mistake(bad: dict[str, Any]) -> None:
    with pytest.raises(InternalError):
        Ledger(Limits()).reserve(**bad)


# --- leases of nodes ----------------------------------------------------------------------------------------------------


def test_a_lease_gives_what_is_left_and_then_nothing() -> None:
    ledger = Ledger(Limits(nodes=100))
    assert [ledger.lease_nodes(64) for _ in range(3)] == [64, 36, 0]
    assert ledger.nodes_left() == 0
    assert "limit 100, spent 100" in str(ledger.nodes_exhausted())
    ledger.return_nodes(10)
    assert ledger.nodes_left() == 10
    assert ledger.lease_nodes(64) == 10


def test_a_lease_without_any_limit_is_counted_all_the_same() -> None:
    ledger = Ledger(Limits())
    assert ledger.lease_nodes(1024) == 1024
    ledger.return_nodes(1000)
    assert ledger.spent()["nodes"] == 24
    assert ledger.nodes_left() is None


def test_a_lease_keeps_to_the_tightest_level() -> None:
    tenant = Ledger(Limits(nodes=50), scope="tenant")
    run = Ledger(Limits(nodes=100), tenant)
    other = Ledger(Limits(), tenant)
    assert other.lease_nodes(20) == 20
    assert run.nodes_left() == 30
    assert run.lease_nodes(64) == 30
    assert (run.lease_nodes(1), other.lease_nodes(1)) == (0, 0)
    assert "of the tenant" in str(run.nodes_exhausted())
    assert tenant.spent()["nodes"] == 50


def test_nodes_that_did_not_run_come_back_at_every_level() -> None:
    tenant = Ledger(Limits(nodes=50))
    run = Ledger(Limits(), tenant)
    run.lease_nodes(20)
    run.return_nodes(15)
    assert [level.spent()["nodes"] for level in (run, tenant)] == [5, 5]
    assert tenant.nodes_left() == 45


def test_there_is_nothing_to_lease_after_an_overrun() -> None:
    ledger = Ledger(Limits(nodes=10))
    ledger.reserve(nodes=8).settle(nodes=15)
    assert (ledger.lease_nodes(4), ledger.nodes_left(), ledger.spent()["nodes"]) == (0, 0, 15)


def test_reserved_nodes_are_not_leased() -> None:
    ledger = Ledger(Limits(nodes=10))
    frame = ledger.reserve(nodes=8)
    assert ledger.lease_nodes(10) == 2
    frame.settle(nodes=3)
    assert ledger.nodes_left() == 5


def test_threads_never_get_more_than_there_is() -> None:
    ledger = Ledger(Limits(tool_calls=500, nodes=5000), Ledger(Limits(tool_calls=400, nodes=4000)))
    barrier, calls, nodes = Barrier(4), [0] * 4, [0] * 4

    def spend(me: int) -> None:
        barrier.wait()
        for _ in range(300):
            nodes[me] += ledger.lease_nodes(7)
            try:
                ledger.reserve(tool_calls=2).settle(tool_calls=1)
            except BudgetError:
                continue
            calls[me] += 1

    threads = [Thread(target=spend, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(calls) == ledger.spent()["tool_calls"]
    assert 390 <= sum(calls) <= 400  # the last few may go to nobody: two must be free at once
    assert sum(nodes) == ledger.spent()["nodes"] == 4000
    assert not any(ledger.reserved().values())


def give_turns(*_: Any) -> Any:
    """A trace function: whoever runs lets others run, at every line."""
    sleep(0)
    return give_turns


def test_of_two_threads_that_ask_for_the_last_amount_at_once_one_gets_it() -> None:
    rounds = [Ledger(Limits(tool_calls=2)) for _ in range(30)]
    barrier, got = Barrier(2), [[0, 0] for _ in rounds]

    def ask(me: int) -> None:
        for number, ledger in enumerate(rounds):
            barrier.wait()
            sys.settrace(give_turns)
            with suppress(BudgetError):
                ledger.reserve(tool_calls=2)
                got[number][me] = 1
            sys.settrace(None)

    threads = [Thread(target=ask, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(both) for both in got] == [1] * len(rounds)


# --- P12: the accounting against a model --------------------------------------------------------------------------------

AMOUNTS = st.integers(0, 12)
TRACKED = ("llm_calls", "output_tokens", "nodes")


class Accounting(RuleBasedStateMachine):
    """Random reservations, settlements, lies and leases on a tree of three levels, next to a model in plain sums."""

    reservations = Bundle("reservations")

    @initialize(
        limits=st.lists(st.fixed_dictionaries({name: st.none() | st.integers(0, 40) for name in TRACKED}), min_size=3, max_size=3)
    )
    def start(self, limits: list[dict[str, int | None]]) -> None:
        self.limits = limits
        tenant = Ledger(Limits(**limits[0]))
        run = Ledger(Limits(**limits[1]), tenant)
        self.levels = [tenant, run, Ledger(Limits(**limits[2]), run)]
        self.reserved = [dict.fromkeys(TRACKED, 0) for _ in range(3)]
        self.spent = [dict.fromkeys(TRACKED, 0) for _ in range(3)]
        self.overrun = [dict.fromkeys(TRACKED, 0) for _ in range(3)]

    def fits(self, level: int, name: str, amount: int) -> bool:
        return all(
            (limit := self.limits[each][name]) is None or self.spent[each][name] + self.reserved[each][name] + amount <= limit
            for each in range(level + 1)
        )

    @rule(target=reservations, level=st.integers(0, 2), asked=st.dictionaries(st.sampled_from(TRACKED), AMOUNTS, min_size=1))
    def reserve(self, level: int, asked: dict[str, int]) -> Any:
        admitted = all(self.fits(level, name, amount) for name, amount in asked.items())
        try:
            reservation = self.levels[level].reserve(**asked)
        except BudgetError:
            assert not admitted
            return None
        assert admitted
        for each in range(level + 1):
            for name, amount in asked.items():
                self.reserved[each][name] += amount
        return level, asked, reservation

    @rule(
        handle=consumes(reservations),
        used=st.dictionaries(st.sampled_from(TRACKED), AMOUNTS | st.sampled_from([-3, float("nan"), 1000])),
        times=st.integers(1, 2),
    )
    def settle(self, handle: Any, used: dict[str, float], times: int) -> None:
        if handle is None:
            return
        level, asked, reservation = handle
        assert isinstance(reservation, Reservation)
        for _ in range(times):
            reservation.settle(**used)
        for name in TRACKED:
            booked = used.get(name, 0)
            if not booked >= 0:
                booked = asked.get(name, 0)
            for each in range(level + 1):
                self.reserved[each][name] -= asked.get(name, 0)
                self.spent[each][name] += int(booked)
                self.overrun[each][name] += max(0, int(booked) - asked.get(name, 0))

    @rule(level=st.integers(0, 2), want=AMOUNTS, back=AMOUNTS)
    def lease(self, level: int, want: int, back: int) -> None:
        granted = self.levels[level].lease_nodes(want)
        assert self.fits(level, "nodes", granted) or granted == 0
        assert granted == want or not self.fits(level, "nodes", granted + 1)
        back = min(back, granted)
        self.levels[level].return_nodes(back)
        for each in range(level + 1):
            self.spent[each]["nodes"] += granted - back

    @invariant()
    def books_agree(self) -> None:
        for each, level in enumerate(getattr(self, "levels", [])):
            assert {name: level.spent()[name] for name in TRACKED} == self.spent[each]
            assert {name: level.reserved()[name] for name in TRACKED} == self.reserved[each]
            assert level.overrun() == {name: amount for name, amount in self.overrun[each].items() if amount}

    @invariant()
    def nothing_is_admitted_beyond_a_limit(self) -> None:
        for each, level in enumerate(getattr(self, "levels", [])):
            for name in TRACKED:
                limit = self.limits[each][name]
                if limit is not None:
                    admitted = level.spent()[name] + level.reserved()[name] - level.overrun().get(name, 0)
                    assert admitted <= limit


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=30, derandomize=True, database=None, deadline=None)


def test_every_quantity_of_the_limits_has_an_account() -> None:
    assert set(Ledger(Limits()).spent()) == set(QUANTITIES) == set(Limits.__slots__)
