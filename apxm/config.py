"""What a person may set: RuntimeConfig, SchedulerConfig, MemoryConfig, RunOptions. Frozen, checked when built."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from apxm.budget import UNLIMITED, Limits
from apxm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FailurePolicy = Literal["fail_fast", "continue"]


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{name} is {value!r}, expected at least {least}")


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How a run is scheduled.

    `max_parallelism` is how many operations may wait at once (model calls, tools), not a number of processors.
    `enable_work_stealing=False` pins ready work to the worker that made it ready. `max_frames` and `max_depth` bound the
    live child frames of a run and their nesting. `retries` is how often the engine tries a node again whose handler
    failed with a transient error before any call went out; `retry_budget` is what all retries of a run may draw.
    `grace_ms` is how long operations in flight may take to obey a cancellation before they are abandoned.
    """

    max_parallelism: int = 64
    enable_work_stealing: bool = True
    max_frames: int = 100_000
    max_depth: int = 100
    retries: int = 2
    retry_budget: int = 100
    retry_base_ms: float = 50.0
    retry_cap_ms: float = 10_000.0
    grace_ms: float = 2_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_parallelism", "max_frames", "max_depth", "retry_base_ms", "retry_cap_ms"):
            _at_least(f"SchedulerConfig.{name}", getattr(self, name), 1)
        for name in ("retries", "retry_budget", "grace_ms"):
            _at_least(f"SchedulerConfig.{name}", getattr(self, name), 0)


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Bounds of the short-term memory of one run; past them the least recently used entries go."""

    stm_entries: int = 10_000
    stm_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("stm_entries", "stm_bytes"):
            _at_least(f"MemoryConfig.{name}", getattr(self, name), 1)


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Configuration of one Runtime."""

    memory_config: MemoryConfig = field(default_factory=MemoryConfig)
    scheduler_config: SchedulerConfig = field(default_factory=SchedulerConfig)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one run may do and for how long.

    `deadline_s` is in seconds from the start of the run. `grants` are capability names, `name=ROOT` for those beneath a
    directory. `on_failure` is `fail_fast` (the first failure ends the run) or `continue`. `trace` keeps every event, so
    that `result.events()` and the timings per node exist.
    """

    deadline_s: float | None = None
    budget: Limits = UNLIMITED
    grants: Sequence[str] = ()
    run_id: str | None = None
    on_failure: FailurePolicy = "fail_fast"
    trace: bool = False
    check: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _at_least("RunOptions.deadline_s", self.deadline_s, 0)
        if self.on_failure not in ("fail_fast", "continue"):
            raise ConfigError(f"RunOptions.on_failure is {self.on_failure!r}, expected fail_fast or continue")
        if not isinstance(self.budget, Limits):
            known = ", ".join(f"{limit.name}=..." for limit in fields(Limits))
            raise ConfigError(f"RunOptions.budget is {self.budget!r}, expected Limits(...)", hint=f"Limits takes {known}")
        if isinstance(self.grants, str):
            raise ConfigError(f"RunOptions.grants is {self.grants!r}, expected a list of them", hint=f"grants=[{self.grants!r}]")
