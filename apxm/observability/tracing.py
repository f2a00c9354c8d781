"""Runs as OpenTelemetry traces: run > flow > node > call. A subscriber like any other; it changes nothing of a run.

Names and attributes of calls follow the semantic conventions for generative AI. What was said to a model or a tool, and the
texts of errors, are left out unless `content` is set.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import ConfigError
from apxm.observability import events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.trace import Span, Tracer

    Key: TypeAlias = tuple[events.Path, int | None]  # a frame path, and a node in that frame; None is the frame itself

INSTALL = "pip install 'apxm[otel]'"
EXPORT_TIMEOUT_S = 5  # for a batch, repetitions included; a program that has ended waits so long for a collector that is down


class RunTracer:
    """Makes the spans. Hand it to `Runtime.subscribe`; with `content` pass `content=True` there too.

    `provider` is any tracer provider of the SDK, by default the one the process has set. A run whose RunOptions.metadata has
    a `traceparent` (W3C trace context) continues that trace. ConfigError when OpenTelemetry is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None, *, content: bool = False) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise ConfigError("tracing needs OpenTelemetry, which is not installed", hint=INSTALL) from error
        from apxm import __version__

        self._content = content
        self._tracer = trace.get_tracer("apxm", __version__, provider)
        self._runs: dict[str, _RunSpans] = {}

    def __call__(self, run_id: str, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._runs[run_id] = _RunSpans(self._tracer, event, self._content)
            return
        run = self._runs.get(run_id)
        if run is None:  # its beginning was lost
            return
        run.take(event)
        if isinstance(event, events.RunEnded):
            del self._runs[run_id]


class _RunSpans:
    """The spans of one run that are open."""

    def __init__(self, tracer: Tracer, event: events.RunStarted, content: bool) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer, self._content = tracer, content
        self._began = event.began - event.at
        parent = TraceContextTextMapPropagator().extract(event.metadata)
        attributes: dict[str, Any] = {"apxm.run.id": event.run_id, "apxm.flow": event.flow, "apxm.nodes": event.nodes}
        self._run = tracer.start_span(f"run {event.flow}", parent, attributes=attributes, start_time=self._ns(event.at))
        self._open: dict[Key, Span] = {}
        agent, _, flow = event.flow.partition(".")
        facts = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent, "apxm.flow": flow}
        self._flow = self._child(self._run, f"flow {event.flow}", event.at, facts)
        self._open[(), None] = self._flow

    def _ns(self, at: float) -> int:
        """Seconds of the run as Unix time in nanoseconds."""
        return int((self._began + at) * 1e9)

    def _child(self, parent: Span, name: str, at: float, attributes: Mapping[str, Any], *, client: bool = False) -> Span:
        from opentelemetry.trace import SpanKind, set_span_in_context

        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        context = set_span_in_context(parent)
        return self._tracer.start_span(name, context, kind, attributes, start_time=self._ns(at))

    def take(self, event: events.Event) -> None:
        """Open or close what the event is about."""
        match event:
            case events.NodeStarted():
                self._open[event.path, event.node] = self._node(event, event.at, event.worker)
            case events.NodeEnded():
                self._node_ended(event)
            case events.NodeRetried():
                facts = {"apxm.attempt": event.attempt, "apxm.delay_s": event.seconds}
                self._at(event.path, event.node).add_event("retry", facts, self._ns(event.at))
            case events.FrameOpened():
                steps = ".".join(f"{node}[{step}]" for node, step in event.path)
                owner = self._at(event.path[:-1], event.path[-1][0])
                place = {"apxm.frame": steps, "apxm.flow": event.flow}
                self._open[event.path, None] = self._child(owner, f"flow {event.flow}", event.at, place)
            case events.FrameClosed():
                self._close((event.path, None), event.at, event.outcome)
            case events.Called():
                self._called(event)
            case events.Spliced():
                self._at(event.path, event.node).add_event("plan", _plan_facts(event), self._ns(event.at))
            case events.Gap():
                lost = {"apxm.first": event.first, "apxm.last": event.last}
                self._run.add_event("events lost", lost, self._ns(event.at))
            case events.RunEnded():
                self._run_ended(event)

    def _at(self, path: events.Path, node: int | None) -> Span:
        """The innermost open span around a place."""
        found = self._open.get((path, node))
        while found is None and path:
            found = self._open.get((path, None)) or self._open.get((path[:-1], path[-1][0]))
            path = path[:-1]
        return found or self._flow

    def _node(self, event: events.NodeStarted | events.NodeEnded, at: float, worker: int | None) -> Span:
        facts: dict[str, Any] = {"apxm.node.id": event.node, "apxm.node.name": event.name, "apxm.node.op": event.op}
        if worker is not None:
            facts["apxm.worker"] = worker
        return self._child(self._at(event.path, None), f"{event.op} {event.name}", at, facts)

    def _node_ended(self, event: events.NodeEnded) -> None:
        if event.outcome == "skipped":  # it never ran
            return
        if (event.path, event.node) not in self._open:  # its beginning was lost, or it was cancelled before it began
            self._open[event.path, event.node] = self._node(event, event.at - event.duration_ms / 1e3, None)
        self._close((event.path, event.node), event.at, event.outcome, event.code, event.error)

    def _close(self, key: Key, at: float, outcome: str, code: str | None = None, error: str | None = None) -> None:
        span = self._open.pop(key, None)
        if span is not None:
            span.set_attribute("apxm.outcome", outcome)
            self._mark(span, outcome == "failed", code, error)
            span.end(self._ns(at))

    def _mark(self, span: Span, failed: bool, code: str | None, error: str | None) -> None:
        from opentelemetry.trace import Status, StatusCode

        if failed:
            span.set_attribute("error.type", code or "_OTHER")
            span.set_status(Status(StatusCode.ERROR, error if self._content else None))

    def _called(self, event: events.Called) -> None:
        facts = _FACTS.get(event.kind, _tool_facts)(event)
        name = f"{facts['gen_ai.operation.name']} {event.target}"
        began = event.at - event.duration_ms / 1e3
        parent = self._at(event.path, event.node)
        if self._content and event.content is not None:
            facts |= _content_facts(event.content)
        span = self._child(parent, name, began, facts, client=event.kind == "model")
        self._mark(span, not event.ok, event.code, event.error)
        span.end(self._ns(event.at))

    def _run_ended(self, event: events.RunEnded) -> None:
        for key in sorted(self._open, key=lambda key: (-len(key[0]), key[1] is None)):  # innermost first, the root flow last
            self._close(key, event.at, event.outcome if key == ((), None) else "cancelled")
        self._run.set_attribute("apxm.outcome", event.outcome)
        for name in ("executed", "failed", "skipped", "cancelled", "retried"):
            self._run.set_attribute(f"apxm.nodes.{name}", event.stats.get(name, 0))
        self._mark(self._run, event.outcome != "done", event.outcome, event.error)
        self._run.end(self._ns(event.at))


