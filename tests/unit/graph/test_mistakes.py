"""What a newcomer writes wrong in a flow, and what the message must say so that they can go on."""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING

import pytest

from apxm.cli.report import failure_text
from apxm.cli.source import load
from apxm.errors import GraphError, InvalidError
from apxm.graph.flow import flow, step
from apxm.graph.model import Graph

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def value():
    return Graph("g").ask("x", name="answer")


COMPARED = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
COUNTED = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]


@pytest.mark.parametrize("compare", COMPARED, ids=lambda found: found.__name__)
def test_comparing_a_value_of_the_run_is_refused_from_both_sides(value, compare):
    for one, two in ((value, "billing"), ("billing", value), (value, value)):
        with pytest.raises(GraphError, match=r"step `answer` cannot be compared with .* use branch_on_value"):
            compare(one, two)


@pytest.mark.parametrize("combine", [*COUNTED, operator.and_, operator.or_], ids=lambda found: found.__name__)
def test_arithmetic_on_a_value_of_the_run_is_refused_from_both_sides(value, combine):
    for one, two in ((value, 3), (3, value)):
        with pytest.raises(GraphError, match=r"cannot be combined with .* use an f-string"):
            combine(one, two)


def test_joining_texts_with_plus_leads_to_an_f_string(value):
    with pytest.raises(GraphError, match="use an f-string for text"):
        "x" + value
    with pytest.raises(GraphError, match="use an f-string for text"):
        operator.add(["x"], value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (bool, "has no truth value"),
        (operator.not_, "has no truth value"),
        (len, 'has no length .* use condition="len > 3"'),
        (list, "use map"),
        (reversed, "use map"),
        (int, "is no number yet"),
        (float, "is no number yet"),
        (range, "is no number yet"),
        (round, "is no number yet"),
        (abs, "cannot be combined"),
        (operator.neg, "cannot be combined"),
        (lambda x: "a" in x, "cannot be searched with `in`.*contains"),
        (lambda x: x in ["a", "b"], "cannot be compared with `==`"),
        (lambda x: x["a"], "has no items to take.* a function of your own"),
        (lambda x: x(), "cannot be called"),
        (lambda x: x.upper(), "has no `upper`.*it has `on`, `name`, `node`.* a function of your own"),
        (lambda x: f"{x:>10}", "cannot be formatted with `:>10`"),
        (lambda x: f"{x.on('true')}", "the way `true` of step `answer` cannot stand in a text"),
        (lambda x: x >> [x], r"`>>` leads to \[.*for several use after="),
    ],
)
def test_what_python_cannot_do_with_a_value_of_the_run_says_what_can(value, wrong, said):
    with pytest.raises(GraphError, match=said):
        wrong(value)


def test_on_without_a_label_leads_to_after(value):
    for wrong in (value, value.on("true")):
        with pytest.raises(GraphError, match=r"`on` is .* alone; expected `on=\(step, label\)`, or `after=` to wait"):
            value.graph.print("x", on=wrong)


def test_a_value_may_still_be_kept_copied_and_asked_what_it_is(value):
    kept = {value: "mine"}
    assert kept[value] == "mine"
    assert value in [value]
    assert not hasattr(value, "upper")
    assert not hasattr(value, "__array__")
    assert copy.deepcopy(value).name == "answer"
    assert f"{value}" == str(value) == "{{node_1}}"


def test_a_with_block_on_a_step_without_regions_names_those_that_have_them(value):
    switch = value.graph.switch(value)
    for wrong in (value, switch):
        with pytest.raises(GraphError, match=r"opens no region .*`with s.case"), wrong:
            pass


def test_a_misspelt_step_names_the_nearest():
    with pytest.raises(GraphError, match="`step` has no operation `aks`; did you mean `ask`"):
        step.aks("x")
    with pytest.raises(GraphError, match="graph `g` has no operation `swich`; did you mean `switch`"):
        Graph("g").swich()
    with pytest.raises(GraphError, match="no operation `zzz`; `apxm ops list`"):
        step.zzz()
    assert not hasattr(step, "aks")
    assert not hasattr(Graph("g"), "flows")


