import pytest

from apxm.errors import BindError, FailureClass, InvalidError, RaisedError
from apxm.executor.handlers.errors import BINDERS
from apxm.graph.operation import Effect
from tests.unit.executor.firing import Fail, FakeBody, Spawn, failure, fire, play, run, services, spec

TRY, ERR = BINDERS["TRY_CATCH"], BINDERS["ERR"]


def failing(message: str):
    def does(*_):
        raise InvalidError(message)

    return does


def attempt(inputs=(), **regions: FakeBody):
    return spec("TRY_CATCH", {}, inputs, {name.rstrip("_"): body for name, body in regions.items()})


# ---- TRY_CATCH -------------------------------------------------------------------------------------------------------
def test_a_try_that_succeeds_gives_its_value_and_no_catch_opens():
    body, catch = FakeBody("x", does=lambda x: x + 1), FakeBody("error")
    assert run(TRY, attempt(("x",), try_=body, catch=catch), 1) == 2
    assert catch.opened == []
    assert body.opened == [("try", [1])]


def test_a_failure_becomes_the_error_parameter_of_catch_whose_value_counts():
    catch = FakeBody("error", "x", does=lambda error, x: [error["code"], error["class"], error["message"], x])
    assert run(TRY, attempt(("x",), try_=FakeBody(does=failing("broken")), catch=catch), 5) == ["invalid", "invalid", "broken", 5]


def test_finally_runs_after_success_and_its_value_is_dropped():
    last = FakeBody("x", does=lambda x: "dropped")
    assert run(TRY, attempt(("x",), try_=FakeBody(does=lambda: "kept"), finally_=last), 1) == "kept"
    assert last.opened == [("finally", [1])]


def test_finally_runs_after_catch():
    order: list[str] = []
    catch = FakeBody(does=lambda: order.append("catch"))
    last = FakeBody(does=lambda: order.append("finally"))
    assert run(TRY, attempt(try_=FakeBody(does=failing("x")), catch=catch, finally_=last)) is None
    assert order == ["catch", "finally"]


def test_without_catch_the_failure_goes_on_outwards_after_finally():
    last = FakeBody()
    outcome = run(TRY, attempt(try_=FakeBody(does=failing("broken")), finally_=last))
    assert isinstance(outcome, Fail)
    assert outcome.error.message == "broken"
    assert len(last.opened) == 1


def test_a_failure_inside_catch_still_runs_finally_then_fails_with_the_first_one_as_its_cause():
    last = FakeBody()
    node = attempt(try_=FakeBody(does=failing("first")), catch=FakeBody(does=failing("second")), finally_=last)
    outcome = run(TRY, node)
    assert outcome.error.message == "second"
    assert outcome.error.__cause__.message == "first"
    assert len(last.opened) == 1


def test_a_failure_in_finally_replaces_the_value_and_an_earlier_failure():
    outcome = run(TRY, attempt(try_=FakeBody(), finally_=FakeBody(does=failing("last"))))
    assert outcome.error.message == "last"
    assert outcome.error.__cause__ is None
    outcome = run(TRY, attempt(try_=FakeBody(does=failing("first")), finally_=FakeBody(does=failing("last"))))
    assert outcome.error.message == "last"
    assert outcome.error.__cause__.message == "first"


def test_an_error_that_passes_through_finally_is_not_its_own_cause():
    error = RaisedError("once")

    def raises():
        raise error

    outcome = run(TRY, attempt(try_=FakeBody(does=raises), catch=FakeBody(does=raises), finally_=FakeBody(does=raises)))
    assert outcome.error is error
    assert error.__cause__ is None


def test_every_phase_but_finally_cleans_up_with_finally_and_finally_itself_is_shielded():
    node = attempt(try_=FakeBody(does=failing("x")), catch=FakeBody(), finally_=FakeBody())
    first = fire(TRY(node, services()))
    assert isinstance(first, Spawn)
    assert (first.cleanup.step, first.isolate, first.shielded) == ("finally", True, False)
    assert play(first) == []
    caught = first.then([_failed()])
    assert (caught.cleanup.step, caught.shielded) == ("finally", False)
    last = caught.then([_value(1)])
    assert (last.cleanup, last.shielded) == (None, True)


