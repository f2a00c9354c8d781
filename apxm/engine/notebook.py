"""A result as a table of bounded size, for the cell of a notebook. Everything a program said is escaped."""

from __future__ import annotations

from collections import Counter
from html import escape
from reprlib import Repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.engine.result import ExecutionResult, ExecutionStats

TEXT_MAX = 2_000  # characters of one value
ROWS_MAX = 30  # outputs, failures, nodes
STATUS_MAX = 5_000  # nodes whose status is looked up; of a larger flow the counts must do

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxother = 5, 20, 20, 300, 300
_PRE = "white-space:pre-wrap;margin:0;max-height:20em;overflow:auto;text-align:left"
_CELL = "text-align:left;vertical-align:top"


def result_html(result: ExecutionResult) -> str:
    """Value, outputs, failures, what the run cost, and the status of the nodes of its flow."""
    parts = [f"<p><b>Run {_text(result.run_id)}</b>: {_text(_summary(result.stats))}</p>"]
    outputs = result.outputs
    value = result.value
    if value is not None:
        parts.append(f'<pre style="{_PRE}">{_value(value)}</pre>')
    if value is None or len(outputs) > 1:
        parts.append(_table("output", ((name, _value(found)) for name, found in outputs.items()), len(outputs)))
    if result.errors:
        failures = ((f"{error.node} ({error.op})", _text(str(error))) for error in result.errors)
        parts.append(_table("failure", failures, len(result.errors)))
    parts.append(_status(result))
    return f'<div class="apxm-result">{"".join(parts)}</div>'


def _summary(stats: ExecutionStats) -> str:
    kinds = ("executed", "failed", "skipped", "cancelled", "retried")
    said = [f"{getattr(stats, kind):,} {kind}" for kind in kinds if getattr(stats, kind) or kind == "executed"]
    said.append(f"{stats.duration_ms:,.1f} ms")
    said.append(f"parallelism {stats.parallelism_avg:.1f} on average, {stats.parallelism_max} at most")
    used: dict[str, float] = {}
    for usage in stats.usage["model"].values():
        for quantity, amount in usage.items():
            used[quantity] = used.get(quantity, 0) + amount
    if used.get("llm_calls"):
        tokens = [used.get(quantity, 0) for quantity in ("input_tokens", "output_tokens")]
        said.append(f"{used['llm_calls']:,.0f} model calls, {tokens[0]:,.0f} tokens in, {tokens[1]:,.0f} out")
    if used.get("cost_usd"):
        said.append(f"${used['cost_usd']:.4f}")
    return "; ".join(said)


def _status(result: ExecutionResult) -> str:
    """Every node of a small flow; of a larger one those that are not done; of a very large one none."""
    if result.stats.nodes > STATUS_MAX:
        return ""
    status = result.stats.node_status
    notable = status if len(status) <= ROWS_MAX else {name: what for name, what in status.items() if what != "done"}
    counts = ", ".join(f"{count:,} {what}" for what, count in Counter(status.values()).most_common())
    table = _table("node", ((name, _text(what)) for name, what in notable.items()), len(notable))
    return f"<details><summary>{len(status):,} nodes: {_text(counts)}</summary>{table}</details>"


def _table(title: str, rows: Iterable[tuple[str, str]], count: int) -> str:
    """`rows` have a name and markup."""
    shown = [
        f'<tr><th style="{_CELL}">{_text(name)}</th><td style="{_CELL}"><pre style="{_PRE}">{said}</pre></td></tr>'
        for _, (name, said) in zip(range(ROWS_MAX), rows)
    ]
    more = f'<tr><td colspan="2">and {count - len(shown):,} more</td></tr>' if count > len(shown) else ""
    return (
        f'<table><thead><tr><th style="{_CELL}">{title}</th><th></th></tr></thead><tbody>{"".join(shown)}{more}</tbody></table>'
    )


def _value(value: Any) -> str:
    """A text as it stands, anything else as Python writes it."""
    return _text(value if isinstance(value, str) else _SHORT.repr(value))


def _text(text: str) -> str:
    cut = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}… ({len(text):,} characters)"
    return escape(cut.encode("utf-8", "backslashreplace").decode())
