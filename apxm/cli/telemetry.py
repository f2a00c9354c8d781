"""Where traces and metrics of `apxm run` go, if the settings say so. Loads nothing otherwise."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from apxm.runtime import Runtime
    from apxm.settings import Settings


class Telemetry:
    """Subscribes what the settings ask for while it is entered, and sends what is left when it is left."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime, self._settings = runtime, settings.telemetry
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            if self._settings.otlp_endpoint is not None:
                self._trace(entered, self._settings.otlp_endpoint)
            if self._settings.metrics_port is not None:
                self._count(entered, self._settings.metrics_port)
            self._open = entered.pop_all()
        return self

    def _trace(self, entered: ExitStack, endpoint: str) -> None:
        import logging

        from apxm.cli.report import say
        from apxm.cli.text import count
        from apxm.observability.tracing import RunTracer, otlp_provider

        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # what it would say three times is said once
        content = self._settings.content
        provider = otlp_provider(endpoint, lost=lambda spans: say(f"{count(spans, 'span')} could not be sent to {endpoint}"))
        entered.callback(provider.shutdown)
        entered.enter_context(self._runtime.subscribe(RunTracer(provider, content=content), content=content))

    def _count(self, entered: ExitStack, port: int) -> None:
        from apxm.observability.metrics import MetricsServer, RunMetrics

        entered.enter_context(MetricsServer(port))
        entered.enter_context(self._runtime.subscribe(RunMetrics(), nodes=False))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