@pytest.mark.parametrize(
    ("wrong", "right"), [("nmae", "name"), ("aftr", "after"), ("oder_after", "order_after"), ("retry", "retries")]
)
def test_a_misspelt_keyword_of_every_step_names_the_nearest(wrong, right):
    with pytest.raises(GraphError, match=f"has no attribute `{wrong}`; close: `{right}`"):
        Graph("g").const_str("x", **{wrong: "a"})


def test_a_misspelt_region_lists_those_there_are():
    g = Graph("g")
    with pytest.raises(GraphError, match=r"has no `body`.*`try_`, `catch`, `finally_`, `on`"):
        g.try_().body()
    with pytest.raises(GraphError, match=r"has no `cases`.*`case`, `default`, `on`"):
        g.switch(g.param("x")).cases()
    with pytest.raises(GraphError, match=r"has no `body`.*`index`, `reduce`, `on`"):
        g.map(g.param("x")).body()
    with pytest.raises(GraphError, match="region `catch` of `safe` is opened without brackets"):
        g.try_(name="safe").catch()


@pytest.mark.parametrize(
    "use", [lambda x: step.print(f"{x}"), lambda x: step.merge(x), lambda x: x], ids=["text", "input", "returned"]
)
def test_a_step_of_a_map_used_outside_names_the_step_and_the_map(use):
    def wrong(files: list[str]):
        with step.map(files, name="each") as item:
            inner = step.ask(f"{item}", name="inner")
        return use(inner)

    with pytest.raises(GraphError, match=r"step `inner` is inside of region `body` of MAP `each`.*use what `each` itself gives"):
        flow(wrong)


def test_the_open_body_of_a_loop_in_a_text_names_its_parameters():
    g = Graph("g")
    with g.loop(text=g.param("x"), max_iterations=2) as body:
        with pytest.raises(GraphError, match=r'the open region `body` is no value.*body.param\("text"\)'):
            f"{body}"
        assert f"{body.param('text')}" == "{text}"


def test_a_step_in_a_text_that_nothing_fills_in_is_refused():
    g = Graph("g")
    with pytest.raises(GraphError, match="CONST_STR takes `value` as it stands, so step `ask_1`"):
        g.const_str(f"Answer: {g.ask('x')}")
    g.const_str("{{node_99}} and {braces} are text")


def test_calling_a_flow_says_how_it_is_run():
    @flow
    def review(text: str):
        return step.ask(text)

    with pytest.raises(GraphError, match=r'runtime.execute\(review, text=...\).*step.flow_call\("review", text=...\)'):
        review(text="x")
    with pytest.raises(GraphError, match=r"runtime.execute\(review, text=...\)"):
        review("x")


def refused(folder: Path, code: str) -> str:
    path = folder / "mine.py"
    path.write_text(code)
    with pytest.raises(InvalidError) as caught:
        load(str(path))
    return failure_text(caught.value)


HEAD = "from apxm import flow, step\n\n@flow\ndef f(kind: str):\n    a = step.ask(kind)\n"


@pytest.mark.parametrize(
    "wrong", ["if kind == 'billing': pass", "len(a)", "a.upper()", "step.aks('x')", "step.ask('x', nmae='y')", "f(1)"]
)
def test_the_command_line_says_the_line_of_the_mistake_once(tmp_path, wrong):
    said = refused(tmp_path, f"{HEAD}    {wrong}\n" if wrong != "f(1)" else f"{HEAD}\n{wrong}\n")
    line = 6 if wrong != "f(1)" else 7
    assert f"mine.py, line {line}: " in said
    assert "cause:" not in said
    assert "GraphError" not in said


def test_a_mistake_of_python_itself_is_said_once_too(tmp_path):
    assert "cause:" not in refused(tmp_path, "x = 1\n1 / 0\n")
    assert "cause:" not in refused(tmp_path, "x = = 1\n")


def test_a_mistake_in_an_imported_file_keeps_the_place_where_it_is(tmp_path):
    (tmp_path / "apart_from_it.py").write_text("\n\ndef part(a):\n    return 1 / 0\n")
    said = refused(tmp_path, "from apart_from_it import part\n\npart(1)\n")
    assert "mine.py, line 3: ZeroDivisionError" in said
    assert "apart_from_it.py, line 4, in part" in said
