import pytest

from apxm.errors import BindError, FailureClass, InvalidError, RaisedError
from apxm.executor.handlers.control import BINDERS
from apxm.graph.operation import Effect
from apxm.outcome import ChildResult
from tests.unit.executor.firing import Fail, FakeBody, Route, Spawn, fire, run, services, spec

BRANCH, SWITCH, GUARD, LOOP, MAP, JUMP, RETURN, YIELD = (
    BINDERS[name] for name in ("BRANCH_ON_VALUE", "SWITCH", "GUARD", "LOOP", "MAP", "JUMP", "RETURN", "YIELD")
)


def explode(*_):
    raise InvalidError("broken")


# ---- BRANCH_ON_VALUE -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("attributes", "value", "label"),
    [
        ({}, True, "true"),
        ({}, 1, "false"),
        ({}, "true", "false"),
        ({"value": "yes"}, "yes", "true"),
        ({"value": "yes"}, "YES", "false"),
        ({"value": 1}, 1.0, "true"),
        ({"value": 1}, True, "false"),
        ({"value": None}, None, "true"),
        ({"value": None}, 0, "false"),
        ({"value": {"a": [1]}}, {"a": [1]}, "true"),
        ({"condition": ">= 3"}, 3, "true"),
        ({"condition": ">= 3"}, 2, "false"),
        ({"condition": "not_empty", "value": 7}, "x", "true"),
    ],
)
def test_a_branch_goes_by_json_equality_or_by_its_condition(attributes, value, label):
    assert run(BRANCH, spec("BRANCH_ON_VALUE", attributes, (None,)), value) == Route(label, value)


def test_a_branch_carries_pass_and_tests_token():
    assert run(BRANCH, spec("BRANCH_ON_VALUE", {}, ("pass", "token")), "goods", True) == Route("true", "goods")
    assert run(BRANCH, spec("BRANCH_ON_VALUE", {}, ("pass", None)), "goods", False) == Route("false", "goods")


def test_a_branch_without_an_input_or_with_a_bad_condition_is_refused_at_binding():
    with pytest.raises(BindError, match=r"no input to work on"):
        BRANCH(spec("BRANCH_ON_VALUE"), services())
    with pytest.raises(BindError, match=r"BRANCH_ON_VALUE `n`.*no condition"):
        BRANCH(spec("BRANCH_ON_VALUE", {"condition": "is_emty"}, (None,)), services())


# ---- SWITCH ----------------------------------------------------------------------------------------------------------
def switch(attributes, inputs=(None,), regions=None, labels=()):
    """A SWITCH as canonicalising leaves it: with its cases written out."""
    cases = [label for label in (*(regions or ()), *labels) if label not in ("default", "error")]
    return spec("SWITCH", {"case_labels": cases, **attributes}, inputs, regions, labels)


@pytest.mark.parametrize(
    ("attributes", "value", "label"),
    [
        ({}, "a", "a"),
        ({}, "b", "b"),
        ({}, "A", "default"),
        ({}, 1, "1"),
        ({}, True, "true"),
        ({"match": "casefold"}, "A", "a"),
        ({"match": "contains"}, "what a day", "a"),
        ({"match": "contains"}, "nothing", "default"),
        ({"match": "contains"}, "b before a", "a"),
        ({"case_labels": ["true", "1", "b", "a"], "match": "contains"}, "a b", "b"),
    ],
)
def test_a_switch_routes_to_the_first_case_that_matches(attributes, value, label):
    node = switch(attributes, labels=("a", "b", "1", "true", "default"))
    assert run(SWITCH, node, value) == Route(label, value)


@pytest.mark.parametrize(
    ("cases", "value", "label"),
    [(["^x+$", "y.*"], "xx", "^x+$"), (["^x+$", "y.*"], "xx y", "y.*"), (["'q", '"'], 'say "', '"')],
)
def test_a_switch_searches_patterns(cases, value, label):
    assert run(SWITCH, switch({"match": "regex"}, labels=cases), value) == Route(label, value)


