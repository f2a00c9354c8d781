"""Random trees of timeouts under a deadline, and when each must end: by a rule of a few lines, in virtual time.

A limit that passes first ends what it stands around, and nothing else: of nested limits the smallest counts. Waits are
of a random length, so that no two of them end in the same moment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

from apxm.config import RunOptions
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.runtime import Runtime
from apxm.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCOPES = ("TRY_CATCH", "LOOP", "SWITCH", "MAP", "FLOW_CALL")
DOZE_MS = 400_000_001
NEAR_S = 1e-6  # floats are added in another order in the engine


@dataclass(slots=True)
class Limited:
    """One node with a limit: a wait of `seconds`, or a scope of an operation around others, one by one or all at once."""

    id: int
    op: str
    timeout_ms: int | None
    seconds: float = 0.0
    fallback: bool = False
    inside: list[Limited] = field(default_factory=list)
    at_once: bool = False
    dozes: bool = False  # waits by a capability that has a limit of its own

    @property
    def name(self) -> str:
        return f"n{self.id}"


@dataclass(frozen=True, slots=True)
class End:
    """When something is over, and whose limit ended it: "" for nobody's, "run" for that of the run."""

    at: float
    by: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """A program that is one chain or bundle of limited nodes, and the deadline of its run."""

    seed: int
    inside: list[Limited]
    at_once: bool
    deadline_s: float | None

    def end(self) -> End:
        """How the run must end, by the rule."""
        deadline = inf if self.deadline_s is None else self.deadline_s
        end = _together(self.inside, 0.0, deadline, self.at_once)
        return end if end.at < deadline else End(deadline, "run", "deadline")


def generate(seed: int) -> Tree:
    """The tree of a seed: the same every time."""
    rng = random.Random(f"apxm deadlines {seed}")
    ids, dozer = iter(range(1, 10_000)), iter((True,))  # two with the same limit could end in the same moment
    inside = [_node(rng, ids, dozer, 0) for _ in range(rng.choice([1, 1, 2, 3]))]
    return Tree(seed, inside, rng.random() < 0.4, _ms(rng) * 3 / 1e3 if rng.random() < 0.5 else None)


def _ms(rng: random.Random) -> int:
    return rng.randrange(1, 10**9)  # up to twelve days; so many that two limits never end in the same moment


def _node(rng: random.Random, ids: Iterator[int], dozer: Iterator[bool], depth: int) -> Limited:
    limit = _ms(rng) if rng.random() < 0.6 else None
    fallback = rng.random() < 0.25
    if depth == 4 or rng.random() < 0.35:
        seconds = _ms(rng) / 1e3 + rng.random() / 1e3
        return Limited(next(ids), "INV", limit, seconds, fallback, dozes=rng.random() < 0.5 and next(dozer, False))
    number = next(ids)
    inside = [_node(rng, ids, dozer, depth + 1) for _ in range(rng.choice([1, 1, 2, 3]))]
    return Limited(number, rng.choice(SCOPES), limit, 0.0, fallback, inside, rng.random() < 0.5)


# ---- the rule -------------------------------------------------------------------------------------------------------------
def _together(nodes: Sequence[Limited], start: float, limit: float, at_once: bool) -> End:
    """Nodes that start together, or each when the one before is over; the first failure ends them all."""
    if at_once:
        ends = [_ending(node, start, limit) for node in nodes]
        failed = [end for end in ends if end.by]
        return min(failed, key=lambda end: end.at) if failed else max(ends, key=lambda end: end.at)
    end = End(start)
    for node in nodes:
        end = _ending(node, end.at, limit)
        if end.by or end.at >= limit:
            break
    return end


def _ending(node: Limited, start: float, limit: float) -> End:
    """When a node that starts then is over, if nothing around it ends it at `limit`."""
    own = inf if node.timeout_ms is None else start + node.timeout_ms / 1e3
    if node.inside:
        end, code = _together(node.inside, start, min(own, limit), node.at_once), "deadline"
    else:
        end, code = End(start + node.seconds), "transient"
        own = min(own, start + DOZE_MS / 1e3) if node.dozes else own
    if own < limit and own <= end.at:
        end = End(own, node.name, code)
    return End(end.at) if node.fallback and end.at < limit else end


