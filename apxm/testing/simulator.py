"""Drives a run by hand, one queue step at a time, in an order that a seed or a search chooses. No loop, no threads, no time.

The run is the engine's own: frames, lanes, leases, stealing, closing. Only what asks a clock or a loop is replaced: a
handler that suspends is a coroutine which goes on at some later step, and which of several waits ends next is a choice
like any other, as their lengths are random in the engine, too.
After every step the invariants of the scheduler are checked. Stealing is freer than in the engine, where only a
suspended worker is robbed: whatever holds here holds there.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.budget import Ledger
from apxm.capability.grants import Grants
from apxm.config import RunOptions, SchedulerConfig
from apxm.engine.agents import Agents
from apxm.engine.binding import Binder
from apxm.engine.fire import Crew, Firer
from apxm.engine.parameters import arguments_of
from apxm.errors import ApxmError, CapabilityError, InternalError, RunCancelled
from apxm.scheduler.binding import ASYNC
from apxm.scheduler.dataflow import EMPTY
from apxm.scheduler.invariants import check
from apxm.testing.compare import Observed, observe

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from apxm.capability.system import CapabilitySystem
    from apxm.dag import ExecutionDag
    from apxm.observability.events import Event
    from apxm.runtime import Runtime
    from apxm.scheduler.binding import Binding
    from apxm.scheduler.splicing import Activation

Choose: TypeAlias = Callable[[int], int]  # how many ways there are -> which one is taken
Move: TypeAlias = tuple[Callable[..., None], tuple[Any, ...]]  # what happens, to which worker (and victim), or which wait ends
STEPS_MAX = 200_000  # far beyond any program of the generator; a run that needs more does not end


def _first(ways: int) -> int:
    return 0


class _Calls:
    """Capabilities called on the spot: no threads, no processes, no timeouts."""

    async def call(self, record: Any, args: Sequence[Any], kwargs: dict[str, Any], **limits: Any) -> Any:
        try:
            value = record.fn(*args, **kwargs)
            return record.confirm(await value if inspect.isawaitable(value) else value)
        except ApxmError as error:
            error.called = True
            raise
        except Exception as error:
            raise CapabilityError(f"capability `{record.name}` raised {type(error).__name__}: {error}") from error


class _Sleeps:
    """What `asyncio.sleep` needs of a loop: timers, which the simulation lets end one by one."""

    def __init__(self, run: Simulation) -> None:
        self.run, self.timers = run, list[asyncio.TimerHandle]()

    def time(self) -> float:
        return self.run.now

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.run.now + delay, callback, args, self, context)  # type: ignore[arg-type]
        self.timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle in self.timers:
            self.timers.remove(handle)

    def end(self, timer: asyncio.TimerHandle) -> None:
        """The wait of this timer is over."""
        self.timers.remove(timer)
        timer._run()


class _Capabilities:
    """The capabilities of a runtime, called here and now."""

    calls = _Calls()

    def __init__(self, system: CapabilitySystem) -> None:
        self._system = system

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def abandoned(self) -> list[str]:
        """Nothing here runs on a thread that could stay behind."""
        return []


class Simulation(Firer):
    """One run, stepped by hand."""

    def __init__(
        self, binding: Binding, args: list[Any], runtime: Runtime, options: RunOptions, workers: int, agents: Agents
    ) -> None:
        self.now = 0.0
        super().__init__(
            binding,
            args,
            run_id="simulated",
            config=SchedulerConfig(max_parallelism=workers),
            options=options,
            ledger=Ledger(options.budget),
            models=runtime.models,
            capabilities=_Capabilities(runtime.capability_system()),  # type: ignore[arg-type]
            memories=runtime.memory,
            static=True,
            agents=agents,
            clock=lambda: self.now,
        )
        self.steps = 0
        self._choose: Choose = _first
        self.checked = True  # look at the invariants after every step
        self.cancel_at: int | None = None  # cancel the run before this step
        self.open: dict[int, Coroutine[Any, Any, None]] = {}  # what a suspended worker waits with
        self.asleep: dict[int, asyncio.Future[Any]] = {}  # what must be done before it goes on
        self.sleeps = _Sleeps(self)
        self.interrupted: set[int] = set()
        self.steals = 0
        self.preemptions: int | None = None  # how many there may still be; None: any number
        self.last = 0  # the worker that moved last
        self.due: dict[Activation, float] = {}
        self._crews = [Crew(self.workers[0])]
        while len(self._crews) < workers:
            self.workers.append(type(self.workers[0])(len(self.workers)))
            self._crews.append(Crew(self.workers[-1]))

    def give_way(self) -> bool:
        """Now and then a loop of frames, or a static frame, lets others run before it goes on."""
        return self.shared_loop and self._choose(4) == 3

    # ---- what asks a loop in the engine ------------------------------------------------------------------------------
    def interrupt(self, activation: Activation) -> None:
        if isinstance(activation.handle, Crew) and activation.handle.current is activation:
            self.interrupted.add(activation.handle.worker.id)

    def park(self, activation: Activation, seconds: float) -> None:
        self.due[activation] = self.now + seconds

    def unpark(self, activation: Activation) -> None:
        self.due.pop(activation, None)

    def share_work(self, worker: Any) -> None:
        """Nobody has to be woken: every worker looks for work at every step."""

    # ---- steps -------------------------------------------------------------------------------------------------------
    def moves(self) -> list[Move]:
        """Everything that could happen next."""
        found: list[Move] = []
        for number, worker in enumerate(self.workers):
            if number in self.open:
                if number in self.interrupted or number not in self.asleep or self.asleep[number].done():
                    found.append((self._resume, (number,)))
                continue
            if worker.has_work():
                found.append((self._run_next, (number,)))
            else:
                rich = [victim for victim in range(len(self.workers)) if victim != number and self.workers[victim].has_work()]
                found += [(self._rob, (number, victim)) for victim in rich]
        if (self.due or self.sleeps.timers) and (not found or self.steps % 7 == 0):
            found += [(self._end_wait, (activation,)) for activation in self.due]
            found += [(self._end_sleep, (timer,)) for timer in self.sleeps.timers]
        return found

    def _bounded(self, moves: list[Move]) -> list[Move]:
        """Only moves of the worker that moved last, if it can go on and may not be preempted any more."""
        own = [move for move in moves if move[1][:1] == (self.last,)]
        return own if own and not self.preemptions else moves

    def _count(self, moves: list[Move], args: tuple[Any, ...]) -> None:
        """A preemption is a move of another worker while the last one could have gone on (Musuvathi & Qadeer, 2007)."""
        assert self.preemptions is not None
        if args and args[0] != self.last:
            self.preemptions -= any(other[:1] == (self.last,) for _, other in moves)
        if args and isinstance(args[0], int):
            self.last = args[0]

    def _run_next(self, number: int) -> None:
        """The worker takes its newest job, or one node of its newest batch."""
        worker, crew = self.workers[number], self._crews[number]
        self.credit = self.quota = 1
        job = worker.pop()
        if job is None:
            self.batch(worker)
            return
        frame, slot = job
        if slot >= 0 and frame.binding.kinds[slot] == ASYNC:
            self.open[number] = self.fire_async(crew, frame, slot)
            self._resume(number)
        else:
            self.fire(worker, frame, slot)

    def _resume(self, number: int) -> None:
        """A suspended handler goes on to its next suspension, or to its end."""
        coroutine = self.open[number]
        self.asleep.pop(number, None)
        try:
            if number in self.interrupted:
                self.interrupted.discard(number)
                waits_for = coroutine.throw(asyncio.CancelledError())
            else:
                waits_for = coroutine.send(None)
        except StopIteration:
            del self.open[number]
        else:
            if isinstance(waits_for, asyncio.Future):
                self.asleep[number] = waits_for

    def _rob(self, thief: int, victim: int) -> None:
        """A worker steals, and fires what it stole before anybody robs it in turn, as in the engine."""
        self.steals += 1
        self.workers[victim].steal_into(self.workers[thief])
        if self.checked:
            check(self)
        self._run_next(thief)

    def _end_wait(self, activation: Activation) -> None:
        """The wait of a parked activation ends."""
        self.now = max(self.now, self.due.pop(activation))
        self.wake(activation)

    def _end_sleep(self, timer: asyncio.TimerHandle) -> None:
        """The sleep of a handler ends."""
        self.now = max(self.now, timer.when())
        self.sleeps.end(timer)

    def wake(self, activation: Activation) -> None:
        """A wait is over: its slot is ready again."""
        frame, slot = activation.frame, activation.slot
        self.workers[slot % len(self.workers)].push(frame.binding.lanes[slot], frame, slot)

    def simulate(self, choose: Choose) -> None:
        """Step until the run is over."""
        self._choose = choose
        asyncio._set_running_loop(self.sleeps)  # type: ignore[arg-type]
        try:
            self._step_to_the_end(choose)
        finally:
            asyncio._set_running_loop(None)
        self.release()

    def _step_to_the_end(self, choose: Choose) -> None:
        self._begin()
        while not self.over:
            if self.steps == self.cancel_at:
                self.abort(self.workers[0], RunCancelled("cancelled by the simulator"))
            self.steps += 1
            assert self.steps < STEPS_MAX, f"the run does not end within {STEPS_MAX} steps"
            if self.over:
                break
            moves = self.moves()
            if not moves:
                self._stuck()
                continue
            if self.preemptions is not None:
                moves = self._bounded(moves)
            move, args = moves[choose(len(moves)) if len(moves) > 1 else 0]
            if self.preemptions is not None:
                self._count(moves, args)
            move(*args)
            if self.checked and not self.over:
                check(self)

    def _begin(self) -> None:
        worker, root = self.workers[0], self.root
        if not (root.binding.static and self.replay):
            self.start(worker, root)
        elif self.run_static(worker, root):
            self._frame_over(worker, root)

    def _stuck(self) -> None:
        """Nothing can happen any more: the run says so, or it is a bug of ours."""
        error = self.stuck()
        if self.root.closing is not None:
            raise InternalError(f"a run that closes has nothing left to wait for: {error}") from error
        self.abort(self.workers[0], error)

    def left_behind(self) -> list[str]:
        """What must not be there after a run: suspended handlers, waits, live frames, work of live frames."""
        found = [f"worker {number} still waits with a handler" for number in self.open]
        found += [f"a wait of slot {activation.slot} at {activation.frame.path()}" for activation in self.due]
        found += ["a handler that sleeps" for _ in self.sleeps.timers]
        if self.live_frames:
            found.append(f"{self.live_frames} live frames")
        for worker in self.workers:
            for lane in worker.lanes:
                found += [f"job {slot} of {frame.path()}" for frame, slot in lane if not frame.gone and frame.v[slot] is EMPTY]
        return found


@dataclass(frozen=True, slots=True)
class Simulated:
    """How one simulated run ended. `branches`: how many ways there were at each step that had several."""

    seen: Observed
    run: Simulation


class Simulator:
    """Simulates runs of one dag again and again. `runtime` has its capabilities, models and memory; it runs nothing.

    `before` is called before each run, for what capabilities remember.
    """

    def __init__(
        self,
        runtime: Runtime,
        dag: ExecutionDag,
        parameters: dict[str, Any],
        options: RunOptions | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.runtime, self.options, self.before = runtime, options or RunOptions(), before
        self.dag, self.parameters = dag, parameters
        self.agents = Agents(runtime.flow_registry().snapshot(), Grants.parse(self.options.grants), runtime.granted())
        self.binding = Binder(runtime.capability_system(), runtime.models, self.agents, 64).bind(dag)

    def run(
        self,
        choose: Choose | int,
        *,
        workers: int = 3,
        watched: bool = True,
        checked: bool = True,
        cancel_at: int | None = None,
        gives_way: bool = True,
        preemptions: int | None = None,
        kind: type[Simulation] = Simulation,
    ) -> Simulated:
        """One run; `choose` is a function, or a seed.

        `watched` follows every node, which takes the slower ways of the engine; `gives_way` lets what opens frame after
        frame step back at any of them, as the engine does by the clock. `preemptions` bounds how often another worker
        may move while the one that moved last could go on.
        """
        if self.before is not None:
            self.before()
        if isinstance(choose, int):
            choose = random.Random(choose).randrange
        args = arguments_of(self.dag, self.parameters, {})
        run = kind(self.binding, args, self.runtime, self.options, workers, self.agents)
        run.cancel_at, run.checked, run.shared_loop, run.preemptions = cancel_at, checked, gives_way, preemptions
        trace: list[Event] = []
        if watched:
            run.watch(trace.append)
        run.simulate(choose)
        value = run.root.value()
        seen = observe(trace, outputs=run.root.outputs(), value=None if value is EMPTY else value, error=run.error)
        return Simulated(seen, run)

    def every_run(self, *, limit: int, **how: Any) -> Iterator[Simulated]:
        """Every schedule there is, at most `limit` of them, depth first; without `gives_way`, unless `how` asks for it."""
        prefix: list[int] = []
        for _ in range(limit):
            taken: list[tuple[int, int]] = []  # choice, ways

            def choose(ways: int, prefix: list[int] = prefix, taken: list[tuple[int, int]] = taken) -> int:
                choice = prefix[len(taken)] if len(taken) < len(prefix) else 0
                taken.append((choice, ways))
                return choice

            yield self.run(choose, **{"gives_way": False, **how})
            while taken and taken[-1][0] + 1 == taken[-1][1]:
                taken.pop()
            if not taken:
                return
            prefix = [choice for choice, _ in taken]
            prefix[-1] += 1