def test_a_switch_without_its_cases_written_out_is_refused_at_binding():
    with pytest.raises(BindError, match=r"SWITCH `n`.*a way for `b`, which is not among its `case_labels`"):
        SWITCH(spec("SWITCH", {"case_labels": ["a"]}, (None,), regions={"b": FakeBody()}, labels=("a",)), services())


def test_a_switch_without_match_and_default_makes_every_labelled_edge_dead():
    found = run(SWITCH, switch({}, labels=("a",)), "z")
    assert found == Route("default", "z")


def test_a_switch_carries_pass_and_tests_discriminant():
    node = spec("SWITCH", {"case_labels": ["a"]}, ("pass", "discriminant"), labels=("a",))
    assert run(SWITCH, node, "goods", "a") == Route("a", "goods")


def test_a_switch_runs_the_region_of_the_case_with_the_other_inputs_and_the_discriminant_as_input():
    a, b = FakeBody("x", "input", does=lambda x, given: f"{given}:{x}"), FakeBody()
    node = switch({}, (None, None), regions={"a": a, "default": b})
    assert run(SWITCH, node, "a", "goods") == "a:goods"
    assert a.opened == [("a", ["goods", "a"])]
    assert run(SWITCH, node, "z", "goods") == []
    assert b.opened == [("default", [])]


def test_a_switch_with_regions_but_none_for_this_value_gives_null():
    assert run(SWITCH, switch({}, regions={"a": FakeBody()}), "z") == Route("default", None)


def test_a_switch_with_a_region_and_labelled_edges_sends_the_result_of_the_region_along_its_label():
    node = switch({}, regions={"a": FakeBody(does=lambda: 5)}, labels=("a", "b"))
    assert run(SWITCH, node, "a") == Route("a", 5)


def test_a_switch_with_an_error_edge_only_still_gives_a_plain_value():
    node = switch({}, regions={"a": FakeBody(does=lambda: 5)}, labels=("error",))
    assert run(SWITCH, node, "a") == 5


def test_the_labels_error_and_default_are_never_cases():
    node = switch({}, labels=("error", "default"))
    assert run(SWITCH, node, "error") == Route("default", "error")


def test_a_switch_is_as_strong_as_its_regions():
    node = switch({}, regions={"a": FakeBody(effect=Effect.PAID), "b": FakeBody(effect=Effect.READ)})
    assert SWITCH(node, services()).effect is Effect.PAID
    assert SWITCH(switch({}), services()).effect is Effect.PURE


def test_a_switch_refuses_at_binding_a_pattern_that_re2_refuses_and_a_port_that_nothing_takes():
    with pytest.raises(BindError, match=r"SWITCH `n`.*RE2"):
        SWITCH(spec("SWITCH", {"case_labels": ["(a"], "match": "regex"}, (None,)), services())
    with pytest.raises(BindError, match=r"nothing takes the input `colour`.*close: `color`"):
        SWITCH(switch({}, (None, None, "colour"), regions={"a": FakeBody("color")}), services())


# ---- GUARD -----------------------------------------------------------------------------------------------------------
def test_a_guard_passes_its_input():
    assert run(GUARD, spec("GUARD", {"condition": "not_empty"}, (None,)), "x") == "x"


def test_a_guard_halts_with_its_message():
    error = run(GUARD, spec("GUARD", {"condition": "> 3", "error_message": "{0} is too small"}, (None,)), 2).error
    assert isinstance(error, RaisedError)
    assert (error.message, error.code, error.failure) == ("2 is too small", "raised", FailureClass.FATAL)


def test_a_guard_without_a_message_names_condition_and_value_and_cuts_a_long_one():
    text = run(GUARD, spec("GUARD", {"condition": "is_empty"}, (None,)), "x" * 500).error.message
    assert "GUARD `n` (node 7) of flow `main`" in text
    assert "`is_empty` does not hold for xxx" in text
    assert len(text) < 200