# ---- as a program -----------------------------------------------------------------------------------------------------------
def program(tree: Tree) -> dict[str, Any]:
    """The tree in the JSON contract. What a FLOW_CALL stands around is a flow of its own."""
    flows: list[dict[str, Any]] = []
    main = _graph("start", tree.inside, tree.at_once, flows)
    for flow in flows:
        flow["metadata"] = {"is_entry": False}
    return {"agents": [{"name": "main", "flows": [main, *flows]}]}


def _graph(name: str, nodes: Sequence[Limited], at_once: bool, flows: list[dict[str, Any]]) -> dict[str, Any]:
    made = [_as_node(node, flows) for node in nodes]
    feeds = [(feed, node["id"]) for node in made if (feed := node.pop("feed", None)) is not None]
    edges = [{"from": feed["id"], "to": target, "dependency": "Data"} for feed, target in feeds]
    if not at_once:
        edges += [{"from": a.id, "to": b.id, "dependency": "Control"} for a, b in pairwise(nodes)]
    return {"name": name, "nodes": [*made, *(feed for feed, _ in feeds)], "edges": edges}


def _as_node(node: Limited, flows: list[dict[str, Any]]) -> dict[str, Any]:
    attributes: dict[str, Any] = {} if node.timeout_ms is None else {"timeout_ms": node.timeout_ms}
    if node.fallback:
        attributes["fallback"] = "late"
    made: dict[str, Any] = {"id": node.id, "name": node.name, "op": node.op, "attributes": attributes}
    if node.op == "INV":
        attributes |= {"capability": "doze" if node.dozes else "nap", "arg_seconds": node.seconds, "retries": 0}
        return made
    name = f"flow{node.id}"
    graph = _graph(name, node.inside, node.at_once, flows)
    if node.op == "FLOW_CALL":
        flows.append(graph)
        attributes["flow_name"] = name
        return made
    region = {"TRY_CATCH": "try", "SWITCH": "x"}.get(node.op, "body")
    made["regions"] = {region: graph}
    if node.op == "LOOP":
        attributes["max_iterations"] = 1
    elif node.op in ("SWITCH", "MAP"):
        value: Any = "x" if node.op == "SWITCH" else [0]
        made["feed"] = {"id": 10_000 + node.id, "name": f"feed{node.id}", "op": "CONST_STR", "attributes": {"value": value}}
    return made


# ---- the engine against the rule ----------------------------------------------------------------------------------------------
class Timed:
    """A Runtime in virtual time, whose capabilities wait."""

    def __init__(self) -> None:
        import asyncio

        self.clock = VirtualClock()
        self.runtime = Runtime(clock=self.clock, loop_factory=self.clock.new_event_loop)

        @self.runtime.capability(effect="read", timeout_ms=None)
        async def nap(seconds: float) -> str:
            await asyncio.sleep(seconds)
            return "rested"

        self.runtime.capability("doze", effect="read", timeout_ms=DOZE_MS)(nap)

    def run(self, tree: Tree) -> End:
        """How the engine ends it."""
        began = self.clock()
        try:
            self.runtime.execute(from_json(program(tree)), run=RunOptions(deadline_s=tree.deadline_s))
        except ApxmError as error:
            return End(self.clock() - began, error.node or "run", error.code)
        return End(self.clock() - began)

    def why(self, tree: Tree) -> str | None:
        """Why a tree does not end as it must; None when it does."""
        wanted, got = tree.end(), self.run(tree)
        if (wanted.by, wanted.code) == (got.by, got.code) and abs(wanted.at - got.at) < NEAR_S * max(1.0, wanted.at):
            return None
        return f"{got}, expected {wanted}; again: `{command(tree.seed)}`"

    def close(self) -> None:
        self.runtime.close()


def why(seed: int) -> str | None:
    """Why the tree of a seed does not end as it must; None when it does."""
    timed = Timed()
    try:
        return timed.why(generate(seed))
    finally:
        timed.close()


def command(seed: int) -> str:
    """The command line that runs this tree again."""
    return f"python -m apxm.testing.check {seed} --deadlines"
