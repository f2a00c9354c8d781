"""What a frame is: the tokens and counts of one activation of a plan, and the firing rules. Pure: no clock, no I/O.

A token is not an object. Its value is `v[slot]`, its liveness is `v[slot] is DEAD`, its labels are derived on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.dag import CONTROL, DATA, EFFECT
from apxm.scheduler.plan import ALL, GATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apxm.labels import LabelTable
    from apxm.observability.events import Path
    from apxm.outcome import Step
    from apxm.scheduler.binding import Binding
    from apxm.scheduler.closing import Then
    from apxm.scheduler.splicing import Activation


class Mark:
    """A value that no token can carry."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


EMPTY, DEAD = Mark("EMPTY"), Mark("DEAD")  # not there yet; this path was not taken
FAILED, CANCELLED = "failed", "cancelled"
USER = "user"  # the provenance of what the caller of a run gives
GIVEN, TAINT = -1, -2  # among the labels that a frame notes: of its parameters, and of who made its plan


class Choice:
    """What an ANY or RACE node has seen so far: it fires once one live value and all its gates are there."""

    __slots__ = ("barred", "fired", "gates", "winner")

    def __init__(self, gates: int, winner: int) -> None:
        self.gates = gates  # Control and Effect tokens still to come
        self.winner = winner  # position of the first live Data in-edge, -1 while there is none
        self.fired = False
        self.barred = False  # a dead Control token came: it will be skipped


class Closing:
    """Why a frame takes no more work, and what happens once nothing of it runs. `soft`: ready effects still finish."""

    __slots__ = ("soft", "then")

    def __init__(self, soft: bool, then: Then) -> None:
        self.soft, self.then = soft, then