def test_a_guard_that_skips_routes_the_error_map():
    found = run(GUARD, spec("GUARD", {"condition": "is_null", "on_fail": "skip", "error_message": "no"}, (None,)), 1)
    assert found.label == "error"
    assert found.value == {"code": "raised", "class": "fatal", "message": "no", "node": "n", "op": "OP", "attempts": 1}


# ---- JUMP, RETURN, YIELD ---------------------------------------------------------------------------------------------
def test_a_jump_carries_its_first_input_to_its_label():
    assert run(JUMP, spec("JUMP", {"label": "there"}, (None,)), 4) == Route("there", 4)
    assert run(JUMP, spec("JUMP", {"label": "there"})) == Route("there", None)


@pytest.mark.parametrize("op", ["RETURN", "YIELD"])
def test_return_and_yield_give_their_first_input(op):
    assert run(BINDERS[op], spec(op, {}, (None,)), [1]) == [1]
    assert run(BINDERS[op], spec(op)) is None


# ---- LOOP ------------------------------------------------------------------------------------------------------------
def loop(attributes, inputs, body, *values):
    return run(LOOP, spec("LOOP", attributes, inputs, {"body": body}), *values)


def test_a_loop_carries_one_value_as_the_whole_result():
    body = FakeBody("x", does=lambda x: x * 2)
    assert loop({"max_iterations": 5, "carry": ["x"]}, ("x",), body, 1) == 32
    assert body.opened == [(turn, [2**turn]) for turn in range(5)]


def test_a_loop_without_carry_keeps_its_inputs_and_gives_the_last_result():
    body = FakeBody("k", "iteration", does=lambda k, iteration: k + iteration)
    assert loop({"max_iterations": 3}, ("k",), body, 10) == 12
    assert [args for _, args in body.opened] == [[10, 0], [10, 1], [10, 2]]


def test_a_loop_carries_several_values_by_name():
    body = FakeBody("a", "b", does=lambda a, b: {"a": b, "b": a + b})
    assert loop({"max_iterations": 6, "carry": ["a", "b"]}, ("a", "b"), body, 0, 1) == {"a": 8, "b": 13}


@pytest.mark.parametrize("result", [3, None, {"a": 1}])
def test_a_loop_that_carries_several_values_refuses_a_result_without_them(result):
    with pytest.raises(InvalidError, match=r"result of iteration 0 has no `[ab]`"):
        loop({"max_iterations": 1, "carry": ["a", "b"]}, (), FakeBody("a", "b", does=lambda a, b: result))


def test_a_carried_value_without_an_input_starts_as_null():
    body = FakeBody("x", does=lambda x: (x or 0) + 1)
    assert loop({"max_iterations": 4, "carry": ["x"]}, (), body) == 4
    assert body.opened[0] == (0, [None])


def test_until_is_tested_after_each_iteration_on_the_result():
    body = FakeBody("x", does=lambda x: x + 1)
    assert loop({"max_iterations": 99, "carry": ["x"], "until": ">= 5"}, ("x",), body, 10) == 11
    assert len(body.opened) == 1


def test_while_is_tested_before_each_iteration_on_the_first_carried_value():
    body = FakeBody("x", "y", does=lambda x, y: {"x": x + 1, "y": y})
    assert loop({"max_iterations": 99, "carry": ["x", "y"], "while": "< 3"}, ("x", "y"), body, 0, "y") == {"x": 3, "y": "y"}
    assert len(body.opened) == 3


def test_while_that_is_false_at_once_gives_the_first_carried_value():
    body = FakeBody("x")
    assert loop({"max_iterations": 9, "carry": ["x"], "while": "< 3"}, ("x",), body, 7) == 7
    assert body.opened == []


def test_while_without_carried_values_is_tested_from_the_second_iteration_on():
    body = FakeBody("iteration", does=lambda iteration: iteration)
    assert loop({"max_iterations": 9, "while": "< 2"}, (), body) == 2


