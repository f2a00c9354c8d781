"""How an error and a result are said: as text for a person, as one JSON object for a script. Decides no exit code of a run."""

from __future__ import annotations

import os
import sys
import traceback
from sysconfig import get_path
from typing import TYPE_CHECKING, Any

from apxm.cli.exits import Exit, exit_code
from apxm.cli.text import as_json, as_text, count, duration, printable
from apxm.errors import ApxmError, GraphError, InternalError

if TYPE_CHECKING:
    from apxm.engine.result import ExecutionResult, ExecutionStats

STEPS_SHOWN = 12  # of the path to a frame; a flow that calls itself without end has more


def say(text: str) -> None:
    """A line for the person who watches: standard error."""
    print(text, file=sys.stderr, flush=True)


def emit(text: str) -> None:
    """The result, on standard output. BrokenPipeError goes to `main`."""
    if sys.stdout.isatty():
        text = printable(text)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def fail(error: BaseException, *, json: bool) -> Exit:
    """Say what went wrong and give the exit code."""
    known = error if isinstance(error, ApxmError) else _internal(error)
    if json:
        emit(as_json(failure_map(known)))
    else:
        say(printable(failure_text(known)))
        if known.result is not None and known.result.outputs:
            say("finished before that:")
            emit(result_text(known.result))
    if known.code == "internal" and os.environ.get("APXM_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    return exit_code(known)


def _internal(error: BaseException) -> InternalError:
    return InternalError(
        f"{type(error).__name__}: {error}", hint="this is a bug in apxm; APXM_DEBUG=1 shows where, please report it"
    )


def failure_map(error: ApxmError) -> dict[str, Any]:
    """`{error: {code, class, message, node, op, flow, path, attempt, hint}}`, and `partial` with what was finished."""
    said: dict[str, Any] = {
        "code": error.code,
        "class": error.failure.value,
        "message": error.message,
        "node": error.node,
        "op": error.op,
        "flow": error.flow,
        "path": [list(step) for step in error.path],
        "attempt": error.attempt,
        "hint": error.hint,
    }
    if error.__cause__ is not None and not isinstance(error.__cause__, ApxmError):
        said["cause"] = cause_text(error.__cause__)
    if isinstance(error, GraphError):
        said["problems"] = [problem.to_map() for problem in error.problems]
    return {"error": said} if error.result is None else {"error": said, "partial": error.result.to_map()}


def failure_text(error: ApxmError) -> str:
    """The message, where it happened, what to try."""
    lines = [f"error [{error.code}]: {error.message}"]
    if isinstance(error, GraphError):
        lines += [f"  - [{problem.code}] {problem}" for problem in error.problems]
    if error.node is not None:
        lines.append(f"  at: {place_text(error)}")
    if error.__cause__ is not None and not isinstance(error.__cause__, ApxmError):
        lines.append(f"  cause: {cause_text(error.__cause__)}")
    if error.hint:
        lines.append(f"  try: {error.hint}")
    return "\n".join(lines)


def cause_text(cause: BaseException) -> str:
    """`ZeroDivisionError: division by zero (flow.py, line 12, in share)`: the last place that is in no library."""
    text = f"{type(cause).__name__}: {cause}"
    ours = os.path.dirname(os.path.dirname(__file__)) + os.sep
    libraries = (ours, "<", *(f"{get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")))
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not frame.filename.startswith(libraries)]
    if not frames:
        return text
    last = frames[-1]
    return f"{text} ({os.path.relpath(last.filename)}, line {last.lineno}, in {last.name})"


def place_text(error: ApxmError) -> str:
    """`node `read` (INV) of flow `brief`, frame 3[17]`."""
    text = f"node `{error.node}`" + (f" ({error.op})" if error.op else "")
    if error.flow:
        text += f" of flow `{error.flow}`"
    if error.path:
        steps = [f"{node}[{step}]" for node, step in error.path]
        if len(steps) > STEPS_SHOWN:
            steps = [*steps[:3], f"… {len(steps) - 5:,} more …", *steps[-2:]]
        text += ", frame " + " / ".join(steps)
    return text + (f", attempt {error.attempt}" if error.attempt > 1 else "")


def result_text(result: ExecutionResult) -> str:
    """The value where there is one, else every output by name."""
    if result.value is not None or len(result.outputs) == 1:
        return as_text(result.value if result.value is not None else next(iter(result.outputs.values())))
    return as_json(result.outputs)


def summary(stats: ExecutionStats, outcome: str) -> str:
    """The line after a run: nodes, time, parallelism, model calls and tokens."""
    parts = [f"{count(stats.executed, 'node')} run"]
    kinds = ("failed", "skipped", "retried", "cancelled", "dropped")
    parts += [f"{getattr(stats, kind):,} {kind}" for kind in kinds if getattr(stats, kind)]
    if stats.abandoned:
        parts.append(f"still running: {', '.join(stats.abandoned)}")
    parts.append(f"parallelism {stats.parallelism_max} (average {stats.parallelism_avg:.1f})")
    used = stats.usage.get("model", {}).values()
    if calls := sum(int(usage.get("llm_calls", 0)) for usage in used):
        tokens = [sum(int(usage.get(name, 0)) for usage in used) for name in ("input_tokens", "output_tokens")]
        parts.append(f"{count(calls, 'model call')}, {tokens[0]:,} tokens in, {tokens[1]:,} out")
    if cost := sum(float(usage.get("cost_usd", 0)) for usage in used):
        parts.append(f"${cost:.4f}")
    return f"{outcome} in {duration(stats.duration_ms / 1000)}: " + "; ".join(parts)
