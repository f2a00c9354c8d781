"""What a run gives back: outputs, value, statistics. Made cheaply; what costs something is computed when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.aam.agent import nearest
from apxm.errors import ConfigError, InvalidError
from apxm.scheduler.dataflow import EMPTY

if TYPE_CHECKING:
    from apxm.aam.machine import Machine
    from apxm.engine.local import LocalRun
    from apxm.errors import ApxmError
    from apxm.observability.events import Event, Spliced
    from apxm.observability.stream import EventStream


class ExecutionStats:
    """Counts of one run; a node in a child frame counts like any other.

    `executed` fired and gave something back, `failed` raised for good, `skipped` got a dead token, `cancelled` were
    stopped or never started, `retried` are attempts beyond the first, `dropped` are live tokens that came too late for
    an ANY or RACE. `abandoned` names operations that did not obey a cancellation in time. `duration_ms` is wall time.
    """

    __slots__ = ("_run", "abandoned", "cancelled", "dropped", "duration_ms", "executed", "failed", "retried", "skipped")

    def __init__(self, run: LocalRun, duration_ms: float) -> None:
        self._run = run
        self.executed, self.failed, self.skipped = run.executed, run.failures, run.skipped
        self.cancelled, self.retried, self.dropped = run.cancelled, run.retried, run.dropped
        self.abandoned = tuple(run.abandoned)
        self.duration_ms = duration_ms

    @property
    def parallelism_max(self) -> int:
        """The most operations that waited at once; 1 when nothing waited."""
        return max(1, self._run.parallelism_max)

    @property
    def parallelism_avg(self) -> float:
        """Time spent in operations that may wait, over wall time; 1.0 when nothing waited."""
        return max(1.0, self._run.busy_s * 1e3 / self.duration_ms) if self.duration_ms else 1.0

    @property
    def usage(self) -> dict[str, dict[str, dict[str, float]]]:
        """By `model`, `agent` and `node`: llm_calls, input_tokens, output_tokens, cost_usd."""
        return {kind: dict(self._run.usage.get(kind, {})) for kind in ("model", "agent", "node")}

    @property
    def nodes(self) -> int:
        """How many the flow itself has."""
        plan = self._run.root.plan
        return plan.size - plan.parameters

    @property
    def node_status(self) -> dict[str, str]:
        """Name -> done, failed, skipped, cancelled or pending, for the nodes of the flow itself."""
        frame = self._run.root
        names = frame.plan.dag.names
        return {names[slot]: frame.status(slot) for slot in range(frame.plan.parameters, frame.plan.size)}

    def totals(self) -> dict[str, Any]:
        """JSON form of everything that does not grow with the number of nodes."""
        names = ("executed", "failed", "skipped", "cancelled", "retried", "dropped")
        return {
            **{name: getattr(self, name) for name in names},
            "abandoned": list(self.abandoned),
            "duration_ms": round(self.duration_ms, 3),
            "parallelism_max": self.parallelism_max,
            "parallelism_avg": round(self.parallelism_avg, 2),
            "usage": self.usage,
        }

    def to_map(self) -> dict[str, Any]:
        """JSON form."""
        return {**self.totals(), "node_status": self.node_status}

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={getattr(self, name)}" for name in ("executed", "failed", "skipped", "cancelled"))
        return f"ExecutionStats({parts}, duration_ms={self.duration_ms:.3f})"


class ExecutionResult:
    """`outputs` maps the names of live exits to their values; `value` is RETURN's, else the only live exit's, else None."""

    __slots__ = ("_events", "_run", "run_id", "stats")

    def __init__(self, run: LocalRun, duration_ms: float, events: EventStream | None) -> None:
        self._run, self._events = run, events
        self.run_id = run.run_id
        self.stats = ExecutionStats(run, duration_ms)

    @property
    def outputs(self) -> dict[str, Any]:
        return self._run.root.outputs()

    @property
    def value(self) -> Any:
        value = self._run.root.value()
        return None if value is EMPTY else value

    @property
    def errors(self) -> tuple[ApxmError, ...]:
        """Every failure of the run, those that were handled or went on under `continue` included."""
        return tuple(self._run.errors)

    @property
    def unhandled(self) -> tuple[ApxmError, ...]:
        """The failures that nothing took, of a run that went on under `continue`."""
        return tuple(self._run.unhandled)

    @property
    def splices(self) -> tuple[Spliced, ...]:
        """The plans that models made and that ran, in the order in which they began: `graph` is what ran, `path` where."""
        return tuple(self._run.splices)

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """What every agent of the run believes and wants now: checkpoints by agent, for RunOptions(machines=...)."""
        return {agent: machine.checkpoint() for agent, machine in self._run.machines().items()}

    def machine(self, agent: str) -> Machine:
        """The machine of an agent of the run, with its transitions. InvalidError when no flow of it was part of the run."""
        known = [*self._run.machines(), *self._run.agents()]
        if agent not in known:
            raise InvalidError(f"agent `{agent}` had no part in this run", hint=nearest(agent, known))
        return self._run.machine(agent)

    def labels(self, output: str) -> frozenset[str]:
        """Where the value of an output came from: `user`, `llm:<model>`, `tool:<name>`, `memory:<tier>`; `many` past 64."""
        frame, table = self._run.root, self._run.labels
        if frame.returned is not None:
            if frame.returned[0] == output:
                return frozenset(table.names(frame.value_labels(table)))
            raise KeyError(output)
        names = frame.plan.dag.names
        for slot in frame.plan.dag.exits:
            if names[slot] == output:
                return frozenset(table.names(frame.labels(slot, table)))
        raise KeyError(output)

    def events(self) -> list[Event]:
        """Everything that happened, in order; only when the run was traced. Past a million the oldest go, behind a Gap."""
        if self._events is None:
            raise ConfigError("this run kept no events", hint="run it with RunOptions(trace=True)")
        return self._events.kept()

    def to_map(self) -> dict[str, Any]:
        """JSON form: outputs, value, stats, run_id."""
        return {"outputs": self.outputs, "value": self.value, "stats": self.stats.to_map(), "run_id": self.run_id}

    def __repr__(self) -> str:
        return f"ExecutionResult(run_id={self.run_id!r}, outputs={list(self.outputs)}, {self.stats!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from apxm.engine.notebook import result_html

        return result_html(self)
