"""Runtime: owns everything long-lived and wires it together. No semantics live here."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from apxm.aam.flows import FlowRegistry
from apxm.budget import Ledger
from apxm.capability.grants import Grants
from apxm.capability.system import CapabilitySystem
from apxm.collector import collector_paused
from apxm.config import RunOptions, RuntimeConfig
from apxm.coordination.system import CoordinationSystem
from apxm.dag import ExecutionDag
from apxm.engine.agents import NO_GRANTS, Agents
from apxm.engine.binding import Binder
from apxm.engine.handle import RunHandle
from apxm.engine.local import LocalRun
from apxm.engine.loop import LoopThread
from apxm.engine.parameters import arguments_of
from apxm.engine.result import ExecutionResult
from apxm.errors import ApxmError, InvalidError, RunCancelled
from apxm.llm.prompts.own import read_prompts
from apxm.llm.registry import ModelRegistry
from apxm.memory.system import MemorySystem
from apxm.observability.events import RunEnded, RunStarted
from apxm.observability.stream import EventStream
from apxm.observability.subscription import Subscription
from apxm.values import check

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from apxm.artifact import Artifact
    from apxm.config import MemoryConfig
    from apxm.coordination.peers import Peers
    from apxm.graph.model import Graph, Program
    from apxm.graph.operation import Effect
    from apxm.llm.base import LanguageModel
    from apxm.observability.subscription import Subscriber
    from apxm.scheduler.binding import Binding

Executable: TypeAlias = "ExecutionDag | Artifact | Graph | Program"
F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = RunOptions()
BINDINGS_MAX = 256  # bound dags kept for the next run
TRACE_MAX = 1_000_000  # events that a traced run keeps
COLLECTOR_NODES = 10_000  # from here on the cyclic collector is paused while a dag is bound


class Runtime:
    """Runs programs. One per process is enough; runs at once, from threads and from tasks, share nothing of a run.

    A sync and an async context manager; `close` may be called more than once. `clock` (seconds, monotonic),
    `wall_clock` (Unix time) and `loop_factory` are for tests with a virtual clock: see apxm.testing.clock.
    """

    def __init__(
        self,
        config: RuntimeConfig | None = None,
        *,
        model: LanguageModel | None = None,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self.config = config or RuntimeConfig()
        self._clock, self._wall = clock, wall_clock
        self.models = ModelRegistry(prompts=read_prompts(self.config.prompt_config))
        if model is not None:
            self.models.register(model.name, model, default=True)
        self.memory = MemorySystem(
            self.config.memory_config, folder=self._memory_folder, clock=clock, wall_clock=wall_clock, secrets=_secrets
        )
        self._run_type = _run_type(self.config.memory_config)
        self._capabilities = CapabilitySystem()
        self._flows = FlowRegistry()
        self.coordination = CoordinationSystem(self._state_folder, clock=clock, wall_clock=wall_clock)
        self._loop = LoopThread(loop_factory)
        self._bindings: OrderedDict[Any, tuple[Binding, Agents]] = OrderedDict()
        self._programs: OrderedDict[int, tuple[Any, ExecutionDag]] = OrderedDict()
        self._grants: dict[tuple[str, ...], Grants] = {}
        self._granted: tuple[tuple[str, Grants], ...] = ()  # to agents by name; replaced as a whole
        self._live: set[LocalRun] = set()
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._subscriptions: tuple[Subscription, ...] = ()
        self._closed = False
        self._lock = Lock()  # of what hosts may change from any thread
        self.static_tier = True  # benches turn it off to measure the tier below

    # ---- what it owns ----------------------------------------------------------------------------------------------
    def capability_system(self) -> CapabilitySystem:
        """The registry of tools and APIs."""
        return self._capabilities

    def flow_registry(self) -> FlowRegistry:
        """The registry of agents and their flows, for FLOW_CALL across artifacts."""
        return self._flows

    def grant(self, agent: str, grants: Sequence[str]) -> Grants:
        """Let one agent use capabilities in every run from now on: names, `name=SCOPE` as in RunOptions.grants.

        They add to what the agent has; what a run grants holds for all agents besides. Gives all that the agent has.
        """
        if isinstance(grants, str):
            raise InvalidError(f"the grants of agent `{agent}` are {grants!r}, expected a list", hint=f"[{grants!r}]")
        with self._lock:
            had = dict(self._granted)
            had[agent] = had.get(agent, NO_GRANTS).joined(Grants.parse(grants))
            for other in had.values():  # joining refuses what must not go together, whoever has it
                had[agent].joined(other)
            self._granted = tuple(sorted(had.items(), key=itemgetter(0)))
        return had[agent]

    def revoke(self, agent: str) -> bool:
        """Take back everything that was granted to one agent; False when it had nothing. Runs under way keep it."""
        with self._lock:
            had = dict(self._granted)
            self._granted = tuple((name, grants) for name, grants in self._granted if name != agent)
        return agent in had

    def _state_folder(self) -> Path:
        """Where queues and checkpoints are kept: asked for, and made, when the first is used."""
        from apxm.settings.state import private_folder, xdg_folder

        given = self.config.state_dir
        if given is not None:
            return private_folder(os.path.abspath(os.path.expanduser(given)), "RuntimeConfig.state_dir")
        return private_folder(xdg_folder("XDG_STATE_HOME", "~/.local/state", os.environ), "default")

    def _memory_folder(self) -> Path:
        """Where long-term memory is kept, and episodes in SQLite: asked for, and made, when they are first used."""
        from apxm.settings.state import MEMORY, private_folder

        given = self.config.memory_config.folder
        if given is None:
            return private_folder(str(self._state_folder() / "memory"), "default", what=MEMORY)
        given = os.path.abspath(os.path.expanduser(given))
        return private_folder(given, "MemoryConfig.folder", what=MEMORY, setting="memory.folder")

    @property
    def peers(self) -> Peers:
        """Agents in other processes that programs may send messages to, by name."""
        return self.coordination.peers

    def granted(self) -> dict[str, Grants]:
        """What agents were granted, by agent."""
        return dict(self._granted)

    def capability(self, name: str | None = None, **record: Any) -> Callable[[F], F]:
        """Decorator: register a typed function; `record` are the fields of CapabilityRecord."""
        return self._capabilities.capability(name, **record)

    # ---- runs ------------------------------------------------------------------------------------------------------
    def execute(
        self,
        dag: Executable,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        run: RunOptions | None = None,
        **named: Any,
    ) -> ExecutionResult:
        """Run to the end and give the result; flow parameters by name.

        Raises the one ApxmError that ended the run, with what was finished before in its `result`.
        """
        if asyncio._get_running_loop() is not None:
            raise InvalidError("execute was called inside a running event loop", hint="use `await runtime.execute_async(...)`")
        state, trace = self._open(dag, parameters, named, run or _DEFAULT)
        try:
            if not state.drive_inline():
                self._wait(state)
        except BaseException as error:
            self._crashed(state, error)
            raise
        return self._close_run(state, trace)

    async def execute_async(
        self,
        dag: Executable,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        run: RunOptions | None = None,
        **named: Any,
    ) -> ExecutionResult:
        """The awaitable form of `execute`. Cancelling the awaiting task cancels the run."""
        state, trace = self._open(dag, parameters, named, run or _DEFAULT)
        state.shared_loop = True
        try:
            if not state.drive_inline():
                await self._wait_async(state)
        except BaseException as error:
            self._crashed(state, error)
            raise
        return self._close_run(state, trace)

    def start(
        self,
        dag: Executable,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        run: RunOptions | None = None,
        **named: Any,
    ) -> RunHandle:
        """Start a run and come back at once with its handle: events, cancel, result."""
        options = run or _DEFAULT
        stream = EventStream()
        state, trace = self._open(dag, parameters, named, options, stream)
        handle = RunHandle(state, stream)

        async def whole() -> ExecutionResult:
            try:
                await state.drive()
            except BaseException as error:
                self._crashed(state, error)
                raise
            return self._close_run(state, trace)

        handle.attach(self._loop.submit(whole()))
        return handle

    def prepare(self, dag: Executable, *, run: RunOptions | None = None) -> Effect:
        """Bind a program ahead of its runs: what it lacks, or may not do, is said now. Gives the strongest effect it may have."""
        binding, _ = self._binding_of(dag if type(dag) is ExecutionDag else self._dag_of(dag), run or _DEFAULT)
        return binding.effect

    def subscribe(self, subscriber: Subscriber, *, nodes: bool = True, content: bool = False) -> Subscription:
        """Give the events of every run that starts from now on to `subscriber(run_id, event)`, on a thread of its own.

        With `nodes=False` only those of runs and calls come (RunStarted, Called, NodeRetried, Printed, Paused, RunEnded),
        and pure nodes keep their fast ways. `content` lets Called carry prompts, replies, arguments and results.
        """
        if self._closed:
            raise InvalidError("this runtime is closed", hint="make a new Runtime")
        made = Subscription(subscriber, nodes=nodes, content=content, leave=self._unsubscribe)
        self._subscriptions = (*self._subscriptions, made)
        return made

    def _unsubscribe(self, gone: Subscription) -> None:
        self._subscriptions = tuple(one for one in self._subscriptions if one is not gone)

    def _wait(self, state: LocalRun) -> None:
        future = self._loop.submit(state.drive())
        try:
            future.result()
        except KeyboardInterrupt:
            state.ask_cancel(RunCancelled("interrupted"))
            with suppress(Exception):  # whatever else goes wrong, it was interrupted
                future.result(self.config.scheduler_config.grace_ms / 1e3 + 1)
            raise

    async def _wait_async(self, state: LocalRun) -> None:
        future = self._loop.submit(state.drive())
        waiter = asyncio.wrap_future(future)
        try:
            await asyncio.shield(waiter)
        except asyncio.CancelledError:
            if not future.done():
                state.ask_cancel(RunCancelled("the awaiting task was cancelled"))
                await asyncio.wait([waiter], timeout=self.config.scheduler_config.grace_ms / 1e3 + 1)
            raise

    # ---- a run opens -----------------------------------------------------------------------------------------------
    def _open(
        self,
        dag: Executable,
        parameters: Mapping[str, Any] | None,
        named: Mapping[str, Any],
        options: RunOptions,
        stream: EventStream | None = None,
    ) -> tuple[LocalRun, EventStream | None]:
        if self._closed:
            raise InvalidError("this runtime is closed", hint="make a new Runtime")
        if type(dag) is not ExecutionDag:
            dag = self._dag_of(dag)
        binding, agents = self._binding_of(dag, options)
        state = self._run_type(
            binding,
            arguments_of(dag, parameters, named) if dag.parameters or parameters or named else [],
            run_id=options.run_id or f"{self._prefix}-{next(self._numbers)}",
            config=self.config.scheduler_config,
            options=options,
            ledger=Ledger(options.budget),
            models=self.models,
            capabilities=self._capabilities,
            memories=self.memory,
            agents=agents,
            binder=self._bind_plan,
            static=self.static_tier,
            clock=self._clock,
        )
        self._live.add(state)
        trace = EventStream(TRACE_MAX) if options.trace else None
        for kept in (stream, trace):
            if kept is not None:
                state.watch(kept.put)
        for one in self._subscriptions:
            (state.watch if one.nodes else state.listen)(partial(one.put, state.run_id))
            if one.content:
                state.content = state.tells_content = True
        if state.heard:
            flow = f"{dag.agent}.{dag.name}"
            state.publish(RunStarted(state.run_id, flow, dag.node_count, self._wall(), dict(options.metadata)))
        return state, trace

    def _dag_of(self, program: Any) -> ExecutionDag:
        """Artifacts and graphs become dags; the last ones are remembered by identity."""
        if hasattr(program, "into_dag"):
            known = self._programs.get(id(program))
            if known is not None and known[0] is program:
                return known[1]
            dag: ExecutionDag = program.into_dag()
            self._programs[id(program)] = (program, dag)
            if len(self._programs) > BINDINGS_MAX:
                self._programs.popitem(last=False)
            return dag
        from apxm.compiler.compile import compile

        return compile(program).into_dag()

    def _binding_of(self, dag: ExecutionDag, options: RunOptions) -> tuple[Binding, Agents]:
        grants = self._grants_of(options) if options.grants else NO_GRANTS
        flows, granted = self._flows.snapshot(), self._granted
        waits = options.wait or options.deadline_s is not None
        key = (dag, grants, self._capabilities.generation, self.models.generation, flows, granted, options.check, waits)
        bound = self._bindings.get(key)
        if bound is None:
            window = self.config.scheduler_config.max_parallelism
            agents = Agents(flows, grants, dict(granted))
            with collector_paused(len(dag) > COLLECTOR_NODES):
                binder = Binder(
                    *(self._capabilities, self.models, agents, window, options.check),
                    coordination=self.coordination,
                    waits=waits,
                    episodes_wait=self.config.memory_config.episodic == "sqlite",
                )
                bound = binder.bind(dag), agents
            self._bindings[key] = bound
            while len(self._bindings) > BINDINGS_MAX:
                self._bindings.popitem(last=False)
        return bound

    def _bind_plan(self, dag: ExecutionDag, options: RunOptions, agents: Agents) -> Binding:
        """Bind what a model planned; nothing is granted unsaid."""
        window = self.config.scheduler_config.max_parallelism
        binder = Binder(
            *(self._capabilities, self.models, agents, window, options.check),
            explicit=True,
            coordination=self.coordination,
            waits=options.wait or options.deadline_s is not None,
            episodes_wait=self.config.memory_config.episodic == "sqlite",
        )
        return binder.bind(dag)

    def _grants_of(self, options: RunOptions) -> Grants:
        wanted = tuple(options.grants)
        if len(self._grants) >= BINDINGS_MAX:
            self._grants.clear()
        return self._grants.get(wanted) or self._grants.setdefault(wanted, Grants.parse(wanted))

    # ---- a run ends ------------------------------------------------------------------------------------------------
    def _drop(self, state: LocalRun) -> None:
        self._live.discard(state)
        state.release()

    def _crashed(self, state: LocalRun, error: BaseException) -> None:
        """A bug, or somebody stopped waiting: whoever watches still learns how the run ended."""
        self._drop(state)
        if state.heard:
            duration_ms = (self._clock() - state.began) * 1e3
            state.publish(RunEnded(state.run_id, "fatal", duration_ms, f"{type(error).__name__}: {error}"))

    def _close_run(self, state: LocalRun, trace: EventStream | None) -> ExecutionResult:
        self._drop(state)
        duration_ms = (self._clock() - state.began) * 1e3
        error = state.error or self._refused_output(state)
        result = ExecutionResult(state, duration_ms, trace)
        if state.heard:
            outcome = "done" if error is None else error.failure.value
            said = None if error is None else str(error)
            state.publish(RunEnded(state.run_id, outcome, duration_ms, said, result.stats.totals()))
        if error is not None:
            error.result = result
            raise error
        return result

    def _refused_output(self, state: LocalRun) -> ApxmError | None:
        """Full validity is checked where a value leaves the run."""
        for name, value in state.root.outputs().items():
            kind = type(value)
            if kind is str or value is None or kind is bool:
                continue
            try:
                check(value, where=f"output `{name}`")
            except ApxmError as error:
                return error
        return None

    # ---- the end ---------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Cancel what runs, end threads and processes. Idempotent; takes little longer than the grace period at most."""
        if self._closed:
            return
        if self._loop.is_current():
            raise InvalidError("close was called by what this runtime runs", hint="cancel the run, and close after it")
        self._closed = True
        for state in list(self._live):
            state.ask_cancel(RunCancelled("the runtime was closed"))
        self._loop.close(self.config.scheduler_config.grace_ms / 1e3 + 0.25)
        for one in self._subscriptions:
            one.close()
        self._capabilities.close()
        self.coordination.close()
        self.memory.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Runtime:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self.close)


def _run_type(config: MemoryConfig) -> type[LocalRun]:
    """What a run is: one of its own where every firing is put on record."""
    if config.episode_scope == "effects" or config.episodic == "off":
        return LocalRun
    from apxm.engine.noting import NotedRun, TellingRun

    return NotedRun if config.episode_content == "off" else TellingRun


def _secrets() -> Iterable[str]:
    """The secrets that the settings of this process referred to."""
    from apxm.settings.secret import resolved

    return resolved()
