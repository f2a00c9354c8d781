"""One run in this process: worker coroutines that fire slow nodes, steal, park; and the start without any loop.

A run begins on the caller's thread and stays there while nothing waits. At the first node that may wait it moves to the
runtime's one loop thread. Workers are coroutines of that loop: a handler is awaited by the worker itself, so that a node
never costs a task. Only a suspended worker can be robbed, and it says so (`rich`) before it suspends: no scanning.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from apxm.engine.firing import Firing
from apxm.engine.tiers import SLICE_S, Tiers
from apxm.errors import ApxmError, DeadlineError, FailureClass, InternalError
from apxm.observability import events
from apxm.outcome import Fail, Spawn
from apxm.scheduler.binding import ASYNC, PURE, SYNC
from apxm.scheduler.dataflow import DEAD, EMPTY, Frame
from apxm.scheduler.splicing import Activation
from apxm.scheduler.work_stealing import RESUME, Worker
from apxm.values import SCALARS

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.budget import Ledger
    from apxm.capability.system import CapabilitySystem
    from apxm.config import RunOptions, SchedulerConfig
    from apxm.llm.registry import ModelRegistry
    from apxm.memory.system import MemorySystem, RunMemory
    from apxm.observability.events import Event
    from apxm.scheduler.binding import Binding


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


class LocalRun(Tiers):
    """One run on the local engine. Satisfies executor.context.RunServices."""

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
        self._memory: RunMemory | None = None
        self.subscribers: list[Callable[[Event], None]] = []
        self.usage: dict[str, dict[str, dict[str, float]]] = {}
        self.retries_left = config.retry_budget
        self.active = self.parallelism_max = 0
        self.busy_s = 0.0
        self.abandoned: list[str] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self._context: Firing | None = None
        self._parked: dict[Activation, float] = {}
        self._timers: dict[Activation, asyncio.TimerHandle] = {}
        self._idle: list[Crew] = []
        self._rich: list[Worker] = []
        self._crews: list[Crew] = []
        self._waking = False
        self._random: random.Random | None = None
        self._end: asyncio.Future[None] | None = None
        self._grace: asyncio.TimerHandle | None = None

    # ---- what handlers may use -------------------------------------------------------------------------------------
    @property
    def memory(self) -> RunMemory:
        """The short-term memory of this run, made when first used."""
        if self._memory is None:
            self._memory = self._memories.run(self.run_id)
        return self._memory

    def release(self) -> None:
        """The run is over: forget its memory and give back what it leased."""
        self.settle_lease()
        if self._memory is not None:
            self._memory.close()

    def publish(self, event: Event) -> None:
        for subscriber in self.subscribers:
            subscriber(event)

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
            if not frame.gone and frame.closing is None and self.run_static(worker, frame):
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
        context = Firing(self, frame, slot, activation.attempt)
        seconds = binding.timeouts.get(slot)
        try:
            self._share_work(worker)
            if seconds is None:
                result = await binding.run[slot](context, *frame.arguments(slot))
            else:
                context.deadline = min(context.deadline, began + seconds)
                result = await self._limited(binding.run[slot](context, *frame.arguments(slot)), frame, slot, seconds)
        except asyncio.CancelledError:
            if not activation.cancelled:
                raise
            result = None
        except Exception as error:
            result = Fail(self.as_error(frame, slot, error))
        finally:
            self.active -= 1
            crew.current = None
            self.busy_s += self.clock() - began
        if activation.cancelled:
            if crew.task is not None and crew.task.cancelling():
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
            late.called = True
            raise late from error

    def _admit(self, worker: Worker, frame: Frame, slot: int) -> bool:
        """The rules once more (a fast neighbour may have pushed it), the lease, the event."""
        if frame.dead is not None and frame.doomed(slot):
            self.complete(worker, frame, slot, DEAD)
            return False
        if self.credit <= 0 and not self.renew(worker):
            return False
        self.credit -= 1
        if self.watched:
            self.note_started(frame, slot)
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
                wake, item.wake = item.wake, None
                if wake is _retry:
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
        if self.watched:
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

    # ---- on the caller's thread ------------------------------------------------------------------------------------
    def drive_inline(self) -> bool:
        """Go on without a loop. True when the run is over, False when something has to wait or others want their turn."""
        worker = self.workers[0]
        self.slice_began = self.began
        self._begin(worker)
        pop, fire = worker.pop, self.fire
        while not self.over:
            if self.shared_loop and self.give_way():
                return False
            job = pop()
            if job is not None:
                frame, slot = job
                if frame.binding.waits and slot >= 0 and frame.v[slot] is EMPTY and self._needs_loop(frame, slot):
                    worker.push(frame.binding.lanes[slot], frame, slot)
                    return False
                fire(worker, frame, slot)
            elif worker.batches:
                self.batch(worker)
            elif self._parked:
                return False
            else:
                self._stuck(worker)
        return True

    def _needs_loop(self, frame: Frame, slot: int) -> bool:
        return frame.binding.kinds[slot] == ASYNC or slot in frame.binding.timeouts

    def _begin(self, worker: Worker) -> None:
        root = self.root
        if root.left is not None or root.gone:
            return
        if root.binding.static and self.replay:
            if self.run_static(worker, root):
                self._frame_over(worker, root)
        else:
            self.start(worker, root)

    def _stuck(self, worker: Worker) -> None:
        if self.root.closing is not None:
            raise InternalError("a run that closes has nothing left to wait for")
        self.abort(worker, self.stuck())

    # ---- on the loop -----------------------------------------------------------------------------------------------
    async def drive(self) -> None:
        """Finish the run with worker coroutines on the running loop."""
        loop = self.loop = asyncio.get_running_loop()
        self.shared_loop = True
        self.slice_began = self.clock()
        self._end = loop.create_future()
        self._begin(self.workers[0])
        for activation, seconds in self._parked.items():
            self._timers[activation] = loop.call_later(seconds, self._unparked, activation)
        expiry = None
        if self.deadline != float("inf"):
            expiry = loop.call_later(max(0.0, self.deadline - self.clock()), self._expire)
        if self.cancel_asked is not None:
            self._obey_cancel()
        self._hire()
        try:
            await self._end
        finally:
            for timer in (expiry, self._grace, *self._timers.values()):
                if timer is not None:
                    timer.cancel()
            await self._dismiss()

    async def _dismiss(self) -> None:
        """End the worker tasks. One whose handler does not obey is left behind: it was reported as abandoned."""
        tasks = [crew.task for crew in self._crews if crew.task is not None and not crew.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.05 if self.abandoned else None)

    def _hire(self) -> None:
        number = len(self._crews)
        if number == len(self.workers):
            self.workers.append(Worker(number))
        crew = Crew(self.workers[number])
        self._crews.append(crew)
        assert self.loop is not None
        crew.task = self.loop.create_task(self._work(crew))

    async def _work(self, crew: Crew) -> None:
        """pop own newest -> fire -> repeat; nothing: steal; nothing to steal: park until woken."""
        worker = crew.worker
        try:
            self.slice_began = self.clock()
            while not self.over:
                self._waking = False
                job = worker.pop()
                if job is not None:
                    frame, slot = job
                    if slot >= 0 and frame.binding.kinds[slot] == ASYNC:
                        await self.fire_async(crew, frame, slot)
                        self.slice_began = self.clock()
                    else:
                        self.fire(worker, frame, slot)
                elif worker.batches:
                    self.batch(worker)
                elif not self._steal(worker):
                    await self._park_crew(crew)
                    continue
                if self.clock() - self.slice_began > SLICE_S:
                    self._share_work(worker)
                    await asyncio.sleep(0)
                    self.slice_began = self.clock()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._crash(error)
            return
        self._check_end()

    async def _park_crew(self, crew: Crew) -> None:
        """Exact parking: whoever has work to share wakes exactly one, who wakes the next."""
        assert self.loop is not None
        if not self.active and not self._parked and len(self._idle) + 1 == len(self._crews):
            self._stuck(crew.worker)
            return
        crew.parked = self.loop.create_future()
        self._idle.append(crew)
        await crew.parked
        self.slice_began = self.clock()

    def _share_work(self, worker: Worker) -> None:
        """This worker may suspend: enlist it as a victim, and have one wake-up on its way if there is work."""
        if not self.config.enable_work_stealing:
            self._send_home(worker)
            return
        rich = self._rich
        if worker.has_work():
            if not rich or rich[-1] is not worker:
                rich.append(worker)
        else:
            while rich and not rich[-1].has_work():
                rich.pop()
        if self._waking or not rich:
            return
        self._waking = True
        for _ in range(len(worker.waiting) or 1):  # ready nodes of this lane will suspend: one peer for each
            if not self._wake_or_hire():
                break

    def _wake_or_hire(self) -> bool:
        if self._idle:
            self._idle.pop().wake()
        elif len(self._crews) < self.config.max_parallelism:
            self._hire()
        else:
            return False
        return True

    def _send_home(self, worker: Worker) -> None:
        """Without stealing every waiting slot has one owner, by its number, and never changes hands."""
        jobs, worker.waiting = worker.waiting, []
        for frame, slot in jobs:
            home = (slot + frame.index) % self.config.max_parallelism
            while len(self._crews) <= home:
                self._hire()
            crew = self._crews[home]
            crew.worker.waiting.append((frame, slot))
            if crew in self._idle:
                self._idle.remove(crew)
                crew.wake()

    def _steal(self, thief: Worker) -> bool:
        rich = self._rich
        while rich:
            place = self._chance().randrange(len(rich)) if len(rich) > 1 else 0
            victim = rich[place]
            if victim is not thief and victim.steal_into(thief):
                return True
            rich[place] = rich[-1]
            rich.pop()
        return False

    # ---- waits -----------------------------------------------------------------------------------------------------
    def park(self, activation: Activation, seconds: float) -> None:
        self._parked[activation] = seconds
        if self.loop is not None:
            self._timers[activation] = self.loop.call_later(seconds, self._unparked, activation)

    def unpark(self, activation: Activation) -> None:
        self._parked.pop(activation, None)
        timer = self._timers.pop(activation, None)
        if timer is not None:
            timer.cancel()

    def _unparked(self, activation: Activation) -> None:
        """A wait is over: its slot is ready again."""
        self._parked.pop(activation, None)
        self._timers.pop(activation, None)
        worker = self.workers[0]
        worker.push(activation.frame.binding.lanes[activation.slot], activation.frame, activation.slot)
        self._call_worker(worker)

    def _call_worker(self, worker: Worker) -> None:
        """Work appeared from outside a worker."""
        if not self.config.enable_work_stealing:
            crew = self._crews[worker.id]
            if crew in self._idle:
                self._idle.remove(crew)
                crew.wake()
            return
        if worker not in self._rich:
            self._rich.append(worker)
        self._wake_or_hire()

    def _spawn(self, worker: Worker, frame: Frame, slot: int, spawn: Spawn) -> None:
        super()._spawn(worker, frame, slot, spawn)
        seconds = frame.binding.timeouts.get(slot)
        item = frame.running.get(slot) if frame.running else None
        if seconds is not None and isinstance(item, Activation) and item.handle is None:
            assert self.loop is not None  # slots with a timeout are only fired on the loop
            item.handle = self._timers[item] = self.loop.call_later(seconds, self._spawn_late, item, seconds)

    def _spawn_late(self, activation: Activation, seconds: float) -> None:
        """The child frames of a slot took longer than its timeout."""
        frame, slot, worker = activation.frame, activation.slot, self.workers[0]
        self._timers.pop(activation, None)
        if activation.cancelled or (frame.running or {}).get(slot) is not activation:
            return
        late = DeadlineError(f"`{frame.plan.dag.names[slot]}` took longer than its timeout of {seconds:g} s")
        self.stop(worker, frame, slot, then=partial(self.failed, frame=frame, slot=slot, error=late))
        self._call_worker(worker)
        self._check_end()

    def interrupt(self, activation: Activation) -> None:
        crew = activation.handle
        if isinstance(crew, Crew) and crew.task is not None and crew.current is activation:
            crew.task.cancel()

    # ---- ends ------------------------------------------------------------------------------------------------------
    def ask_cancel(self, reason: ApxmError) -> None:
        """Cancel from any thread. Takes effect at the next lease, or at once when the run is on the loop."""
        self.cancel_asked = reason  # type: ignore[assignment]
        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(self._obey_cancel)
            except RuntimeError:  # the loop is closed: so is the run
                return

    def _obey_cancel(self) -> None:
        assert self.cancel_asked is not None
        self._abort_now(self.cancel_asked)

    def _expire(self) -> None:
        self._abort_now(DeadlineError("the deadline of the run passed"))

    def _abort_now(self, error: ApxmError) -> None:
        if not self.over:
            self.abort(self.workers[0], error)
            self._call_worker(self.workers[0])
            self._check_end()

    def abort(self, worker: Worker, error: ApxmError) -> None:
        super().abort(worker, error)
        if self.loop is not None and self._grace is None and not self.over:
            self._grace = self.loop.call_later(self.config.grace_ms / 1e3, self._give_up)

    def _give_up(self) -> None:
        if not self.over:
            self.abandoned += self.force(self.workers[0])
            self._check_end()

    def _check_end(self) -> None:
        if self.over and self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _crash(self, error: BaseException) -> None:
        """A bug of ours, or a KeyboardInterrupt inside a handler: the run cannot go on."""
        if self._end is not None and not self._end.done():
            self._end.set_exception(error)

    def stopped(self, worker: Worker, activation: Activation) -> None:
        """A thread cannot be stopped: what it still does after its node was cancelled is named."""
        dag = activation.frame.plan.dag
        capability = dag.attributes.get(activation.slot, {}).get("capability")
        if capability is not None and capability in self.capabilities.abandoned():
            self.abandoned.append(dag.names[activation.slot])
        super().stopped(worker, activation)

    # ---- events ----------------------------------------------------------------------------------------------------
    def note_started(self, frame: Frame, slot: int) -> None:
        dag = frame.plan.dag
        item = frame.running.get(slot) if frame.running else None
        now = self.clock()
        self._started[frame, slot] = now
        if item is None:
            self.publish(
                events.NodeStarted(frame.path(), dag.ids[slot], dag.names[slot], frame.plan.operation(slot), now - self.began)
            )

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
                now - self.began,
                (now - began) * 1e3,
                str(error) if error is not None else None,
                winner,
            )
        )

    def note_opened(self, frame: Frame, total: int | None) -> None:
        dag = frame.plan.dag
        self.publish(events.FrameOpened(frame.path(), dag.name, dag.node_count, total))

    def note_closed(self, frame: Frame, outcome: str) -> None:
        self.publish(events.FrameClosed(frame.path(), outcome))

    def watch(self, subscriber: Callable[[Event], None]) -> None:
        """Subscribe before the run begins."""
        self.subscribers.append(subscriber)
        self.watched = True
        self.replay = False
        self._started: dict[tuple[Frame, int], float] = {}


def _retry() -> None:
    """Mark of a wait that ends in another attempt."""