def _failed():
    from apxm.outcome import ChildResult

    return ChildResult(error=InvalidError("x"))


def _value(value):
    from apxm.outcome import ChildResult

    return ChildResult(value)


def test_two_firings_of_one_try_do_not_share_anything():
    bound = TRY(attempt(("x",), try_=FakeBody("x", does=lambda x: x), finally_=FakeBody("x")), services())
    one, two = fire(bound, [1]), fire(bound, [2])
    assert play(two) == [2]
    assert play(one) == [1]


def test_try_binds_the_parameters_of_all_three_regions_by_port_then_in_order():
    bodies = {"try_": FakeBody("b", "x"), "catch": FakeBody("x", "error", "b"), "finally_": FakeBody("x")}
    assert run(TRY, attempt((None, "b"), **bodies), "first", "named") == ["named", "first"]
    assert bodies["finally_"].opened == [("finally", ["first"])]


def test_try_is_as_strong_as_its_strongest_region():
    node = attempt(try_=FakeBody(effect=Effect.READ), catch=FakeBody(effect=Effect.GUARDED), finally_=FakeBody())
    assert TRY(node, services()).effect is Effect.GUARDED


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (attempt(catch=FakeBody()), "no region `try`"),
        (attempt(try_=FakeBody("x")), "no input is left for parameter `x` of its region `try`"),
        (attempt(("z",), try_=FakeBody(), catch=FakeBody("error")), "nothing takes the input `z`"),
    ],
)
def test_a_try_that_can_never_run_is_refused_at_binding(node, message):
    with pytest.raises(BindError, match=message):
        TRY(node, services())


# ---- ERR -------------------------------------------------------------------------------------------------------------
def test_err_fails_with_its_message_class_and_code():
    node = spec("ERR", {"message": "no {what} in {0}", "class": "denied", "code": "no_such_thing"}, (None, "what"))
    error = failure(ERR, node, "here", "cake")
    assert isinstance(error, RaisedError)
    assert (error.message, error.failure, error.code) == ("no cake in here", FailureClass.DENIED, "no_such_thing")
    assert error.to_map()["class"] == "denied"


def test_err_is_fatal_and_its_code_raised_by_default():
    error = failure(ERR, spec("ERR", {"message": "x"}))
    assert (error.failure, error.code) == (FailureClass.FATAL, "raised")


@pytest.mark.parametrize(
    ("given", "text"),
    [({"code": "x", "message": "it broke"}, "Error: it broke"), ("it broke", "Error: it broke"), ([1], "Error: [1]")],
)
def test_err_with_an_input_and_no_message_gives_the_recovery_text(given, text):
    assert run(ERR, spec("ERR", {}, (None,)), given) == text


def test_err_recovers_with_its_template():
    assert run(ERR, spec("ERR", {"recovery_template": "sorry: {why}"}, ("why",)), "late") == "sorry: late"


def test_a_text_that_came_from_an_input_is_not_scanned_for_placeholders():
    assert failure(ERR, spec("ERR", {"message": "{0}"}, (None,)), "{0} {what}").message == "{0} {what}"


def test_err_fills_the_value_of_a_predecessor():
    assert failure(ERR, spec("ERR", {"message": "{{node_2}}"}, (None, None)), "a", "b").message == "b"


def test_err_refuses_at_binding_a_placeholder_that_nothing_fills():
    with pytest.raises(BindError, match=r"nothing fills `\{nothing\}`.*\{what\}"):
        ERR(spec("ERR", {"message": "{nothing}"}, ("what",)), services())
    with pytest.raises(BindError, match=r"neither a message nor an input"):
        ERR(spec("ERR"), services())
