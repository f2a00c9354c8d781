"""One random graph: tokens that may be consumed, and a maker that adds nodes. Knows nothing of how graphs are run.

A token remembers on which sides of which routers it is live, so that an ALL node never joins what excludes each other,
and a weight, so that values cannot grow without bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

Sides = Mapping[int, frozenset[str]]
TEXTS = ("int", "str", "case")  # kinds whose text is promised; error maps and what may hold them are not among them
_PARTS = ("try", "catch", "finally")  # what had another way from its TRY would be in no part of it
HEAVY = 60  # no node makes a value of more weight


@dataclass(frozen=True, slots=True)
class Token:
    """Something a node may consume: the value of a node, on an edge of that label, or of a parameter."""

    source: int | str
    kind: str = "any"  # int, str, case, list, fields, error, any: what to expect, not what is certain
    weight: int = 1
    label: str | None = None
    sides: Sides = field(default_factory=dict)


@dataclass(slots=True)
class Shared:
    """What all graphs of one program share."""

    rng: Random
    profile: str
    flows: list[tuple[str, str, list[str]]] = field(default_factory=list)  # agent, flow, parameters
    keys: int = 0  # memory keys used so far
    agent: str = "main"  # whose flow is being made


@dataclass(frozen=True, slots=True)
class Place:
    """Where a graph stands, and what it may therefore hold."""

    depth: int = 0
    once: bool = True  # its activation happens at most once, so that memory in it is deterministic
    calm: bool = False  # nothing in it may fail
    returns: list[int] = field(default_factory=lambda: [0])  # how many RETURNs may still be placed in this activation

    def inner(self, **changes: Any) -> Place:
        return replace(self, depth=self.depth + 1, **changes)


def both(one: Sides, other: Sides) -> Sides | None:
    """The sides on which both are live; None when there are none."""
    joined = dict(one)
    for router, labels in other.items():
        joined[router] = joined[router] & labels if router in joined else labels
        if not joined[router]:
            return None
    return joined


def either(several: Sequence[Sides]) -> Sides:
    """The sides on which at least one is live."""
    common = set(several[0]).intersection(*several[1:]) if several else set()
    return {router: frozenset().union(*(sides[router] for sides in several)) for router in common}


class Maker:
    """Adds nodes and edges to one graph."""

    def __init__(self, shared: Shared, place: Place, parameters: Sequence[Token]) -> None:
        self.shared, self.place, self.rng = shared, place, shared.rng
        self.tokens: list[Token] = list(parameters)
        self.parameters = [str(token.source) for token in parameters]
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.exits: list[Any] | None = None
        self.ended: set[int] = set()  # RETURNs and YIELDs: nothing may follow them
        self.inside: set[int] = set()  # nodes of loops and TRYs that are written as several nodes: no exits
        self.mentions: list[tuple[int | str, int]] = []  # edges that only texts imply
        self._ids = shared.rng.sample(range(1, 400), 120)

    # ---- choosing ------------------------------------------------------------------------------------------------
    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, sides: Sides | None = None, kinds: Sequence[str] = (), weight: int = HEAVY) -> Token | None:
        """A random token that fits, newer ones more often; None when none was found."""
        sides = sides or {}
        for _ in range(8):
            if not self.tokens:
                return None
            recent = self.tokens[-6:] if self.chance(0.7) else self.tokens
            token = self.rng.choice(recent)
            if (kinds and token.kind not in kinds) or token.weight > weight or both(sides, token.sides) is None:
                continue
            if not kinds and token.kind == "error" and self.chance(0.7):
                continue
            return token
        return None

    def constant(self, kind: str = "") -> Any:
        """A random value of a kind."""
        kind = kind or self.rng.choice(["int", "int", "str", "list", "bool", "none"])
        if kind == "list":
            return [self.constant(self.rng.choice(["int", "str"])) for _ in range(self.rng.randrange(4))]
        if kind == "fields":
            return {"acc": self.rng.randrange(50), "other": self.rng.randrange(50)}
        choices: dict[str, Any] = {
            "int": self.rng.randrange(100),
            "str": self.rng.choice(["", "x", "alpha", "ß"]),
            "case": self.rng.choice("abc"),
            "bool": self.chance(0.5),
        }
        return choices.get(kind)

    def need(self, sides: Sides | None = None, kinds: Sequence[str] = (), weight: int = HEAVY) -> Token:
        """A token that fits; a new constant when there is none."""
        found = self.pick(sides, kinds, weight)
        if found is not None:
            return found
        kind = self.rng.choice(list(kinds)) if kinds else "int"
        value = self.constant("int" if kind in ("any", "error") else kind)
        return self.add("CONST_STR", {"value": value}, kind=kind if kind != "error" else "int", weight=4 if kind == "list" else 1)

    # ---- adding --------------------------------------------------------------------------------------------------
    def new_id(self) -> int:
        return self._ids.pop()

    def link(self, token: Token, target: int, dependency: str = "Data", port: str | None = None) -> None:
        """An edge that carries a token."""
        edge: dict[str, Any] = {"from": token.source, "to": target, "dependency": dependency}
        if port is not None:
            edge["port"] = port
        if token.label is not None:
            edge["label"] = token.label
        self.edges.append(edge)

    def add(
        self,
        op: str,
        attributes: Mapping[str, Any] | None = None,
        data: Sequence[tuple[Token, str | None]] = (),
        *,
        kind: str = "any",
        weight: int = 1,
        regions: Mapping[str, Any] | None = None,
        joins: bool = False,
        implied: Sequence[Token] = (),
        control: Sequence[Token] = (),
        node_id: int | None = None,
        gates: bool = True,
    ) -> Token:
        """A node with its in-edges; its value is a new token. `joins`: one live input is enough; `implied`: edges of texts."""
        node_id = self.new_id() if node_id is None else node_id
        sides = self._sides([token for token, _ in data] + list(implied), control, joins)
        made: dict[str, Any] = {"id": node_id, "name": f"n{node_id}", "op": op, "attributes": dict(attributes or {})}
        if regions:
            made["regions"] = dict(regions)
        self.nodes.append(made)
        self.mentions += [(token.source, node_id) for token in implied]
        for token, port in data:
            self.link(token, node_id, port=port)
        for token in control:
            self.link(token, node_id, "Control")
        if gates and op not in ("RETURN", "YIELD"):
            sides = self._gates(node_id, sides)
        token = Token(node_id, kind, min(weight, HEAVY + 4), None, sides)
        if op in ("RETURN", "YIELD"):
            self.ended.add(node_id)
        else:
            self.tokens.append(token)
        return token

    def _sides(self, data: Sequence[Token], control: Sequence[Token], joins: bool) -> Sides:
        sides: Sides = either([token.sides for token in data]) if joins else {}
        for token in (*(() if joins else data), *control):
            together = both(sides, token.sides)
            sides = together if together is not None else sides
        return sides

    def _gates(self, node_id: int, sides: Sides) -> Sides:
        """Now and then an additional Control or Effect edge from something that is there."""
        if self.chance(0.08) and (token := self.pick(sides)) is not None and token.source not in (node_id, *self.parameters):
            self.link(token, node_id, "Control")
            sides = both(sides, token.sides) or sides
        token = self.pick() if self.chance(0.08) else None
        if token is not None and token.source not in (node_id, *self.parameters) and token.label not in _PARTS:
            self.link(replace(token, label=None), node_id, "Effect")
        return sides

    def route(self, token: Token, labels: Sequence[str], *, kind: str, weight: int, plain: float = 0.15) -> None:
        """Replace the token of a router by one for each label; sometimes keep the unlabelled one as well."""
        router = token.source
        assert isinstance(router, int)
        self.tokens.remove(token)
        every = frozenset(labels)
        if self.chance(plain):
            self.tokens.append(replace(token, sides={**token.sides, router: every}))
        for label in labels:
            self.tokens.append(Token(router, kind, weight, label, {**token.sides, router: frozenset((label,))}))

    def fallible(self, token: Token, caught: float = 0.6) -> None:
        """Decide what a failure of a node does: a fallback, an error edge, or nothing."""
        node = next(node for node in reversed(self.nodes) if node["id"] == token.source)
        roll = self.rng.random()
        if roll < caught / 2:
            node["attributes"]["fallback"] = self.constant(token.kind if token.kind in (*TEXTS, "list", "fields") else "")
        elif roll < caught:
            self.split_error(token)

    def split_error(self, token: Token) -> None:
        """Give a node an `error` out-edge: from now on its value is live only when it did not fail."""
        node_id = token.source
        assert isinstance(node_id, int)
        self.tokens.remove(token)
        self.tokens.append(replace(token, sides={**token.sides, node_id: frozenset(("ok",))}))
        failed = Token(node_id, "error", 4, "error", {**token.sides, node_id: frozenset(("error",))})
        reader = self.add("INV", {"capability": "blame"}, [(failed, None)], kind="str", gates=False)
        assert reader.sides
        if self.chance(0.4):
            self.tokens.append(failed)

    def behind(self, starts: Iterable[int]) -> set[int]:
        """These nodes and every node that an edge or a text leads to from them."""
        ways = [(edge["from"], edge["to"]) for edge in self.edges] + self.mentions
        found = set(starts)
        while more := {target for source, target in ways if source in found} - found:
            found |= more
        return found

    # ---- the graph -------------------------------------------------------------------------------------------------
    def graph(self, name: str) -> dict[str, Any]:
        """The graph in the JSON contract, nodes in random order."""
        order = list(self.nodes)
        self.rng.shuffle(order)
        made: dict[str, Any] = {"name": name, "nodes": order, "edges": self._mixed_edges()}
        if self.parameters:
            made["parameters"] = [{"name": one, "type_name": "json"} for one in self.parameters]
        if self.exits is not None:
            made["metadata"] = {"exits": self.exits}
        return made

    def _mixed_edges(self) -> list[dict[str, Any]]:
        """Edges in random order, except that those into one node keep theirs: it is the order of its arguments."""
        places: dict[int, list[dict[str, Any]]] = {}
        for edge in self.edges:
            places.setdefault(edge["to"], []).append(edge)
        targets = [edge["to"] for edge in self.edges]
        self.rng.shuffle(targets)
        return [places[target].pop(0) for target in targets]
