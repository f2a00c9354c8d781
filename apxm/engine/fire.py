"""Tier 3: one slow node, with everything: the rules, labels of edges, timeouts, retries, events; and what handlers may use."""

from __future__ import annotations

import asyncio
import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from apxm.aam.machine import Machine
from apxm.capability.policy import Trust
from apxm.engine.firing import Firing
from apxm.engine.tiers import Tiers
from apxm.errors import ApxmError, BindError, DeadlineError, FailureClass, InvalidError
from apxm.observability import events
from apxm.outcome import Fail
from apxm.scheduler.binding import PURE, SYNC
from apxm.scheduler.dataflow import DEAD, EMPTY, Frame
from apxm.scheduler.splicing import Activation
from apxm.scheduler.work_stealing import RESUME, Worker
from apxm.values import SCALARS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from apxm.budget import Ledger
    from apxm.capability.grants import Grants
    from apxm.capability.system import CapabilitySystem
    from apxm.config import RunOptions, SchedulerConfig
    from apxm.dag import ExecutionDag
    from apxm.engine.agents import Agents
    from apxm.llm.registry import ModelRegistry
    from apxm.memory.episodic import Episodes
    from apxm.memory.run import RunMemory
    from apxm.memory.system import MemorySystem
    from apxm.observability.events import Event
    from apxm.scheduler.binding import Binding

    PlanBinder: TypeAlias = Callable[[ExecutionDag, RunOptions, Agents], Binding]


