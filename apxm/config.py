"""What a person may set: RuntimeConfig, SchedulerConfig, MemoryConfig, RunOptions. Frozen, checked when built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from apxm.budget import UNLIMITED, Limits
from apxm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.memory.embed.base import Embedder

FailurePolicy = Literal["fail_fast", "continue"]
EpisodeContent = Literal["off", "digest", "text"]
SESSION_CHARS_MAX = 1_000  # of its name


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{name} is {value!r}, expected at least {least}")


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How a run is scheduled.

    `max_parallelism` is how many operations may wait at once (model calls, tools), not a number of processors.
    `enable_work_stealing=False` pins ready work to the worker that made it ready. `max_frames` and `max_depth` bound the
    live child frames of a run and their nesting. A run splices at most `max_splices` plans that models made, at most
    `max_splice_depth` within each other, each of at most `max_splice_nodes` nodes; those in a LOOP count for every iteration.
    Once it spliced one, at most `max_spliced_firings` nodes more may fire, wherever they stand. `retries` is how often the
    engine tries a node again whose handler failed with a transient error before any call went out; `retry_budget` is what
    all retries of a run may draw. `grace_ms` is how long operations in flight may take to obey a cancellation before they are
    abandoned.
    """

    max_parallelism: int = 64
    enable_work_stealing: bool = True
    max_frames: int = 100_000
    max_depth: int = 100
    max_splices: int = 100
    max_splice_depth: int = 8
    max_splice_nodes: int = 1_000
    max_spliced_firings: int = 1_000_000
    retries: int = 2
    retry_budget: int = 100
    retry_base_ms: float = 50.0
    retry_cap_ms: float = 10_000.0
    grace_ms: float = 2_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("max_parallelism", "max_frames", "max_depth", "max_splice_nodes", "max_spliced_firings")
        for name in (*positive, "retry_base_ms", "retry_cap_ms"):
            _at_least(f"SchedulerConfig.{name}", getattr(self, name), 1)
        for name in ("max_splices", "max_splice_depth", "retries", "retry_budget", "grace_ms"):
            _at_least(f"SchedulerConfig.{name}", getattr(self, name), 0)


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """What is remembered, where, and within which bounds.

    Short-term: at most `stm_entries` and `stm_bytes` in one run, and as many again in each of the `sessions` that are kept;
    past that, what was used least recently goes.

    Long-term memory, and episodes when they are kept in SQLite, lie in `folder`, by default `memory` in the state directory.
    `embedder` makes vectors of texts; None is the hashing embedder, which needs nothing and knows words, not meanings. Whoever
    writes first owns the folder; others wait `lock_timeout_ms` before they are refused. Writes within `batch_ms` of each other
    are committed together, at most `batch_max`. A namespace of at most `exact_max` vectors is searched exactly, a larger one
    with the index.

    `episodic` is `memory` (in this process), `sqlite` or `off`; `episode_scope` is `effects` (calls to the world) or `all`
    (every firing of a node). Of episodes the newest are kept: at most `episodes` of them, none older than `episode_days`, and
    in SQLite at most `episode_bytes`. `episode_content` says what an episode keeps of prompts, replies, arguments, results and
    the texts of errors: nothing (`off`), a `digest` that tells equal ones apart from others, or the `text`, cut, with what looks
    like a secret blacked out.
    """

    stm_entries: int = 10_000
    stm_bytes: int = 64 * 1024 * 1024
    sessions: int = 100
    folder: str | None = None
    embedder: Embedder | None = None
    lock_timeout_ms: float = 5_000.0
    batch_ms: float = 5.0
    batch_max: int = 1_000
    exact_max: int = 20_000
    episodic: Literal["off", "memory", "sqlite"] = "memory"
    episode_scope: Literal["effects", "all"] = "effects"
    episodes: int = 10_000
    episode_days: float | None = None
    episode_bytes: int = 256 * 1024 * 1024
    episode_content: EpisodeContent = "off"

    def __post_init__(self) -> None:
        for name in ("stm_entries", "stm_bytes", "sessions", "batch_max", "episodes", "episode_bytes"):
            _at_least(f"MemoryConfig.{name}", getattr(self, name), 1)
        for name in ("lock_timeout_ms", "batch_ms", "exact_max", "episode_days"):
            _at_least(f"MemoryConfig.{name}", getattr(self, name), 0)
        for name, known in (
            ("episodic", ("off", "memory", "sqlite")),
            ("episode_scope", ("effects", "all")),
            ("episode_content", ("off", "digest", "text")),
        ):
            if getattr(self, name) not in known:
                expected = f"{', '.join(known[:-1])} or {known[-1]}"
                raise ConfigError(f"MemoryConfig.{name} is {getattr(self, name)!r}, expected {expected}")


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """What models are told by nodes without a `system_prompt`, in place of the built-in texts.

    `texts` are by operation in lower case: ask, think, reason, plan, reflect, verify. `folder` has them as files `ask.md`
    and so on; a text goes before a file. Both are read once, when the Runtime is made.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Configuration of one Runtime.

    `state_dir` is where queues and checkpoints are kept; by default where the command line keeps them.
    """

    memory_config: MemoryConfig = field(default_factory=MemoryConfig)
    scheduler_config: SchedulerConfig = field(default_factory=SchedulerConfig)
    prompt_config: PromptConfig = field(default_factory=PromptConfig)
    state_dir: str | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one run may do and for how long.

    `deadline_s` is in seconds from the start of the run. `grants` are capability names, `name=ROOT` for those beneath a
    directory; they hold for every agent of the run. `trust` are labels that may reach arguments of guarded capabilities,
    `llm:*`, or those of one: `web=send_mail`. `machines` are checkpoints of agent machines by agent, as
    `result.machines` of an earlier run has them: those agents go on with what they believed and wanted. `on_failure` is
    `fail_fast` (the first failure ends the run) or `continue`. `wait` lets a run without a deadline wait for a person
    without end: see PAUSE. `trace` keeps every event, so that `result.events()` and the timings per node exist.
    `message_depth` is for a host that runs a flow because a message came: the `depth` of its envelope, from which
    messages of the run count on. Runs of one `session` share the short-term memory of that name, for as long as the runtime
    keeps it.
    """

    deadline_s: float | None = None
    budget: Limits = UNLIMITED
    grants: Sequence[str] = ()
    trust: Sequence[str] = ()
    run_id: str | None = None
    on_failure: FailurePolicy = "fail_fast"
    wait: bool = False
    trace: bool = False
    check: bool = False
    message_depth: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    machines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    session: str | None = None

    def __post_init__(self) -> None:
        _at_least("RunOptions.deadline_s", self.deadline_s, 0)
        _at_least("RunOptions.message_depth", self.message_depth, 0)
        if self.on_failure not in ("fail_fast", "continue"):
            raise ConfigError(f"RunOptions.on_failure is {self.on_failure!r}, expected fail_fast or continue")
        if not isinstance(self.budget, Limits):
            known = ", ".join(f"{limit.name}=..." for limit in fields(Limits))
            raise ConfigError(f"RunOptions.budget is {self.budget!r}, expected Limits(...)", hint=f"Limits takes {known}")
        if not isinstance(self.machines, Mapping):
            kind = type(self.machines).__name__
            raise ConfigError(
                f"RunOptions.machines is a {kind}, expected a map by agent", hint="pass on what result.machines gave"
            )
        if self.session is not None and (not isinstance(self.session, str) or not 0 < len(self.session) <= SESSION_CHARS_MAX):
            raise ConfigError(
                f"RunOptions.session is {self.session!r:.60}, expected a name of 1 to {SESSION_CHARS_MAX:,} characters"
            )
        for name in ("grants", "trust"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ConfigError(f"RunOptions.{name} is {given!r}, expected a list of them", hint=f"{name}=[{given!r}]")