def _model_facts(event: events.Called) -> dict[str, Any]:
    details, usage = event.details or {}, event.usage or {}
    known = {
        "gen_ai.request.temperature": details.get("temperature"),
        "gen_ai.request.max_tokens": details.get("max_output_tokens"),
        "gen_ai.response.model": details.get("model"),
        "gen_ai.response.finish_reasons": [details["finish"]] if "finish" in details else None,
        "gen_ai.usage.input_tokens": int(usage["input_tokens"]) if "input_tokens" in usage else None,
        "gen_ai.usage.output_tokens": int(usage["output_tokens"]) if "output_tokens" in usage else None,
        "apxm.cost_usd": usage.get("cost_usd"),
    }
    facts = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "apxm", "gen_ai.request.model": event.target}
    return facts | {name: value for name, value in known.items() if value is not None}


def _plan_facts(event: events.Spliced) -> dict[str, Any]:
    return {"apxm.plan.nodes": event.nodes, "apxm.plan.depth": event.depth, "apxm.plan.digest": event.digest}


def _tool_facts(event: events.Called) -> dict[str, Any]:
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": event.target, "gen_ai.tool.type": "function"}


def _message_facts(event: events.Called) -> dict[str, Any]:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": event.target}


_FACTS: dict[str, Callable[[events.Called], dict[str, Any]]] = {
    "model": _model_facts,
    "capability": _tool_facts,
    "message": _message_facts,
}


def _content_facts(content: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if "prompt" in content:
        facts["gen_ai.input.messages"] = _message("user", content["prompt"])
    if "reply" in content:
        facts["gen_ai.output.messages"] = _message("assistant", content["reply"])
    if "arguments" in content:
        facts["gen_ai.tool.call.arguments"] = content["arguments"]
    if "result" in content:
        facts["gen_ai.tool.call.result"] = content["result"]
    return facts


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def otlp_provider(endpoint: str, *, service: str = "apxm", lost: Callable[[int], object] = lambda spans: None) -> TracerProvider:
    """A provider that sends spans to a collector by OTLP over HTTP: `endpoint` is its base URL, e.g. http://localhost:4318.

    `provider.shutdown()` sends what is left. `lost` is told how many spans could not be sent, on the thread that sends.
    ConfigError when the extra is not installed or the URL is none.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"the OTLP endpoint is {endpoint!r}", hint="expected a URL such as http://localhost:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    except ImportError as error:
        raise ConfigError("sending traces needs the OTLP exporter, which is not installed", hint=INSTALL) from error

    class Exporter(OTLPSpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            if result is not SpanExportResult.SUCCESS:
                lost(len(spans))
            return result

    url = endpoint if endpoint.rstrip("/").endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Exporter(url, timeout=EXPORT_TIMEOUT_S)))
    return provider
