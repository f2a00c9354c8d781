"""One run in this process: worker coroutines that fire slow nodes, steal, park; and the start without any loop.

A run begins on the caller's thread and stays there while nothing waits. At the first node that may wait it moves to the
runtime's one loop thread. Workers are coroutines of that loop: a handler is awaited by the worker itself, so that a node
never costs a task. Only a suspended worker can be robbed, and it says so (`rich`) before it suspends: no scanning.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from apxm.engine.fire import Crew, Firer
from apxm.engine.tiers import SLICE_S
from apxm.errors import ApxmError, DeadlineError, HandlerError, InternalError
from apxm.scheduler.binding import ASYNC
from apxm.scheduler.dataflow import EMPTY, Frame
from apxm.scheduler.holding import release_error
from apxm.scheduler.splicing import Activation
from apxm.scheduler.work_stealing import Worker

if TYPE_CHECKING:
    from apxm.outcome import Spawn

_NAMED_MAX = 5  # flows that an error names


class LocalRun(Firer):
    """One run on the local engine."""

    loop: asyncio.AbstractEventLoop | None = None  # the loop it moved to, once something had to wait
    _settled = False  # whether it has what only a run that waits needs
    _waking = False  # one wake-up is on its way
    _end: asyncio.Future[None] | None = None
    _grace: asyncio.TimerHandle | None = None

    def _settle_in(self) -> None:
        """What only a run that waits needs."""
        if not self._settled:
            self._settled = True
            self._parked: dict[Activation, float] = {}
            self._timers: dict[Activation, asyncio.TimerHandle] = {}
            self._idle: list[Crew] = []
            self._rich: list[Worker] = []
            self._crews: list[Crew] = []

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
            elif self._settled and self._parked:
                return False
            else:
                self._stuck(worker)
            if self.held:
                self.let_go(worker)
        return True

    def _needs_loop(self, frame: Frame, slot: int) -> bool:
        return frame.binding.kinds[slot] == ASYNC or slot in frame.binding.timeouts

    def _begin(self, worker: Worker) -> None:
        root = self.root
        if root.left is not None or root.gone or len(root.v) > root.plan.parameters:
            return  # it began before; one in static form gave way and waits for its turn
        if root.binding.static and self.replay:
            if self.run_static(worker, root):
                self._frame_over(worker, root)
        else:
            self.start(worker, root)

    def _stuck(self, worker: Worker) -> None:
        error = self.stuck()
        if self.root.closing is not None:
            raise InternalError(f"a run that closes has nothing left to wait for: {error}") from error
        self.abort(worker, error)

    # ---- on the loop -----------------------------------------------------------------------------------------------
    async def drive(self) -> None:
        """Finish the run with worker coroutines on the running loop."""
        try:
            await self._drive()
        except (SystemExit, KeyboardInterrupt) as error:  # from a handler; as itself it would end the loop of all runs
            raise HandlerError(f"a handler raised {type(error).__name__}: {error}") from error

    async def _drive(self) -> None:
        self._settle_in()
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
        self._hire()
        if self.cancel_asked is not None:
            self._obey_cancel()
        try:
            await self._end
        finally:
            for timer in (expiry, self._grace, *self._timers.values()):
                if timer is not None:
                    timer.cancel()
            await self._dismiss()
            await self._let_all_go()

    async def _dismiss(self) -> None:
        """End the worker tasks. One whose handler does not obey is left behind: it was reported as abandoned."""
        for crew in self._idle:
            crew.wake()
        await asyncio.sleep(0)  # those that were parked see that the run is over
        tasks = [crew.task for crew in self._crews if crew.task is not None and not crew.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.05 if self.abandoned else self.config.grace_ms / 1e3)

    async def _let_all_go(self) -> None:
        """Release what is still held, and wait for what takes its time: each bounds that itself."""
        worker = self.workers[0]
        self.let_go(worker, final=True)
        while self.leaving:
            (held, future), *self.leaving = self.leaving
            try:
                await asyncio.wrap_future(future)
            except Exception as error:
                self.lost(worker, held, release_error(error))

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
            while not self.over:
                if self.clock() - self.slice_began > SLICE_S:
                    await self._yield(worker)
                    continue
                self._waking = False
                job = worker.pop()
                if job is not None:
                    frame, slot = job
                    if slot >= 0 and frame.binding.kinds[slot] == ASYNC:
                        await self.fire_async(crew, frame, slot)
                    else:
                        self.fire(worker, frame, slot)
                elif worker.batches:
                    self.batch(worker)
                elif not self._steal(worker):
                    await self._park_crew(crew)
                if self.held:
                    self.let_go(worker)
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
        slice_began = self.slice_began
        await crew.parked
        self.new_slice(slice_began)

    async def _yield(self, worker: Worker) -> None:
        """The slice is over for all workers of the run: others on this loop get their turn."""
        if worker.waiting:  # peers could begin what waits; for all else there is one thread only
            self.share_work(worker)
        slice_began = self.slice_began
        await asyncio.sleep(0)
        self.new_slice(slice_began)

    def share_work(self, worker: Worker) -> None:
        """This worker may suspend: enlist it as a victim, and have one wake-up on its way if there is work."""
        if not self.config.enable_work_stealing:
            self._send_home(worker)
            return
        rich = self._rich
        if worker.has_work():
            self._list(worker)
        else:
            while rich and not rich[-1].has_work():
                rich.pop().listed = False
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
            victim.listed = False
            rich[place] = rich[-1]
            rich.pop()
        return False

    def _list(self, worker: Worker) -> None:
        if not worker.listed:
            worker.listed = True
            self._rich.append(worker)

    # ---- waits -----------------------------------------------------------------------------------------------------
    def park(self, activation: Activation, seconds: float) -> None:
        self._settle_in()
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
        self._list(worker)
        self._wake_or_hire()

    def _forget_slot(self, frame: Frame, slot: int) -> None:
        item = frame.running.pop(slot, None) if frame.running is not None else None
        if self._settled and self._timers and isinstance(item, Activation) and item in self._timers:
            self._timers.pop(item).cancel()

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
        waited = sorted({f"`{one.plan.dag.agent}.{one.plan.dag.name}`" for one in activation.open if not one.plan.region})
        whom = f", waiting for {', '.join(waited[:_NAMED_MAX])}{' …' if waited[_NAMED_MAX:] else ''}" if waited else ""
        late = DeadlineError(f"`{frame.plan.dag.names[slot]}` took longer than its timeout of {seconds:g} s{whom}")
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
        self.over = True  # nothing of it goes on

    def stopped(self, worker: Worker, activation: Activation) -> None:
        """A thread cannot be stopped: what it still does after its node was cancelled is named."""
        dag = activation.frame.plan.dag
        capability = dag.attributes.get(activation.slot, {}).get("capability")
        if capability is not None and capability in self.capabilities.abandoned():
            self.abandoned.append(dag.names[activation.slot])
        super().stopped(worker, activation)
