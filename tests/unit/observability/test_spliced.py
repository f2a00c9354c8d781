"""A plan that a model made, as those see it who watch a run: in a record, in a picture, on the command line, in a log."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from apxm.artifact.lift import lift
from apxm.cli.live import LiveTree
from apxm.cli.runs import run_map
from apxm.cli.view import plan_of
from apxm.compiler.compile import compile
from apxm.graph.critical import critical_path
from apxm.graph.render.overlay import overlay, with_plans
from apxm.graph.render.page import page
from apxm.graph.render.tree import tree
from apxm.observability.events import Event, Spliced
from apxm.observability.history import History
from apxm.observability.lines import event_of, line_of
from apxm.observability.logging import EventLogger
from apxm.observability.notebook import as_html
from apxm.observability.progress import Progress
from apxm.testing.sketch import sketch
from tests.unit.executor.planners import answer, planning, run

if TYPE_CHECKING:
    from collections.abc import Callable

INNER = sketch({1: ("INV", {"capability": "look", "arg_text": "here"}), 2: "MERGE"}, "1->2", name="made")
FLOW = planning({}, "2~>9")  # the plan comes last
LOOP = sketch({8: ("LOOP", {"max_iterations": 2}, {"body": {**planning(), "metadata": {"exits": ["n9"]}}})}, exits=["n8"])


def events_of(graph: dict[str, Any], inner: Any = INNER) -> list[Event]:
    ran = run(answer(inner) if not isinstance(inner, list) else inner, graph)
    assert ran.error is None
    return list(ran.result.events())


def flows_of(graph: dict[str, Any]) -> Any:
    return lift(compile(graph, level=0))


@pytest.fixture(scope="module")
def recorded() -> list[Event]:
    """The events of one run, by way of their lines."""
    return [event_of(line_of(event)) for event in events_of(FLOW)]


@pytest.fixture(scope="module")
def spliced(recorded: list[Event]) -> Spliced:
    (plan,) = (event for event in recorded if isinstance(event, Spliced))
    return plan


def test_a_record_keeps_a_plan_as_it_was(recorded: list[Event], spliced: Spliced) -> None:
    history = History.of(recorded)
    assert history.splices == [spliced]
    assert (spliced.name, spliced.nodes, spliced.edges, spliced.operations) == ("n9", 2, 1, {"INV": 1, "MERGE": 1})
    assert (9, spliced.step, 1) in history.places


def test_a_plan_is_drawn_within_its_node_with_what_happened_in_it(recorded: list[Event], spliced: Spliced) -> None:
    history = History.of(recorded)
    flows = flows_of(FLOW)
    drawn = with_plans(flows, history)
    found = overlay(history, drawn)
    assert found.homeless == 0
    assert found.marks["default", "main"][9, spliced.step, 1].count == {"done": 1}
    text = tree(drawn, run=found)
    assert f"{spliced.step}():" in text
    assert "INV look  [done" in text
    assert "plans of models 1;" in text
    assert spliced.step in page(drawn, title="t", run=found)[0]
    inside = [step.span.node for step in critical_path(history, drawn) if step.span.path]
    assert inside == [1, 2]
    assert all(not node.regions for node in flows["default", "main"].nodes)  # the program itself is as it was


def test_other_plans_at_the_same_place_are_drawn_beside_each_other() -> None:
    other = sketch({1: ("CONST_STR", {"value": 2})}, name="other")
    history = History.of(events_of(LOOP, [answer(INNER), answer(other)]))
    drawn = with_plans(flows_of(LOOP), history)
    body = drawn["default", "main"].nodes[0].regions["body"]
    regions = next(node for node in body.nodes if node.id == 9).regions
    assert sorted(region.name for region in regions.values()) == ["made", "other"]
    marks = overlay(history, drawn).marks["default", "main"]
    assert sorted(sum(marks[8, "body", 9, step, 1].count.values()) for step in regions) == [1, 1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: replace(plan, graph={"nodes": 1}),
        lambda plan: replace(plan, node=77),
        lambda plan: replace(plan, path=((7, "x"),)),
    ],
)
def test_a_record_with_a_plan_that_has_no_place_can_still_be_drawn(
    recorded: list[Event], spliced: Spliced, spoil: Callable[[Spliced], Spliced]
) -> None:
    history = History.of([spoil(event) if event is spliced else event for event in recorded])
    drawn = with_plans(flows_of(FLOW), history)
    assert overlay(history, drawn).homeless > 0


def test_lines_say_what_a_plan_holds_and_may_call(spliced: Spliced) -> None:
    assert plan_of(spliced) == "a plan of 2 nodes (INV, MERGE), may call look"
    assert plan_of(replace(spliced, nodes=3, operations={"ASK": 3}, capabilities=[])) == "a plan of 3 nodes (3 ASK)"


def test_the_live_tree_and_the_notebook_show_that_a_node_has_a_plan(recorded: list[Event]) -> None:
    progress = Progress(lambda: 0.0)
    for event in recorded:
        progress.apply(event)
    live = LiveTree(progress)
    live.console.width = 120
    with live.console.capture() as shown:
        live.console.print(live.render())
    assert "a plan of 2 nodes" in shown.get()
    assert "a plan of 2 nodes" in as_html(progress)


def test_a_log_has_a_line_for_a_plan(recorded: list[Event]) -> None:
    lines: list[str] = []
    log = EventLogger("info", "json", write=lines.append)
    for event in recorded:
        log("r", event)
    (said,) = (found for found in map(json.loads, lines) if found["event"] == "plan of a model")
    assert (said["node"], said["name"], said["nodes"], said["depth"], said["may_call"]) == (9, "n9", 2, 1, "look")


def test_metrics_count_plans_by_flow(recorded: list[Event]) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    from apxm.observability.metrics import RunMetrics

    registry = prometheus.CollectorRegistry()
    metrics = RunMetrics(registry)
    for event in recorded:
        metrics("r", event)
    assert registry.get_sample_value("apxm_plans_total", {"flow": "default.main"}) == 1


def test_a_trace_has_an_event_for_a_plan(recorded: list[Event], spliced: Spliced) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from apxm.observability.tracing import RunTracer

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = RunTracer(provider)
    for event in recorded:
        tracer("r", event)
    node = next(span for span in spans.get_finished_spans() if span.name == "PLAN n9")
    (found,) = node.events
    assert (found.name, dict(found.attributes or {})) == (
        "plan",
        {"apxm.plan.nodes": 2, "apxm.plan.depth": 1, "apxm.plan.digest": spliced.digest},
    )


def test_the_data_of_a_run_has_its_plans(recorded: list[Event], spliced: Spliced) -> None:
    class Summary:
        @staticmethod
        def to_map() -> dict[str, Any]:
            return {}

    (plan,) = run_map(Summary(), History.of(recorded))["plans"]  # type: ignore[arg-type]
    assert (plan["path"], plan["node"], plan["step"], plan["capabilities"]) == ([], 9, spliced.step, ["look"])
    assert "graph" not in plan
