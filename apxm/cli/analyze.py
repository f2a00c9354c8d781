"""`apxm analyze`: the shape of a flow in time, and what it can cause at most. Runs nothing of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.flags import OPTIONS as SETTINGS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from apxm.artifact.format import Artifact, FlowKey
    from apxm.capability.record import CapabilityRecord
    from apxm.graph.amounts import Bound
    from apxm.graph.analysis import Analysis, Shape
    from apxm.graph.bounds import Certificate
    from apxm.graph.critical import Step
    from apxm.graph.model import Graph
    from apxm.graph.reached import Reach
    from apxm.observability.history import History

CONFIG = next(option for option in SETTINGS if option.name == "--config")
CAPABILITIES = Option(
    "--capabilities", "know the effects of the CAPABILITIES of a file or module; repeatable", "FILE.py", repeat=True
)
FILE = Option("file", "an artifact, a graph as JSON, or a Python file (`file.py:name`)", "FILE")
FLOW = Option("flow", "`flow` or `agent.flow`; default: the entry flow", "FLOW", optional=True)
RUN = Option(
    "--run",
    "times of a run: the beginning of its id, `last` of this program, or a file of `--events`",
    "ID|FILE.jsonl",
)
FROM_RUN = Option(
    "--from-run",
    "expect what was measured: medians of a run as with --run, of the episodes of one, or of `all` episodes",
    "ID|FILE.jsonl|all",
)

ROWS_MAX = 40  # of phases, and of a critical path
NAMES_MAX = 8  # of one phase
CAUSES_MAX = 5  # for one bound
QUANTITIES = {
    "llm_calls": "model calls",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "cost_usd": "cost in USD",
    "tool_calls": "tool calls",
    "guarded_effects": "guarded effects",
    "splices": "plans by a model",
    "firings": "nodes that fire",
    "frames": "child frames",
}


def analyze(order: Namespace) -> int:
    """Read, reckon, show; the exit code."""
    from apxm.artifact.lift import lift
    from apxm.cli import measured, recorded, report, source
    from apxm.cli.text import as_json, printable
    from apxm.errors import InvalidError
    from apxm.graph.analysis import analyse
    from apxm.graph.bounds import bounds
    from apxm.graph.critical import critical_path
    from apxm.graph.render.overlay import with_plans

    program = source.load(order.file)
    offered = source.offered(program, order.capabilities)
    artifact = program.compiled(offered)
    dag = artifact.into_dag(order.flow)
    key, flows = (dag.agent, dag.name), lift(artifact)
    known = effects(artifact, offered)
    history, latencies, path = None, None, []
    if order.run is not None and order.from_run is not None:
        raise InvalidError("--run and --from-run are two ways to get times", hint="give one of them")
    if order.from_run is not None:
        digests = recorded.digests_of(program, artifact, offered)
        latencies = measured.latencies(order.from_run, program, digests, [".".join(key)], order.config)
    if order.run is not None:
        history, doubts = recorded.history(order.run, program, artifact, [".".join(key)], offered, order.config)
        for doubt in doubts:
            report.say(printable(f"note: {doubt}"))
        path = critical_path(history, with_plans(flows, history))
    analysis = analyse(flows, key, effects=known, history=history, latencies=latencies)
    certificate = bounds(flows, key, known)
    exposed = exposed_calls(flows, key, known, offered)
    if order.json:
        said = {**analysis_map(analysis), "certificate": certificate_map(certificate), "untrusted": reach_maps(exposed)}
        report.emit(as_json(said if history is None else {**said, "run": run_map(history, path)}))
        return Exit.OK
    whose = latencies.source if latencies is not None else None
    lines = [
        *analysis_lines(analysis, whose),
        *(run_lines(history, path) if history is not None else ()),
        *bound_lines(certificate),
    ]
    lines += reach_lines(exposed)
    report.emit(printable("\n".join(lines)))
    return Exit.OK


def exposed_calls(
    flows: Mapping[FlowKey, Graph], entry: FlowKey, known: Mapping[str, str | None], offered: Mapping[str, CapabilityRecord]
) -> list[Reach]:
    """The guarded calls that untrusted text can reach, and that no record lets it. A capability nobody described is guarded."""
    from apxm.capability.policy import UNTRUSTED, matches, untrusted
    from apxm.graph.reached import reached

    records = built_in() | {name: record.registered(name, builtin=False) for name, record in offered.items()}
    labels = {name: record.label for name, record in records.items()}
    labels |= {name: None for name, effect in known.items() if effect == "pure" and name not in labels}
    found = []
    for reach in reached(flows, entry, labels):
        trusts = records[reach.capability].trusts if reach.capability in records else ()
        left = tuple(one for one in reach.labels if untrusted(one, UNTRUSTED) and not matches(one, trusts))
        if left and known.get(reach.capability, "guarded") == "guarded":
            found.append(replace(reach, labels=left))
    return found


def effects(artifact: Artifact, offered: Mapping[str, CapabilityRecord]) -> dict[str, str | None]:
    """Effect classes by capability: of the built-in tools, of what the artifact knows, of what is offered."""
    known: dict[str, str | None] = {name: record.effect.value for name, record in built_in().items()}
    for facts in artifact.manifest.values():
        known |= {name: fact.effect for name, fact in facts.items() if fact.effect is not None}
    return known | {name: record.effect.value for name, record in offered.items()}


def built_in() -> dict[str, CapabilityRecord]:
    """The tools that every runtime has."""
    from apxm.capability.system import CapabilitySystem

    system = CapabilitySystem()
    try:
        return {name: system.get(name) for name in system.list_capability_names()}
    finally:
        system.close()


# ---- for a script ----------------------------------------------------------------------------------------------------
def analysis_map(analysis: Analysis) -> dict[str, Any]:
    """JSON form; `times` is `classes`, or the id of the run whose means were taken."""
    return {"flow": analysis.flow, "times": analysis.times, "assumed": list(analysis.assumed), **shape_map(analysis.shape)}


def shape_map(shape: Shape) -> dict[str, Any]:
    """JSON form of one graph and of those inside of it."""
    steps = [{"name": s.name, "in": list(s.around), "op": s.op, "ms": round(s.ms, 3), "times": s.times} for s in shape.critical]
    return {
        "phases": [list(phase) for phase in shape.phases],
        "parallelism": {"max": shape.parallelism_max, "average": round(shape.parallelism_avg, 2)},
        "sequential_ms": round(shape.sequential_ms, 3),
        "critical_ms": round(shape.critical_ms, 3),
        "critical_path": steps,
        "inside": [{"name": inner.name, **shape_map(inner)} for inner in shape.inside],
    }


def certificate_map(certificate: Certificate) -> dict[str, Any]:
    """JSON form: every bound with its number (null: none), its text, and what makes it unbounded."""
    return {
        "bounds": {name: _bound_map(bound) for name, bound in certificate.quantities().items()},
        "capabilities": {name: _bound_map(bound) for name, bound in certificate.capabilities.items()},
        "guarded": {name: _bound_map(bound) for name, bound in certificate.guarded.items()},
        "included": list(certificate.included),
    }


def _bound_map(bound: Bound) -> dict[str, Any]:
    return {"at_most": bound.limit, "text": str(bound), "unbounded_by": list(bound.unbounded_by)}


def reach_maps(exposed: Sequence[Reach]) -> list[dict[str, Any]]:
    """JSON form of the guarded calls that untrusted text can reach."""
    return [{"flow": one.flow, "node": one.node, "capability": one.capability, "labels": list(one.labels)} for one in exposed]


def run_map(history: History, path: Sequence[Step]) -> dict[str, Any]:
    """JSON form of what was exact in the recorded run."""
    steps = [
        {
            "path": [list(one) for one in step.span.path],
            "node": step.span.node,
            "name": step.span.name,
            "op": step.span.op,
            "outcome": step.span.outcome,
            "error": step.span.error,
            "ms": round(step.span.duration_ms, 3),
            "waited_ms": round(step.waited * 1e3, 3),
        }
        for step in path
    ]
    said = {"run_id": history.run_id, "outcome": history.outcome, "duration_ms": round(history.duration_ms, 3)}
    return {**said, "critical_path": steps}


# ---- for a person ----------------------------------------------------------------------------------------------------
def analysis_lines(analysis: Analysis, measured: str | None = None) -> Iterator[str]:
    """Times, parallelism, critical path, phases. `measured` says whose times were measured, where the times are such."""
    from apxm.cli.text import count, duration, line

    shape = analysis.shape
    run = f"means of the run {line(analysis.times, 40)}"
    whence = line(measured, 80) if measured is not None else "by latency class" if analysis.times == "classes" else run
    yield f"{line(analysis.flow, 80)}: {count(len(shape.phases), 'phase')}, times {whence}"
    yield f"  sequential   {duration(shape.sequential_ms / 1e3)}"
    yield f"  critical     {duration(shape.critical_ms / 1e3)}"
    yield f"  parallelism  {shape.parallelism_max:,} at most, {shape.parallelism_avg:.1f} on average"
    yield from (f"  assumed      {line(one, 110)}" for one in analysis.assumed)
    yield ""
    yield "critical path"
    for step in shape.critical[:ROWS_MAX]:
        times = f"  {step.times:,} times" if step.times > 1 else ""
        yield f"  {duration(step.ms / 1e3):>9}  {line(' / '.join([*step.around, step.name]), 60)} ({step.op}){times}"
    yield from _more(len(shape.critical))
    yield from _phase_lines(shape, "phases")


def _phase_lines(shape: Shape, title: str) -> Iterator[str]:
    from apxm.cli.text import line

    yield ""
    yield title
    for number, phase in enumerate(shape.phases[:ROWS_MAX], 1):
        names = ", ".join(line(name, 40) for name in phase[:NAMES_MAX])
        more = f" and {len(phase) - NAMES_MAX:,} more" if len(phase) > NAMES_MAX else ""
        yield f"  {number:>3}  {names}{more}"
    yield from _more(len(shape.phases))
    for inner in shape.inside:
        yield from _phase_lines(inner, f"phases of {line(inner.name, 80)}")


def _more(number: int) -> Iterator[str]:
    if number > ROWS_MAX:
        yield f"  … {number - ROWS_MAX:,} more"


def run_lines(history: History, path: Sequence[Step]) -> Iterator[str]:
    """The exact critical path of the recorded run: its longest firings, in their order."""
    from apxm.cli.text import count, duration, line

    longest = sorted(path, key=lambda step: -(step.span.duration_ms / 1e3 + step.waited))[:ROWS_MAX]
    shown = {id(step) for step in longest}
    yield ""
    yield f"critical path of the run: {duration(history.duration_ms / 1e3)}, {count(len(path), 'firing')}"
    for step in path:
        if id(step) not in shown:
            continue
        waited = f"  after {duration(step.waited)} of waiting" if step.waited >= 0.001 else ""
        waited += "  fallback used" if step.span.fell_back else ""
        steps = "".join(f" [{one}]" for _, one in step.span.path)
        yield f"  {duration(step.span.duration_ms / 1e3):>9}  {line(step.span.name + steps, 60)} ({step.span.op}){waited}"
    if len(path) > len(shown):
        yield f"  … and {len(path) - len(shown):,} shorter ones between them"


def bound_lines(certificate: Certificate) -> Iterator[str]:
    """The certificate, and why what is unbounded is."""
    yield ""
    yield "at most, in one run"
    causes: dict[str, list[str]] = {}
    for name, bound in certificate.quantities().items():
        yield f"  {QUANTITIES[name]:<16} {_bound_text(bound)}"
        for cause in bound.unbounded_by:
            causes.setdefault(cause, []).append(QUANTITIES[name])
    for title, several in (("calls", certificate.capabilities), ("guarded effects", certificate.guarded)):
        if several:
            yield ""
            yield title
            yield from _named_lines(several)
    if causes:
        yield ""
        yield "unbounded by"
        yield from _cause_lines(causes)
    if certificate.included:
        yield ""
        yield "included"
        yield from _listed(certificate.included)


def reach_lines(exposed: Sequence[Reach]) -> Iterator[str]:
    """The guarded calls that a run refuses, unless it is told to trust what reaches them."""
    from apxm.cli.text import line

    if not exposed:
        return
    yield ""
    yield "untrusted text reaches (a run needs --trust LABEL=NAME, or somebody who approves)"
    for one in exposed[:ROWS_MAX]:
        yield f"  {line(one.capability, 40)} at {line(one.node, 40)} of {line(one.flow, 60)}: {line(', '.join(one.labels), 80)}"
    yield from _more(len(exposed))


def _named_lines(several: Mapping[str, Bound]) -> Iterator[str]:
    from apxm.cli.text import line

    width = min(max(len(name) for name in several), 40)
    rows = list(several.items())
    for name, bound in rows[:ROWS_MAX]:
        yield f"  {line(name, 40):<{width}}  {_bound_text(bound)}"
    yield from _more(len(rows))


def _cause_lines(causes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    from apxm.cli.text import line

    rows = [f"{line(cause, 90)} — {', '.join(whose)}" for cause, whose in causes.items()]
    yield from (f"  {row}" for row in rows[:ROWS_MAX])
    yield from _more(len(rows))


def _listed(rows: Sequence[str]) -> Iterator[str]:
    from apxm.cli.text import line

    yield from (f"  {line(row, 110)}" for row in rows[:ROWS_MAX])
    yield from _more(len(rows))


def _bound_text(bound: Bound) -> str:
    from apxm.cli.text import line

    return line(str(bound), 90)


COMMANDS = {
    "analyze": Command(
        "analyze",
        "Say how long a flow takes and what it can cause at most.",
        "Phases, parallelism, critical path and sequential time come from the latency class of each operation, from what\n"
        "was measured of it, or from a recorded run, whose exact critical path is then shown too. The bounds count what\n"
        "may happen at most: model calls, tokens, tool calls, guarded effects. A graph is compiled in memory first, as it\n"
        "would run.",
        (FILE, FLOW, RUN, FROM_RUN, CAPABILITIES, CONFIG, JSON),
        analyze,
    )
}
