"""The options that go before the settings of files and environment, and what holds once they are typed. Reads no file itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.cli.command import Option

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.settings import Settings

# Each with the setting that it overrides or adds to; --budget is one option for a whole table.
_OVERRIDES = {
    "--deadline": "run.deadline_s",
    "--grant": "grants",
    "--trust": "trust",
    "--capabilities": "capabilities",
    "--model": "run.model",
    "--max-parallelism": "run.max_parallelism",
    "--on-failure": "run.on_failure",
    "--otlp": "telemetry.otlp_endpoint",
}

OPTIONS = (
    Option("--deadline", "end the run after this time", "SECONDS", type=float),
    Option("--budget", "what the run may spend: llm_calls=10,nodes=1000; repeatable", "NAME=N,…", repeat=True),
    Option(
        "--grant",
        "allow a capability; read, list, write: in a folder; http_get: from a host; repeatable",
        "NAME[=FOLDER]",
        repeat=True,
    ),
    Option("--trust", "let values from there (`llm:*`, `web`) reach guarded tools; repeatable", "LABEL[=NAME]", repeat=True),
    Option("--capabilities", "register the CAPABILITIES of a file or module; repeatable", "FILE.py", repeat=True),
    Option("--model", "`extractive` (default), `scripted:FILE`, or a model of the configuration by name", "MODEL"),
    Option("--max-parallelism", "how many operations may wait at once", "N", type=int),
    Option(
        "--on-failure",
        "`fail_fast` (default), or `continue`: finish the rest, say what failed, exit by the first failure",
        "POLICY",
    ),
    Option("--otlp", "send a trace of the run to this collector, e.g. http://localhost:4318", "URL"),
    Option("--config", "take this file in place of the nearest apxm.toml; `none`: read no configuration file", "FILE"),
)


def settings(order: Namespace) -> Settings:
    """The settings of a command that has these OPTIONS."""
    from apxm.settings import load

    return load(config=order.config, flags=_typed(order))


def _typed(order: Namespace) -> dict[str, tuple[str, Any]]:
    from apxm.budget import QUANTITIES
    from apxm.cli.arguments import limits

    given = {flag: getattr(order, flag.strip("-").replace("-", "_")) for flag in _OVERRIDES}
    typed = {key: (flag, given[flag]) for flag, key in _OVERRIDES.items() if given[flag] not in (None, [])}
    budget = limits(order.budget)
    amounts = {name: getattr(budget, name) for name in QUANTITIES}
    return typed | {f"budget.{name}": ("--budget", amount) for name, amount in amounts.items() if amount is not None}


def choices(option: Option) -> tuple[str, ...]:
    """The values that an option may have, when they can be listed."""
    if option.choices:
        return tuple(map(str, option.choices))
    if option.name not in _OVERRIDES:
        return ()
    from apxm.settings.keys import KEYS

    return KEYS[_OVERRIDES[option.name]].kind.choices
