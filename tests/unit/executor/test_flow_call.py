import pytest

from apxm.errors import BindError, ParameterError
from apxm.executor.handlers.agents import BINDERS
from apxm.graph.operation import Effect
from tests.unit.executor.firing import FakeBody, fire, play, run, services, spec

CALL = BINDERS["FLOW_CALL"]


def called(attributes, inputs=(), *values, takes=("topic", "depth")):
    body = FakeBody(*takes)
    node = spec("FLOW_CALL", {"flow_name": "sub", **attributes}, inputs)
    return run(CALL, node, *values, flows={("me", "sub"): body})


@pytest.mark.parametrize(
    ("attributes", "inputs", "values", "arguments"),
    [
        ({"args": {"topic": "t", "depth": 2}}, (), (), ["t", 2]),
        ({"args": ["t", 2]}, (), (), ["t", 2]),
        ({}, (None, None), ("t", 2), ["t", 2]),
        ({}, ("depth", "topic"), (2, "t"), ["t", 2]),
        ({}, (None, "topic"), (2, "t"), ["t", 2]),
        ({"args": {"depth": 1}}, (None,), ("t",), ["t", 1]),
        ({"args": {"topic": "over", "depth": 1}}, ("topic",), ("port wins",), ["port wins", 1]),
        ({"args": {"topic": "about {0}", "depth": "{n}"}}, (None, "n"), ("x", 3), ["about x", 3]),
        ({"args": {"topic": {"deep": ["{{node_1}}"]}, "depth": 0}}, (None,), ([1, 2],), [{"deep": [[1, 2]]}, 0]),
        ({"args": {"topic": "{depth}"}}, ("depth",), (4,), [4, 4]),
        ({"args": {"topic": "about {topic}", "depth": 1}}, ("topic",), ("x",), ["about x", 1]),
        ({"args": "{0}"}, (None,), ({"depth": 2, "topic": "t"},), ["t", 2]),
        ({"args": "{given}"}, ("given",), (["t", 2],), ["t", 2]),
        ({"args": "{0}"}, (None, None, "topic"), ({"topic": "over"}, 5, "port wins"), ["port wins", 5]),
    ],
)
def test_arguments_are_bound_by_name_then_in_order(attributes, inputs, values, arguments):
    assert called(attributes, inputs, *values) == arguments


def test_arguments_come_in_the_order_of_the_callees_parameters_whatever_the_order_of_the_edges():
    assert called({}, ("c", "a", "b"), 3, 1, 2, takes=("a", "b", "c")) == [1, 2, 3]


def test_text_from_an_input_is_not_scanned_again():
    assert called({"args": {"topic": "{0}", "depth": "<{0}>"}}, (None,), "{n} {0}") == ["{n} {0}", "<{n} {0}>"]


def test_every_call_gets_an_argument_list_of_its_own():
    body = FakeBody("x")
    bound = CALL(spec("FLOW_CALL", {"flow_name": "sub", "args": {"x": [1]}}), services(flows={("me", "sub"): body}))
    one, two = bound.fn(), bound.fn()
    assert one is not two
    assert one[0] is not two[0]
    assert one == [[1]]


def test_another_agents_flow_is_called_by_its_name_and_its_effect_is_ours():
    body = FakeBody(effect=Effect.PAID)
    node = spec("FLOW_CALL", {"agent_name": "them", "flow_name": "sub"})
    bound = CALL(node, services(flows={("them", "sub"): body}))
    assert bound.effect is Effect.PAID
    assert play(fire(bound)) == []
    assert body.opened == [("call", [])]


@pytest.mark.parametrize(
    ("attributes", "inputs", "message"),
    [
        ({}, (), "nothing gives `topic`; flow `me.sub` takes `topic`, `depth`"),
        ({"args": {"topic": 1}}, (), "nothing gives `depth`"),
        ({"args": {"topic": 1, "dept": 2}}, (), "`args` give `dept`.*close: `depth`"),
        ({"args": [1, 2, 3]}, (), "gives 3 arguments"),
        ({}, (None, None, None), "3 inputs without a port for 2 free parameters"),
        ({}, (None, None, "topik"), "port `topik`.*close: `topic`"),
        ({"args": {"topic": "{nobody}", "depth": 1}}, (), r"nothing fills `\{nobody\}`"),
        ({"args": {"topic": "{1}", "depth": 1}}, (None,), r"nothing fills `\{1\}`"),
    ],
)
def test_a_call_that_does_not_fit_the_callee_is_refused_at_binding(attributes, inputs, message):
    node = spec("FLOW_CALL", {"flow_name": "sub", **attributes}, inputs)
    with pytest.raises(BindError, match=message):
        CALL(node, services(flows={("me", "sub"): FakeBody("topic", "depth")}))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"topic": 1}, r"nothing gives `depth`"),
        ({"topic": 1, "dept": 2}, r"`args` give `dept`.*close: `depth`"),
        ([1, 2, 3], r"gives 3 arguments"),
        ("text", r"its `args` are text, expected a map or a list"),
    ],
)
def test_arguments_that_are_one_input_are_checked_when_they_are_known(args, message):
    with pytest.raises(ParameterError, match=message):
        called({"args": "{0}"}, (None,), args)


def test_inputs_that_only_fill_placeholders_are_no_arguments():
    assert called({"args": {"topic": "{1}"}}, (None, None), "depth", "topic") == ["topic", "depth"]


def test_a_root_call_may_leave_parameters_of_its_own_flow_unused():
    """A root node with positional placeholders is given every parameter of its flow."""
    assert called({"args": {"topic": "{1}", "depth": 1}}, (None, None), "unused", "t") == ["t", 1]
