"""Short ways to write nodes, and to ask the oracle about a program."""

from __future__ import annotations

from typing import Any

from apxm.testing.capabilities import functions
from apxm.testing.oracle import Choices, OracleResult, run_oracle


def const(value: Any) -> tuple[str, dict[str, Any]]:
    return ("CONST_STR", {"value": value})


def err(text: str = "no", **more: Any) -> tuple[str, dict[str, Any]]:
    return ("ERR", {"message": text, **more})


def merge(mode: str) -> tuple[str, dict[str, Any]]:
    return ("MERGE", {"mode": mode})


def branch(value: Any = True) -> tuple[str, dict[str, Any]]:
    return ("BRANCH_ON_VALUE", {"value": value})


def inv(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("INV", {"capability": name, **more})


def run(program: Any, policy: str = "fail_fast", choices: Choices | None = None, **parameters: Any) -> OracleResult:
    return run_oracle(program, parameters, capabilities={**functions(), **OWN}, on_failure=policy, choices=choices)


def boom(x: Any) -> Any:
    raise RuntimeError("boom")


def pair(a: Any, b: Any) -> list[Any]:
    return [a, b]


async def slowly(x: Any) -> Any:
    import asyncio

    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [x]


OWN: dict[str, Any] = {"boom": boom, "pair": pair, "slowly": slowly}