@pytest.mark.parametrize(("count", "turns"), [(2, 2), (99, 5), (0, 0), (-3, 0)])
def test_count_lowers_the_bound_at_run_time(count, turns):
    body = FakeBody("x", does=lambda x: x + 1)
    assert loop({"max_iterations": 5, "carry": ["x"]}, ("x", "count"), body, 0, count) == turns
    assert len(body.opened) == turns


@pytest.mark.parametrize("count", ["3", 3.0, True, None])
def test_count_that_is_no_int_is_invalid(count):
    with pytest.raises(InvalidError, match=r"input `count`"):
        loop({"max_iterations": 5}, ("count",), FakeBody(), count)


def test_no_iteration_and_nothing_carried_gives_null():
    assert loop({"max_iterations": 0}, ("k",), FakeBody("k"), 3) is None


def test_a_failure_in_the_body_is_the_failure_of_the_loop():
    outcome = loop({"max_iterations": 5}, (), FakeBody(does=explode))
    assert isinstance(outcome, Fail)
    assert outcome.error.message == "broken"


def test_two_firings_of_one_loop_do_not_share_anything():
    bound = LOOP(spec("LOOP", {"max_iterations": 3, "carry": ["x"]}, ("x",), {"body": FakeBody("x")}), services())
    one, two = fire(bound, 10), fire(bound, 20)
    one = one.then([ChildResult(11)])
    two = two.then([ChildResult(21)])
    assert [next(iter(outcome.children)).args for outcome in (one, two)] == [[11], [21]]
    assert [next(iter(outcome.children)).step for outcome in (one, two)] == [1, 1]


def test_every_iteration_gets_an_argument_list_of_its_own():
    kept: list[list[int]] = []
    body = FakeBody("x")

    def does(x):
        return x + 1

    body.does = does
    outcome = fire(LOOP(spec("LOOP", {"max_iterations": 3, "carry": ["x"]}, ("x",), {"body": body}), services()), 0)
    while isinstance(outcome, Spawn):
        (child,) = outcome.children
        kept.append(child.args)
        outcome = outcome.then([ChildResult(does(*child.args))])
    assert kept == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("attributes", "inputs", "bodies", "message"),
    [
        ({"max_iterations": 1}, (), {}, "no region `body`"),
        ({"max_iterations": 1, "carry": ["z"]}, (), {"body": FakeBody("x")}, "carries `z`.*declares `x`"),
        ({"max_iterations": 1}, (), {"body": FakeBody("x")}, "no input is left for parameter `x`"),
        ({"max_iterations": 1}, ("y",), {"body": FakeBody()}, "nothing takes the input `y`"),
        ({"max_iterations": 1, "until": "sometimes"}, (), {"body": FakeBody()}, "LOOP `n`.*no condition"),
    ],
)
def test_a_loop_that_can_never_run_is_refused_at_binding(attributes, inputs, bodies, message):
    with pytest.raises(BindError, match=message):
        LOOP(spec("LOOP", attributes, inputs, bodies), services())


# ---- MAP -------------------------------------------------------------------------------------------------------------
def spread(attributes, inputs, *values, body, reduce=None):
    regions = {"body": body} | ({"reduce": reduce} if reduce is not None else {})
    return run(MAP, spec("MAP", attributes, inputs, regions), *values)


def test_a_map_gives_the_results_in_the_order_of_the_items():
    body = FakeBody("item", "index", does=lambda item, index: [index, item])
    assert spread({}, (None,), ["a", "b"], body=body) == [[0, "a"], [1, "b"]]
    assert body.opened == [(0, ["a", 0]), (1, ["b", 1])]


def test_a_map_binds_the_other_inputs_by_port_then_in_order():
    body = FakeBody("first", "item", "k", does=lambda first, item, k: [first, item, k])
    assert spread({}, (None, None, "k"), [1], "second", "named", body=body) == [["second", 1, "named"]]
    body = FakeBody("first", "item")
    assert spread({}, (None, "items"), "rest", [1], body=body) == [["rest", 1]]


