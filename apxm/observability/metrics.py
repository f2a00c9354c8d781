"""Runs as Prometheus metrics: counts, durations, tokens and cost. Reads the events of runs and calls, never those of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import ConfigError
from apxm.observability import events

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

INSTALL = "pip install 'apxm[metrics]'"
NAMES_MAX = 1_000  # flows, models and capabilities told apart; a time series for each more would cost its server, not us
SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class RunMetrics:
    """Counts what the runs of a runtime do: `runtime.subscribe(RunMetrics(), nodes=False)`.

    `registry` is where the metrics are registered, by default the one of the process. Flows, models and capabilities past
    the first 1,000 are counted as `other`. ConfigError when prometheus_client is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY, Counter, Gauge, Histogram
        except ImportError as error:
            raise ConfigError("metrics need prometheus_client, which is not installed", hint=INSTALL) from error
        to: Any = {"registry": registry or REGISTRY}
        self._known: set[str] = set()
        self._flows: dict[str, str] = {}
        self._active = Gauge("apxm_runs_active", "Runs that go on now.", ["flow"], **to)
        self._runs = Counter("apxm_runs", "Runs that ended.", ["flow", "outcome"], **to)
        self._duration = Histogram("apxm_run_duration_seconds", "Wall time of a run.", ["flow"], buckets=SECONDS, **to)
        self._nodes = Counter("apxm_nodes", "Nodes by how they ended, in all frames.", ["flow", "outcome"], **to)
        self._retries = Counter("apxm_retries", "Attempts beyond the first, of nodes and calls.", ["flow"], **to)
        self._calls = Counter("apxm_calls", "Calls to models and capabilities.", ["kind", "target", "outcome"], **to)
        self._took = Histogram("apxm_call_duration_seconds", "Wall time of a call.", ["kind", "target"], buckets=SECONDS, **to)
        self._tokens = Counter("apxm_tokens", "Tokens of model calls.", ["model", "direction"], **to)
        self._cost = Counter("apxm_cost_usd", "Cost of model calls in US dollars.", ["model"], **to)
        self._plans = Counter("apxm_plans", "Plans of models that runs took in.", ["flow"], **to)
        self._lost = Counter("apxm_events_lost", "Events that came faster than they were counted.", **to)

    def __call__(self, run_id: str, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._flows[run_id] = self._name(event.flow)
                self._active.labels(self._flows[run_id]).inc()
            case events.RunEnded():
                self._ended(event)
            case events.Called():
                self._called(event)
            case events.Spliced():
                if run_id in self._flows:
                    self._plans.labels(self._flows[run_id]).inc()
            case events.Gap():
                self._lost.inc(event.last - event.first + 1)

    def _name(self, name: str) -> str:
        if len(self._known) < NAMES_MAX:
            self._known.add(name)
        return name if name in self._known else "other"

    def _ended(self, event: events.RunEnded) -> None:
        flow = self._flows.pop(event.run_id, None)
        if flow is None:  # its beginning was lost
            return
        self._active.labels(flow).dec()
        self._runs.labels(flow, event.outcome).inc()
        self._duration.labels(flow).observe(event.duration_ms / 1e3)
        for outcome in ("executed", "failed", "skipped", "cancelled"):
            self._nodes.labels(flow, "done" if outcome == "executed" else outcome).inc(event.stats.get(outcome, 0))
        self._retries.labels(flow).inc(event.stats.get("retried", 0))

    def _called(self, event: events.Called) -> None:
        target = self._name(event.target)
        self._calls.labels(event.kind, target, "done" if event.ok else "failed").inc()
        self._took.labels(event.kind, target).observe(event.duration_ms / 1e3)
        if event.kind == "model":
            usage = event.usage or {}
            for direction in ("input", "output"):
                self._tokens.labels(target, direction).inc(usage.get(f"{direction}_tokens", 0))
            self._cost.labels(target).inc(usage.get("cost_usd", 0.0))


class MetricsServer:
    """Answers scrapes at http://HOST:PORT/metrics, on a thread of its own, until `close`. A context manager.

    `port` 0 takes any free one; the attribute `port` says which. ConfigError when the port is taken or prometheus_client is
    not installed.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY, start_http_server
        except ImportError as error:
            raise ConfigError("metrics need prometheus_client, which is not installed", hint=INSTALL) from error
        try:
            self._server, self._thread = start_http_server(port, host, registry or REGISTRY)
        except OSError as error:
            raise ConfigError(f"cannot serve metrics at {host}:{port}: {error.strerror}", hint="choose another port") from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
