"""The tool `python`: code run by a fresh interpreter in the sandbox. The standard library is there, and nothing installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.capability.isolation.sandbox import Limits
from apxm.capability.record import CapabilityRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.capability.isolation.sandbox import Sandbox

LIMITS = Limits(wall_s=None)  # the time of the call is limited from outside


def records(sandbox: Sandbox) -> dict[str, CapabilityRecord]:
    """The tool, working in this sandbox."""
    text = "Run Python code in a sandbox without network; the value is what it assigns to `result`."
    return {"python": CapabilityRecord(text, _python(sandbox), gives=True)}


def _python(sandbox: Sandbox) -> Callable[..., Any]:
    async def python(code: str, inputs: Any = None) -> dict[str, Any]:
        """Gives {result, stdout, stderr, truncated}.

        Args:
            code: Python source; what it assigns to `result` must be a JSON value
            inputs: a JSON value, for the code the variable `inputs`
        """
        result, done = await sandbox.evaluate(code, {"inputs": inputs}, limits=LIMITS, name="python")
        return {"result": result, "stdout": done.stdout, "stderr": done.stderr, "truncated": done.truncated}

    return python