class Frame:
    """One activation of one binding.

    `v` holds the parameters first. A frame in *static* form has `left is None` and as many entries in `v` as slots are
    done; `dataflow` brings it into the form with one entry for every slot and a count of tokens still to come in `left`.
    """

    __slots__ = (
        "activation",
        "binding",
        "choices",
        "closing",
        "dead",
        "depth",
        "ended",
        "fast",
        "giver",
        "gone",
        "index",
        "known",
        "left",
        "node",
        "own",
        "plan",
        "returned",
        "running",
        "step",
        "todo",
        "up",
        "v",
    )
    known: dict[int, int]  # labels that were asked for and cannot change any more; the first question makes it

    def __init__(
        self,
        binding: Binding,
        args: list[Any],
        up: Frame | None = None,
        node: int = -1,
        step: Step = "",
        activation: Activation | None = None,
    ) -> None:
        self.binding = binding
        plan = self.plan = binding.plan
        self.v = args
        self.left: list[int] | None = None
        self.fast: bytes | bytearray = binding.fast
        self.todo = plan.size - plan.parameters
        self.up, self.node, self.step, self.activation = up, node, step, activation
        self.depth: int = up.depth + 1 if up is not None else 0
        self.index = 0
        self.gone = False
        self.dead: dict[int, set[int]] | None = None  # slot -> positions of dead in-edges (GATE for Control)
        self.choices: dict[int, Choice] | None = None
        self.ended: dict[int, str] | None = None  # why a dead slot is dead, when it was not skipped
        self.running: dict[int, Activation | Frame] | None = None  # what suspended, waits or has child frames
        self.own: dict[int, int] | None = None  # labels that child frames brought home, and that handlers owe
        self.closing: Closing | None = None
        self.returned: tuple[str, Any] | None = None  # name and value of the RETURN that ended this flow
        self.giver: tuple[Frame, int] | None = None  # where that RETURN stands: here, or in a region

    # ---- forms ---------------------------------------------------------------------------------------------------
    def dataflow(self) -> list[int]:
        """Bring the frame into dataflow form; gives the slots that are ready (ANY and RACE nodes included)."""
        plan, v = self.plan, self.v
        plan.link()
        done = len(v)
        left = self.left = plan.indegree.copy()
        v += [EMPTY] * (plan.size - done)
        if done > plan.parameters:
            for slot in range(plan.parameters, done):
                for target in plan.successors[slot]:
                    left[target] -= 1
            ready = [slot for slot in range(plan.size - 1, done - 1, -1) if not left[slot]]
        else:
            ready = plan.roots.copy()
        if plan.choosers:
            self.choices = {}
            for slot in plan.choosers:
                choice = self.choices[slot] = self._first_choice(slot)
                if choice.winner >= 0 and not choice.gates:
                    choice.fired = True
                    ready.append(slot)
        return ready

    def _first_choice(self, slot: int) -> Choice:
        """Tokens of parameters are there from the start."""
        gates, winner = 0, -1
        for edge in self.plan.dag.in_edges(slot):
            if edge.kind == DATA and edge.source < self.plan.parameters and winner < 0:
                winner = edge.position
            elif edge.kind != DATA and edge.source >= self.plan.parameters:
                gates += 1
        return Choice(gates, winner)

    # ---- firing rules --------------------------------------------------------------------------------------------
    def doom(self, slot: int, position: int) -> None:
        """A dead token arrived: from now on the slot is decided by the full rules, in this frame only."""
        if self.dead is None:
            self.dead = {}
            self.fast = bytearray(self.fast)
        self.dead.setdefault(slot, set()).add(position)
        self.fast[slot] = 0  # type: ignore[index]

    def doomed(self, slot: int) -> bool:
        """All tokens of an ALL or COLLECT slot arrived, some dead: is it skipped?"""
        dead = self.dead.get(slot) if self.dead is not None else None
        if not dead:
            return False
        if GATE in dead or self.plan.rules[slot] == ALL:
            return True
        return len(dead) == len(self.plan.sources(slot))

    def arguments(self, slot: int) -> Any:
        """The live inputs of a slot that fires, in argument order."""
        if self.choices is not None and slot in self.choices:
            return (self.v[self.plan.sources(slot)[self.choices[slot].winner]],)
        if self.dead is not None and slot in self.dead:
            dead, v = self.dead[slot], self.v
            return [v[source] for place, source in enumerate(self.plan.sources(slot)) if place not in dead]
        return self.plan.getters[slot](self.v)

    def is_ready(self, slot: int) -> bool:
        """Every token it waits for arrived, and it has not ended."""
        if self.left is None or self.v[slot] is not EMPTY:
            return False
        if self.choices is not None and slot in self.choices:
            return self.choices[slot].fired
        return not self.left[slot] and not self.doomed(slot)

    # ---- results -------------------------------------------------------------------------------------------------
    def status(self, slot: int) -> str:
        """done, skipped, failed, cancelled, running or pending."""
        value = self.v[slot] if slot < len(self.v) else EMPTY
        if value is EMPTY:
            return "running" if self.running and slot in self.running else "pending"
        why = self.ended.get(slot) if self.ended is not None else None
        return why or ("skipped" if value is DEAD else "done")

    def is_live(self, slot: int) -> bool:
        return (
            slot < len(self.v)
            and self.v[slot] is not DEAD
            and self.v[slot] is not EMPTY
            and not (self.ended is not None and slot in self.ended)
        )

    def outputs(self) -> dict[str, Any]:
        """Exit name -> value, for live exits."""
        names = self.plan.dag.names
        if self.returned is not None:
            return {self.returned[0]: self.returned[1]}
        return {names[slot]: self.v[slot] for slot in self.plan.dag.exits if self.is_live(slot)}

    def live_values(self) -> list[int]:
        """The slots that give this frame its value: live RETURNs, else live YIELDs, else live exits."""
        for slots in (self.plan.returns, self.plan.yields):
            live = [slot for slot in slots if self.is_live(slot)]
            if live:
                return live
        return [slot for slot in self.plan.dag.exits if self.is_live(slot)]

    def value(self) -> Any:
        """RETURN's or YIELD's value, else that of the only live exit, else EMPTY."""
        if self.returned is not None:
            return self.returned[1]
        live = self.live_values()
        return self.v[live[0]] if len(live) == 1 else EMPTY

    def result(self) -> Any:
        """What the parent gets: `value`, else the map of outputs."""
        value = self.value()
        return self.outputs() if value is EMPTY else value

    def path(self) -> Path:
        """(authored id of the opening node, step) from the root down."""
        found: list[tuple[int, Step]] = []
        frame: Frame | None = self
        while frame is not None and frame.up is not None:
            found.append((frame.up.plan.dag.ids[frame.node], frame.step))
            frame = frame.up
        return tuple(reversed(found))

    # ---- labels --------------------------------------------------------------------------------------------------
    def labels(self, slot: int, table: LabelTable, *, inherited: bool = True) -> int:
        """Provenance of the value of a slot, as bits: its own source joined with that of everything that led to it.

        Without `inherited` the parameters of the frame add nothing. However often is asked, what led to a slot that ended
        is looked at once.
        """
        return self._joined_labels([slot], table, inherited)

    def _joined_labels(self, slots: Iterable[int], table: LabelTable, inherited: bool = True) -> int:
        """As `labels`, of several slots together."""
        made = [self._made(slot, table) for slot in slots]
        found = 0
        for one in made:
            found |= one
        if not inherited or not made:
            return found >> 1
        above = self._above(table)
        return found >> 1 | above[TAINT] | (above[GIVEN] if found & 1 else 0)

    def _made(self, slot: int, table: LabelTable) -> int:
        """What this frame itself brought to the value of a slot: the labels times two, plus one if a parameter led to it.

        Once a slot ended, nothing that led to its value changes any more, so that is noted; of what still runs nothing is.
        """
        first, known = self.plan.parameters, self._notes()
        if slot < first:
            return 1
        if slot in known:
            return known[slot]
        sources: dict[int, list[int]] = {}
        todo = [slot]
        while todo:
            here = todo.pop()
            if here not in sources:
                sources[here] = list(self._led_from(here))
                todo += [source for source in sources[here] if source >= first and source not in known]
        passing: dict[int, int] = {}
        found = 0
        for here in sorted(sources):  # sources come before what they lead to
            found, ended = self._added(here, table) << 1, here < len(self.v) and self.v[here] is not EMPTY
            for source in sources[here]:
                if source < first:
                    found |= 1
                elif source in known:
                    found |= known[source]
                else:
                    found, ended = found | passing[source], False
            (known if ended else passing)[here] = found
        return found

    def _added(self, slot: int, table: LabelTable) -> int:
        """What a slot adds: the source that it is, and what was brought to it."""
        name = self.binding.labels.get(slot)
        brought = self.own.get(slot, 0) if self.own is not None else 0
        return brought if name is None else brought | table.bit(name)

    def _above(self, table: LabelTable) -> dict[int, int]:
        """The notes of this frame with GIVEN and TAINT in them: what its opener had when this frame was first asked.

        What a child frame was given does not change while it lives; what later ones are given may be more.
        """
        asked: list[Frame] = []
        frame: Frame | None = self
        while frame is not None and GIVEN not in frame._notes():
            asked.append(frame)
            frame = frame.up
        for frame in reversed(asked):  # outermost first, so that no question goes further up than one frame
            known, up = frame.known, frame.up
            if up is None:
                known[TAINT], known[GIVEN] = 0, table.bit(USER)
                continue
            given = up.given_labels(frame.node, frame.step, table)
            name = up.binding.labels.get(frame.node)
            known[TAINT] = up._above(table)[TAINT] | (0 if name is None else table.bit(name) | given)
            known[GIVEN] = given
        return self.known

    def _notes(self) -> dict[int, int]:
        try:
            return self.known
        except AttributeError:
            self.known = {}
            return self.known

    def bring(self, slot: int, labels: int) -> None:
        """Join the provenance of a slot with labels.

        If it has ended, that is for a failure of what it left behind: what it gave to others before knows nothing of this.
        """
        if self.own is None:
            self.own = {}
        self.own[slot] = self.own.get(slot, 0) | labels
        self._notes().pop(slot, None)

    def taint(self, table: LabelTable) -> int:
        """What everything in this frame owes to whoever made its plan: the source of each opener above that has one.

        And what that one was given: a model may write into its plan whatever it has read.
        """
        return self._above(table)[TAINT] if self.up is not None else 0

    def value_labels(self, table: LabelTable, *, inherited: bool = True) -> int:
        """Provenance of what this frame gives its parent."""
        if self.giver is not None:
            frame, slot = self.giver
            return frame.labels(slot, table, inherited=inherited or frame is not self)
        return self._joined_labels(self.live_values(), table, inherited)

    def given_labels(self, slot: int, step: Step, table: LabelTable) -> int:
        """Provenance of what a child frame is given: the inputs of the slot, and what frames before it brought home.

        An iteration may be given what the last one made, a catch what the try made, a reduce all items. The items of a MAP
        know nothing of each other.
        """
        found = self.input_labels(slot, table)
        if self.own is not None and not (isinstance(step, int) and self.plan.operation(slot) == "MAP"):
            found |= self.own.get(slot, 0)
        return found

    def input_labels(self, slot: int, table: LabelTable) -> int:
        """Provenance of what a slot is called with."""
        return self._joined_labels(self._led_from(slot), table)

    def _led_from(self, slot: int) -> Iterator[int]:
        """Sources of live tokens that carried a value or routed: Effect edges only order, so they taint nothing."""
        choice = self.choices.get(slot) if self.choices is not None else None
        dead = self.dead.get(slot, ()) if self.dead is not None else ()
        for edge in self.plan.dag.in_edges(slot):
            if edge.kind == EFFECT or (edge.kind == DATA and edge.position in dead):
                continue
            if edge.kind == CONTROL or choice is None or choice.winner == edge.position:
                yield edge.source
