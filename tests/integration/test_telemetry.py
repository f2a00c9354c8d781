"""Traces reach a collector over OTLP, metrics a scrape over HTTP: real protocols, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from apxm import (
    AgentGraph,
    CapabilityError,
    CapabilityRecord,
    ConfigError,
    Program,
    RunOptions,
    Runtime,
    ScriptedModel,
    flow,
    step,
)
from apxm.observability import metrics
from apxm.observability.events import Called, Gap, NodeEnded, RunEnded, RunStarted
from apxm.observability.metrics import MetricsServer, RunMetrics
from apxm.observability.tracing import RunTracer, otlp_provider


@flow
def review(texts):
    """A call to a model for each text, and a tool over all."""
    notes = step.map(texts, name="notes")
    with notes as text:
        step.yield_(step.ask(f"Say {text}", name="say"), name="note")
    return step.inv("join", parts=notes, name="join")


@pytest.fixture
def runtime():
    with Runtime(model=ScriptedModel(default="secret reply")) as made:
        made.capability_system().register("join", CapabilityRecord("Joins.", lambda parts: " ".join(parts), effect="read"))
        made.capability_system().register("fail", CapabilityRecord("Fails.", lambda: 1 / 0, effect="read"))
        yield made


class Collector(ThreadingHTTPServer):
    """The receiving end of OTLP over HTTP: answers as a collector must, and keeps what came."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans, self.paths, self.resources = [], [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/x-protobuf"
        request = ExportTraceServiceRequest.FromString(body)
        self.server.paths.append(self.path)
        for resource in request.resource_spans:
            self.server.resources.append({item.key: item.value.string_value for item in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing on standard error."""


@pytest.fixture
def collector():
    with Collector() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def facts_of(span):
    values = {item.key: item.value for item in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


def test_a_run_arrives_at_a_collector_as_one_trace(runtime, collector):
    provider = otlp_provider(collector.url)
    with runtime.subscribe(RunTracer(provider)):
        result = runtime.execute(review, texts=["a", "b"])
    provider.shutdown()
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "apxm"
    spans = {span.span_id: span for span in collector.spans}
    assert len({span.trace_id for span in spans.values()}) == 1

    def above(span):
        names = []
        while span.parent_span_id:
            span = spans[span.parent_span_id]
            names.append(span.name)
        return names

    (run,) = (span for span in spans.values() if not span.parent_span_id)
    assert run.name == "run default.review"
    assert facts_of(run)["apxm.run.id"] == result.run_id
    chats = [span for span in spans.values() if span.name == "chat scripted"]
    assert len(chats) == 2
    assert above(chats[0]) == ["ASK say", "flow review/notes/body", "MAP notes", "flow default.review", "run default.review"]
    (tool,) = (span for span in spans.values() if span.name == "execute_tool join")
    assert above(tool) == ["INV join", "flow default.review", "run default.review"]
    for span in spans.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id:
            assert spans[span.parent_span_id].start_time_unix_nano <= span.start_time_unix_nano + 1_000


def test_calls_have_the_names_of_the_semantic_conventions_and_no_content(runtime, collector):
    provider = otlp_provider(collector.url)
    with runtime.subscribe(RunTracer(provider)):
        runtime.execute(review, texts=["very private"])
    provider.shutdown()
    (chat,) = (span for span in collector.spans if span.name.startswith("chat"))
    facts = facts_of(chat)
    assert facts["gen_ai.operation.name"] == "chat"
    assert facts["gen_ai.request.model"] == facts["gen_ai.response.model"] == "scripted"
    assert facts["gen_ai.usage.input_tokens"] > 0
    assert facts["gen_ai.usage.output_tokens"] > 0
    assert [item.string_value for item in facts["gen_ai.response.finish_reasons"].values] == ["stop"]
    (tool,) = (span for span in collector.spans if span.name.startswith("execute_tool"))
    assert facts_of(tool)["gen_ai.tool.name"] == "join"
    everything = b"".join(span.SerializeToString() for span in collector.spans)
    assert b"private" not in everything
    assert b"secret" not in everything


@pytest.fixture
def kept():
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


def test_content_comes_when_it_is_asked_for(runtime, kept):
    exporter, provider = kept
    with runtime.subscribe(RunTracer(provider, content=True), content=True):
        runtime.execute(review, texts=["very private"])
    (chat,) = (span for span in exporter.get_finished_spans() if span.name.startswith("chat"))
    assert "very private" in chat.attributes["gen_ai.input.messages"]
    assert "secret reply" in chat.attributes["gen_ai.output.messages"]


def test_a_failure_is_marked_with_its_code_where_it_happened(runtime, kept):
    exporter, provider = kept
    with runtime.subscribe(RunTracer(provider)), pytest.raises(CapabilityError):
        runtime.execute(flow(lambda: step.inv("fail", name="breaks"), name="broken"))
    marked = {span.name: span.attributes["error.type"] for span in exporter.get_finished_spans() if not span.status.is_ok}
    assert marked == {"execute_tool fail": "capability", "INV breaks": "capability", "run default.broken": "fatal"}
    assert all(span.status.description is None for span in exporter.get_finished_spans())


def test_a_message_is_a_call_of_an_agent(runtime, kept):
    exporter, provider = kept
    boss = flow(lambda: step.communicate("critic", message="hi", name="tell"), name="main")
    critic = flow(lambda message: step.inv("join", parts=message, name="answer"), name="main")
    with runtime.subscribe(RunTracer(provider)):
        runtime.execute(Program([AgentGraph("boss", [boss]), AgentGraph("critic", [critic])], "team"))
    (sent,) = (span for span in exporter.get_finished_spans() if span.name == "invoke_agent critic")
    assert sent.attributes["gen_ai.agent.name"] == "critic"


def test_a_run_continues_the_trace_of_its_caller(runtime, kept):
    exporter, provider = kept
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with runtime.subscribe(RunTracer(provider)):
        runtime.execute(review, texts=[], run=RunOptions(metadata={"traceparent": caller}))
    spans = exporter.get_finished_spans()
    assert {format(span.context.trace_id, "032x") for span in spans} == {caller.split("-")[1]}
    assert format(next(span for span in spans if span.name.startswith("run")).parent.span_id, "016x") == caller.split("-")[2]


def test_every_span_ends_with_its_run_even_when_events_were_lost(kept):
    exporter, provider = kept
    tracer = RunTracer(provider)
    for event in (
        RunStarted("r", "default.f", 2, 1_700_000_000.0, seq=1),
        Gap(2, 5, seq=5, at=1.0),
        NodeEnded((), 1, "a", "INV", "done", 500.0, seq=6, at=1.5),
        NodeEnded(((3, 0),), 1, "b", "INV", "cancelled", 0.0, seq=7, at=1.6),
        RunEnded("r", "cancelled", 2_000.0, seq=8, at=2.0),
    ):
        tracer("r", event)
    ended = {span.name: (span.end_time - span.start_time) / 1e9 for span in exporter.get_finished_spans()}
    assert ended == {"INV a": 0.5, "INV b": 0.0, "flow default.f": 2.0, "run default.f": 2.0}
    tracer("unknown", RunEnded("unknown", "done", 1.0))


@pytest.mark.parametrize("endpoint", ["localhost:4318", "", "ftp://x"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint):
    with pytest.raises(ConfigError, match="OTLP endpoint"):
        otlp_provider(endpoint)


def scraped(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_a_scrape_gives_what_the_runs_did(runtime):
    registry = CollectorRegistry()
    with runtime.subscribe(RunMetrics(registry), nodes=False) as subscription:
        runtime.execute(review, texts=["a", "b"])
        with pytest.raises(CapabilityError):
            runtime.execute(flow(lambda: step.inv("fail", name="breaks"), name="broken"))
        assert subscription.flush()
        with MetricsServer(0, registry=registry) as server:
            found = scraped(f"http://127.0.0.1:{server.port}/metrics")
    assert found["apxm_runs_total", "default.review", "done"] == 1
    assert found["apxm_runs_total", "default.broken", "fatal"] == 1
    assert found["apxm_runs_active", "default.review"] == 0
    assert found["apxm_calls_total", "done", "model", "scripted"] == 2
    assert found["apxm_calls_total", "capability", "done", "join"] == 1
    assert found["apxm_calls_total", "capability", "fail", "failed"] >= 1
    assert found["apxm_nodes_total", "default.review", "done"] == 7
    assert found["apxm_tokens_total", "output", "scripted"] > 0
    assert found["apxm_run_duration_seconds_count", "default.review"] == 1
    with pytest.raises(urllib.error.URLError):
        scraped(f"http://127.0.0.1:{server.port}/metrics")


def test_a_taken_port_is_said():
    with Collector() as taken, pytest.raises(ConfigError, match="cannot serve metrics"):
        MetricsServer(taken.server_port, registry=CollectorRegistry())


def test_names_without_end_make_no_series_without_end(monkeypatch):
    monkeypatch.setattr(metrics, "NAMES_MAX", 3)
    registry = CollectorRegistry()
    counted = RunMetrics(registry)
    for number in range(10):
        counted("r", Called((), 1, "capability", f"c{number}", 1.0, True))
    assert registry.get_sample_value("apxm_calls_total", {"kind": "capability", "target": "other", "outcome": "done"}) == 7
    counted("r", Gap(1, 5, seq=5))
    assert registry.get_sample_value("apxm_events_lost_total") == 5


def run_program(folder, *options, **environment):
    source = "from apxm import flow, step\n\n\n@flow\ndef small(text: str):\n    return step.ask(f'Say {text}', name='say')\n"
    (folder / "small.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "apxm", "run", "small.py", "--param", "text=hi", *options],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_sends_a_trace(collector, tmp_path):
    done = run_program(tmp_path, "--otlp", collector.url)
    assert done.returncode == 0, done.stderr
    assert [span.name for span in collector.spans if not span.parent_span_id] == ["run default.small"]
    assert "chat extractive" in {span.name for span in collector.spans}


def test_a_collector_that_is_not_there_is_said_once_and_costs_no_result(tmp_path):
    done = run_program(tmp_path, APXM_TELEMETRY_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr.count("127.0.0.1:9") == 1
    assert "could not be sent" in done.stderr


def test_a_metrics_port_that_is_taken_is_an_error_before_the_run(tmp_path):
    with Collector() as taken:
        done = run_program(tmp_path, APXM_TELEMETRY_METRICS_PORT=str(taken.server_port))
    assert done.returncode == 2
    assert "cannot serve metrics" in done.stderr
    assert done.stdout == ""