def test_a_map_over_nothing_gives_nothing_and_still_reduces():
    body = FakeBody("item")
    assert spread({}, (None,), [], body=body) == []
    assert spread({}, (None,), [], body=body, reduce=FakeBody("items", does=lambda items: len(items))) == 0
    assert body.opened == []


@pytest.mark.parametrize("wrong", ["abc", None, 3, {"a": 1}])
def test_a_map_over_something_that_is_no_list_is_invalid(wrong):
    with pytest.raises(InvalidError, match=r"takes a list"):
        spread({}, (None,), wrong, body=FakeBody("item"))


def odd_breaks(item):
    if item % 2:
        raise InvalidError(f"odd {item}")
    return item * 10


def test_a_failed_item_fails_the_map_unless_it_may_be_left_out():
    items = [0, 1, 2]
    assert spread({}, (None,), items, body=FakeBody("item", does=odd_breaks)).error.message == "odd 1"
    assert spread({"on_item_error": "skip"}, (None,), items, body=FakeBody("item", does=odd_breaks)) == [0, 20]
    assert spread({"on_item_error": "null"}, (None,), items, body=FakeBody("item", does=odd_breaks)) == [0, None, 20]


def test_skip_keeps_a_null_that_is_a_result():
    assert spread({"on_item_error": "skip"}, (None,), [1], body=FakeBody("item", does=lambda item: None)) == [None]


def test_reduce_gets_the_results_and_the_other_inputs_and_gives_the_value():
    reduce = FakeBody("k", "items", does=lambda k, items: k + sum(items))
    assert spread({}, (None, "k"), [1, 2], 100, body=FakeBody("item", does=lambda item: item * 2), reduce=reduce) == 106
    assert reduce.opened == [("reduce", [100, [2, 4]])]


def test_a_failure_in_reduce_is_the_failure_of_the_map_whatever_items_may_do():
    outcome = spread({"on_item_error": "skip"}, (None,), [1], body=FakeBody("item"), reduce=FakeBody(does=explode))
    assert isinstance(outcome, Fail)


def test_the_window_is_the_nodes_own_else_that_of_the_run():
    node = spec("MAP", {"window": 3}, (None,), {"body": FakeBody("item")})
    assert fire(MAP(node, services(window=9)), [1]).window == 3
    node = spec("MAP", {}, (None,), {"body": FakeBody("item")})
    assert fire(MAP(node, services(window=9)), [1]).window == 9


def test_children_of_a_map_are_made_only_when_asked_for_and_their_number_is_known():
    bound = MAP(spec("MAP", {}, (None,), {"body": FakeBody("item")}), services())
    outcome = fire(bound, list(range(100_000)))
    assert len(outcome.children) == 100_000
    children = iter(outcome.children)
    assert [next(children).args for _ in range(3)] == [[0], [1], [2]]
    assert next(children) is not next(children)


def test_a_map_is_as_strong_as_its_regions():
    node = spec("MAP", {}, (None,), {"body": FakeBody("item", effect=Effect.READ), "reduce": FakeBody(effect=Effect.PAID)})
    assert MAP(node, services()).effect is Effect.PAID


@pytest.mark.parametrize(
    ("inputs", "bodies", "message"),
    [
        ((None,), {}, "no region `body`"),
        ((), {"body": FakeBody("item")}, "no input to work on"),
        ((None,), {"body": FakeBody("thing")}, "no input is left for parameter `thing`.*by name it gets `item`, `index`"),
        ((None,), {"body": FakeBody("item"), "reduce": FakeBody("item")}, "parameter `item` of its region `reduce`"),
        ((None, "itme"), {"body": FakeBody("item")}, "nothing takes the input `itme`.*close: `item`"),
    ],
)
def test_a_map_that_can_never_run_is_refused_at_binding(inputs, bodies, message):
    with pytest.raises(BindError, match=message):
        MAP(spec("MAP", {}, inputs, bodies), services())