class Crew:
    """The asyncio side of a worker: its task, and what it awaits right now."""

    __slots__ = ("current", "parked", "task", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task: asyncio.Task[None] | None = None
        self.current: Activation | None = None
        self.parked: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.parked is not None and not self.parked.done():
            self.parked.set_result(None)


class Firer(Tiers):
    """A run that can fire any node. Satisfies executor.context.RunServices. Who calls `fire_async` is the engine's affair."""

    # What most runs never change; as class attributes they cost a run nothing.
    active = parallelism_max = 0  # handlers that wait now, and at most
    busy_s = 0.0  # time spent in handlers that may wait
    heard = content = False  # somebody takes events of calls; and wants to know what was said in them
    tells_content = False  # events may carry it
    noted = False  # somebody takes events of calls, or episodes of them are kept
    episodes: Episodes | None = None
    published = 0  # events so far
    trust = Trust()  # what it lets untrusted values reach
    splices: Sequence[events.Spliced] = ()  # the plans of models that it took in
    _before_plans = 0  # nodes that had fired before the first of them
    _memory: RunMemory | None = None
    _machines: dict[str, Machine] | None = None
    _context: Firing | None = None
    _random: random.Random | None = None

    def __init__(
        self,
        binding: Binding,
        args: list[Any],
        *,
        run_id: str,
        config: SchedulerConfig,
        options: RunOptions,
        ledger: Ledger,
        models: ModelRegistry,
        capabilities: CapabilitySystem,
        memories: MemorySystem,
        static: bool,
        agents: Agents,
        binder: PlanBinder | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.began = clock()
        deadline = float("inf") if options.deadline_s is None else self.began + options.deadline_s
        super().__init__(
            binding,
            args,
            ledger,
            deadline,
            static=static,
            keep_going=options.on_failure == "continue",
            max_frames=config.max_frames,
            max_depth=config.max_depth,
            clock=clock,
        )
        self.run_id, self.config = run_id, config
        self.models, self.capabilities, self._memories = models, capabilities, memories
        self._binder, self._options, self._agents = binder, options, agents
        if options.trust:
            self.trust = Trust.parse(options.trust)
        if options.machines:
            self._machines = {agent: self._restored(agent, held) for agent, held in options.machines.items()}
        self.subscribers: list[Callable[[Event], None]] = []
        self.listeners: list[Callable[[Event], None]] = []
        self.usage: dict[str, dict[str, dict[str, float]]] = {}
        self.retries_left = config.retry_budget
        self.abandoned: list[str] = []  # nodes that did not obey a cancellation in time
        episodes = memories.episodes
        if episodes is not None:
            self.episodes, self.noted = episodes, True
            if episodes.content != "off":
                self.content = True

    def share_work(self, worker: Worker) -> None:
        """A handler of this worker may suspend now: let others take over what else is ready."""
        raise NotImplementedError

    # ---- what handlers may use -------------------------------------------------------------------------------------
    @property
    def memory(self) -> RunMemory:
        """The memory of this run, made when first used."""
        if self._memory is None:
            self._memory = self._memories.run(self.run_id, session=self._options.session)
            for agent, values in self._agents.values():
                for key, value in values.items():
                    self._memory.view(agent).keep(key, value)
        return self._memory

    @property
    def message_depth(self) -> int:
        """How many messages of other runs led to this one."""
        return self._options.message_depth

    def machine(self, agent: str) -> Machine:
        """The agent machine of one agent in this run, made when first used."""
        if self._machines is None:
            self._machines = {}
        found = self._machines.get(agent)
        if found is None:
            found = self._machines[agent] = self._restored(agent, None)
        return found

    def machines(self) -> dict[str, Machine]:
        """The machines that were made so far, by agent."""
        return dict(self._machines or {})

    def agents(self) -> list[str]:
        """The agents whose flows were bound for the run."""
        return self._agents.seen()

    def _restored(self, agent: str, held: Mapping[str, Any] | None) -> Machine:
        """The machine of an agent: what it held before, and what its metadata says that it does not hold yet."""
        terms = self._agents.named(agent)
        made = Machine(agent, capabilities=terms.grants.names)
        if held is not None:
            made.restore(held)
        made.declare(terms.said, by="", label="agent")
        return made

    def bind_plan(self, dag: ExecutionDag, grants: Grants) -> Binding:
        """Bind a dag that a model made, with these grants of the node that asked the model, and no others."""
        if self._binder is None:
            raise BindError("this engine runs no plans that a model made")
        return self._binder(dag, self._options, self._agents.planned(grants))

    def splice(self, plan: events.Spliced) -> None:
        """Note a plan that is about to run, and tell of it. InvalidError when the run took in as many as it may."""
        if len(self.splices) >= self.config.max_splices:
            text = f"this run took in {len(self.splices)} plans of models, the bound is SchedulerConfig.max_splices"
            raise InvalidError(text, code="limit", hint="does a plan plan again without end?")
        if not self.splices:
            self._before_plans = self.executed
        self.splices = [*self.splices, plan]
        if self.heard:
            self.publish(plan)

    def renew(self, worker: Worker) -> bool:
        """Take a new lease: as any run does, and within the bound of those that run plans of models."""
        closing = self.root.closing
        if self.splices and (closing is None or closing.soft):
            most = self.config.max_spliced_firings
            if self.executed - self._before_plans > most:
                text = f"more than {most:,} nodes fired since the first plan of a model: SchedulerConfig.max_spliced_firings"
                self.abort(worker, InvalidError(text, code="limit", hint="does a plan go over lists within lists?"))
                return False
        return super().renew(worker)

    def release(self) -> None:
        """The run is over: let go of what it holds, forget its memory and give back what it leased."""
        if self.held:
            self.let_go(self.workers[0], final=True)
        self.settle_lease()
        if self._memory is not None:
            self._memory.close()

    def publish(self, event: Event) -> None:
        self.published += 1
        event.stamp(self.published, self.clock() - self.began)
        for subscriber in self.subscribers:
            subscriber(event)
        if self.listeners and not isinstance(event, events.NODE_EVENTS):
            for listener in self.listeners:
                listener(event)

    def record_usage(self, model: str, agent: str, node: str, usage: dict[str, float]) -> None:
        for kind, name in (("model", model), ("agent", agent), ("node", node)):
            total = self.usage.setdefault(kind, {}).setdefault(name, {})
            for quantity, amount in usage.items():
                total[quantity] = total.get(quantity, 0) + amount

    def retry_permit(self) -> bool:
        if self.retries_left <= 0:
            return False
        self.retries_left -= 1
        self.retried += 1
        return True

    # ---- one slow node ---------------------------------------------------------------------------------------------
    def fire(self, worker: Worker, frame: Frame, slot: int) -> None:
        """Fire a node that cannot suspend, or go on with one that is open."""
        if slot == RESUME:
            if not frame.gone and frame.left is None and self.run_static(worker, frame):
                self._frame_over(worker, frame)
            return
        if frame.v[slot] is not EMPTY or (frame.running and self._go_on(worker, frame, slot)):
            return
        if self.credit <= 0 or self.watched or frame.dead is not None:
            if not self._admit(worker, frame, slot):
                return
        else:
            self.credit -= 1
        binding = frame.binding
        kind = binding.kinds[slot]
        try:
            if frame.dead is None and frame.choices is None:
                args = frame.plan.getters[slot](frame.v)
            else:
                args = frame.arguments(slot)
            if kind == SYNC:
                context = self._context
                if context is None:
                    context = self._context = Firing(self, frame, slot)
                context.frame, context.slot = frame, slot
                item = frame.running.get(slot) if frame.running else None
                context.attempt = 1 if item is None else item.attempt  # type: ignore[union-attr]
                result = binding.run[slot](context, *args)
            elif kind == PURE:
                result = binding.run[slot](*args)
            else:
                body, step = binding.calls[slot]
                self.open_call(worker, frame, slot, body, binding.run[slot](*args), step)
                return
        except Exception as error:
            self._raised(worker, frame, slot, error)
            return
        if frame.running:
            frame.running.pop(slot, None)  # an earlier attempt
        if type(result) in SCALARS and frame.plan.plain[slot] and frame.closing is None and not self.watched:
            self.executed += 1
            self.complete_plain(worker, frame, slot, result)
        else:
            self.outcome(worker, frame, slot, result)

    async def fire_async(self, crew: Crew, frame: Frame, slot: int) -> None:
        """Fire a node that may suspend: this worker waits with it, others take over its ready work."""
        worker = crew.worker
        if frame.v[slot] is not EMPTY or self._go_on(worker, frame, slot) or not self._admit(worker, frame, slot):
            return
        binding = frame.binding
        running = frame.running = frame.running if frame.running is not None else {}
        activation = running.get(slot)
        if not isinstance(activation, Activation):
            activation = running[slot] = Activation(frame, slot)
        activation.handle, activation.wake = crew, None
        crew.current = activation
        self.active += 1
        if self.active > self.parallelism_max:
            self.parallelism_max = self.active
        began = self.clock()
        slice_began = self.slice_began
        context = Firing(self, frame, slot, activation.attempt)
        seconds = binding.timeouts.get(slot)
        try:
            self.share_work(worker)
            if seconds is None:
                result = await binding.run[slot](context, *frame.arguments(slot))
            else:
                context.deadline = min(context.deadline, began + seconds)
                result = await self._limited(binding.run[slot](context, *frame.arguments(slot)), frame, slot, seconds)
        except asyncio.CancelledError as error:
            if not activation.cancelled and crew.task is not None and crew.task.cancelling():
                raise  # this worker is dismissed
            result = Fail(self.as_error(frame, slot, error))  # the handler's own, unless it was told to stop
        except Exception as error:
            result = Fail(self.as_error(frame, slot, error))
        finally:
            self.active -= 1
            crew.current = None
            self.busy_s += self.clock() - began
            self.new_slice(slice_began)
        if activation.cancelled:
            while crew.task is not None and crew.task.cancelling():
                crew.task.uncancel()
            self.stopped(worker, activation)
        elif type(result) is Fail:
            self._raised(worker, frame, slot, result.error)
        else:
            running.pop(slot, None)
            self.outcome(worker, frame, slot, result)

    async def _limited(self, call: Any, frame: Frame, slot: int, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds) as scope:
                return await call
        except TimeoutError as error:
            if not scope.expired():
                raise
            late = DeadlineError(f"`{frame.plan.dag.names[slot]}` took longer than its timeout of {seconds:g} s")
            raise late from error

    def _admit(self, worker: Worker, frame: Frame, slot: int) -> bool:
        """The rules once more (a fast neighbour may have pushed it), the lease, the event."""
        if frame.dead is not None and frame.doomed(slot):
            self.complete(worker, frame, slot, DEAD)
            return False
        if self.credit <= 0 and not self.renew(worker):
            if frame.v[slot] is EMPTY:  # the run ends, but this node belongs to a `finally`
                worker.push(frame.binding.lanes[slot], frame, slot)
            return False
        self.credit -= 1
        if self.watched:
            self.note_started(worker, frame, slot)
        return True

    def _go_on(self, worker: Worker, frame: Frame, slot: int) -> bool:
        """An open slot came up again: a loop that gave way, or a wait that is over."""
        item = frame.running.get(slot) if frame.running else None
        if item is None:
            return False
        if isinstance(item, Activation):
            if item.spawn is not None:
                self.advance(worker, item)
                return True
            if item.wake is not None:
                wake = item.wake
                if wake is _retry:  # kept until it is admitted: what ends the run meanwhile has to find a wait
                    return False
                del frame.running[slot]  # type: ignore[union-attr]
                try:
                    result = wake()
                except Exception as error:
                    self._raised(worker, frame, slot, error)
                else:
                    self.outcome(worker, frame, slot, result)
        return True

    def _raised(self, worker: Worker, frame: Frame, slot: int, raised: BaseException) -> None:
        """A handler raised: try again where that is safe and nobody else owns the retries, else the node failed."""
        error = self.as_error(frame, slot, raised)
        item = frame.running.get(slot) if frame.running else None
        attempt = item.attempt if isinstance(item, Activation) else 1
        allowed = frame.binding.retries.get(slot, self.config.retries)
        error.attempt = attempt
        retriable = error.failure is FailureClass.TRANSIENT and not error.called and frame.closing is None
        if not retriable or attempt > allowed or not self.retry_permit():
            self.failed(worker, frame, slot, error)
            return
        bound_ms = min(self.config.retry_cap_ms, self.config.retry_base_ms * 2 ** (attempt - 1))
        seconds = self._chance().random() * bound_ms / 1e3
        if self.heard:
            dag = frame.plan.dag
            self.publish(events.NodeRetried(frame.path(), dag.ids[slot], attempt, seconds, str(error)))
        if frame.running is None:
            frame.running = {}
        if not isinstance(item, Activation):
            item = frame.running[slot] = Activation(frame, slot)
        item.attempt = attempt + 1
        item.wake = _retry
        self.park(item, seconds)

    def _chance(self) -> random.Random:
        if self._random is None:
            self._random = random.Random(self.config.seed)
        return self._random

    # ---- events ----------------------------------------------------------------------------------------------------
    def note_started(self, worker: Worker, frame: Frame, slot: int) -> None:
        dag = frame.plan.dag
        item = frame.running.get(slot) if frame.running else None
        self._started[frame, slot] = self.clock()
        if item is None:
            self.publish(events.NodeStarted(frame.path(), dag.ids[slot], dag.names[slot], frame.plan.operation(slot), worker.id))

    def note_ended(self, frame: Frame, slot: int, outcome: str, error: ApxmError | None = None) -> None:
        dag, now = frame.plan.dag, self.clock()
        began = self._started.pop((frame, slot), now)
        choice = frame.choices.get(slot) if frame.choices is not None else None
        winner = choice.winner if choice is not None and choice.fired else None
        self.publish(
            events.NodeEnded(
                frame.path(),
                dag.ids[slot],
                dag.names[slot],
                frame.plan.operation(slot),
                outcome,
                (now - began) * 1e3,
                str(error) if error is not None else None,
                winner,
                error.code if error is not None else None,
            )
        )

    def note_opened(self, frame: Frame, total: int | None) -> None:
        dag = frame.plan.dag
        self.publish(events.FrameOpened(frame.path(), dag.name, dag.node_count, total))

    def note_closed(self, frame: Frame, outcome: str) -> None:
        self.publish(events.FrameClosed(frame.path(), outcome))

    def watch(self, subscriber: Callable[[Event], None]) -> None:
        """Give every event to `subscriber`; before the run begins."""
        self.subscribers.append(subscriber)
        self.watched = self.heard = self.noted = True
        self.replay = False
        self._started: dict[tuple[Frame, int], float] = {}

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Give the events of the run and its calls to `listener`, and none of its nodes; before the run begins."""
        self.listeners.append(listener)
        self.heard = self.noted = True


def _retry() -> None:
    """Mark of a wait that ends in another attempt."""
