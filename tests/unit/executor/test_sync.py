import pytest

from apxm.errors import BindError, InvalidError, ValueRefused
from apxm.executor.bind import Kind
from apxm.executor.handlers.sync import BINDERS
from tests.unit.executor.firing import run, services, spec

CONST, MERGE, WAIT_ALL = (BINDERS[name] for name in ("CONST_STR", "MERGE", "WAIT_ALL"))


@pytest.mark.parametrize("value", ["text {not_filled}", "", 3, 1.5, True, None, [1, {"a": []}], {"k": "v"}])
def test_a_constant_gives_its_value_whatever_it_is(value):
    assert run(CONST, spec("CONST_STR", {"value": value})) == value


def test_a_constant_ignores_an_input_that_only_made_it_wait():
    assert run(CONST, spec("CONST_STR", {"value": "a"}, (None,)), "ignored") == "a"


def test_a_constant_is_its_own_copy_of_the_attribute():
    attribute = {"list": [1]}
    bound = CONST(spec("CONST_STR", {"value": attribute}), services())
    attribute["list"].append(2)
    assert bound.fn() == {"list": [1]}


def test_every_firing_gives_a_list_of_its_own():
    bound = CONST(spec("CONST_STR", {"value": [1]}), services())
    bound.fn().append(2)
    assert bound.fn() == [1]
    assert bound.owns


def test_a_constant_that_no_token_may_carry_is_refused_at_binding():
    with pytest.raises(ValueRefused, match=r"CONST_STR `n`"):
        CONST(spec("CONST_STR", {"value": {"x": object()}}), services())


@pytest.mark.parametrize("op", ["CONST_STR", "MERGE", "WAIT_ALL"])
def test_synchronising_operations_may_run_in_the_fast_tiers(op):
    assert BINDERS[op](spec(op, {"value": 1} if op == "CONST_STR" else {}), services()).kind is Kind.PURE


@pytest.mark.parametrize(
    ("mode", "inputs", "result"),
    [
        ("array", (1, "a", [2]), [1, "a", [2]]),
        ("array", (1,), [1]),
        ("concat", ("a", "b", "c"), "abc"),
        ("concat", ("a", 1, None, {"k": [True]}), 'a1null{"k": [true]}'),
        ("sum", (1, 2, 3), 6),
        ("sum", (1, 0.5), 1.5),
        ("any", ("won",), "won"),
        ("race", (None,), None),
        ("first_success", ([],), []),
    ],
)
def test_merge_joins_its_live_inputs_as_its_mode_says(mode, inputs, result):
    found = run(MERGE, spec("MERGE", {"mode": mode}, (None,) * len(inputs)), *inputs)
    assert found == result
    assert type(found) is type(result)


def test_merge_makes_a_list_by_default():
    assert run(MERGE, spec("MERGE", {}, (None, None)), "a", "b") == ["a", "b"]


@pytest.mark.parametrize("wrong", ["1", True, None, [1]])
def test_a_sum_of_anything_but_numbers_is_invalid_and_names_the_input(wrong):
    with pytest.raises(InvalidError, match=r"live input 1"):
        run(MERGE, spec("MERGE", {"mode": "sum"}, (None, None)), 1, wrong)


def test_a_sum_that_leaves_64_bits_is_invalid():
    assert run(MERGE, spec("MERGE", {"mode": "sum"}), 2**63 - 2, 1) == 2**63 - 1
    with pytest.raises(InvalidError, match=r"64 bits"):
        run(MERGE, spec("MERGE", {"mode": "sum"}), 2**63 - 1, 1)


def test_an_unknown_mode_is_refused_at_binding():
    with pytest.raises(BindError, match=r"mode `median`"):
        MERGE(spec("MERGE", {"mode": "median"}), services())


def test_wait_all_lists_what_is_live_and_nothing_is_an_empty_list():
    assert run(WAIT_ALL, spec("WAIT_ALL")) == []
    assert run(WAIT_ALL, spec("WAIT_ALL", {}, (None, None)), "a", None) == ["a", None]
