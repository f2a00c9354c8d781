"""Random loops and TRYs that are written as several nodes of one graph: LOOP_START and LOOP_END, and labelled ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from apxm.testing.making import HEAVY, Maker, Place, Token

Step = Callable[[Maker], None]


@contextmanager
def _apart(maker: Maker, entry: Token, place: Place) -> Iterator[None]:
    """Whatever is added meanwhile may consume `entry` and a few older tokens; its own tokens are gone afterwards."""
    tokens, outer = maker.tokens, maker.place
    maker.tokens = [*maker.rng.sample(tokens, min(len(tokens), 3)), entry]
    maker.place = place
    try:
        yield
    finally:
        maker.tokens, maker.place = tokens, outer


def paired(maker: Maker, steps: Sequence[Step]) -> None:
    """LOOP_START, a few of `steps` that nothing leaves, LOOP_END."""
    number = maker.new_id()
    attributes = {"loop": f"loop{number}", "max_iterations": maker.rng.choice([0, 1, 2, 3])}
    if maker.chance(0.2):
        attributes["while"] = maker.rng.choice(["< 700", "not_empty", "!= 3"])
    data: list[tuple[Token, str | None]] = [(maker.need(), None)] if maker.chance(0.85) else []
    if maker.chance(0.15):
        count = maker.need(data[0][0].sides if data else None, kinds=("int",))
        if not data or count.source != data[0][0].source:
            data.append((count, "count"))
    start = maker.add("LOOP_START", attributes, data, weight=HEAVY, node_id=number)
    maker.tokens.remove(start)
    with _apart(maker, start, replace(maker.place, once=False, returns=[0])):
        for _ in range(maker.rng.choice([1, 2, 3])):
            maker.rng.choice(steps)(maker)
        body = maker.behind([number])
        result = _joined(maker, start, body)
    until = {"until": maker.rng.choice(["> 500", "not_empty", "len >= 2", "is_null"])} if maker.chance(0.2) else {}
    end = maker.add("LOOP_END", {"loop": f"loop{number}", **until}, [(result, None)], weight=HEAVY, gates=False)
    maker.tokens[-1] = end = replace(end, sides=start.sides)
    maker.inside |= maker.behind([number]) - {int(end.source)}
    if not maker.place.calm:
        maker.fallible(end, caught=0.3)


def _joined(maker: Maker, start: Token, body: set[int]) -> Token:
    """One token that everything behind the LOOP_START leads to, so that nothing leaves the loop by another way."""
    followed = {edge["from"] for edge in maker.edges} | {source for source, _ in maker.mentions}
    ends = [one for one in sorted(body) if one not in followed]
    if ends == [start.source]:
        return start
    last = [next((t for t in maker.tokens if t.source == one and t.label is None), Token(one)) for one in ends]
    if len(last) == 1 and maker.chance(0.4):
        return last[0]
    array = maker.add("WAIT_ALL", {}, [(token, None) for token in last], joins=True, gates=False)
    return maker.add("INV", {"capability": "mix", "arg_b": 5}, [(array, "a")], kind="int", gates=False)


def parted(maker: Maker, steps: Sequence[Step]) -> None:
    """TRY_CATCH whose parts are what is behind its labelled ways."""
    first = maker.need()
    given: list[tuple[Token, str | None]] = [(first, None)]
    if maker.chance(0.3) and (other := maker.pick(first.sides)) is not None and other.source != first.source:
        given.append((other, None))
    head = maker.add("TRY_CATCH", {}, given, weight=HEAVY)
    maker.tokens.remove(head)
    meets = maker.chance(0.7)
    results = [_part(maker, replace(first, source=head.source, label="try", sides=head.sides), steps, left=meets)]
    if maker.chance(0.75):
        results.append(_part(maker, Token(head.source, "error", 4, "catch", head.sides), steps, left=meets))
    if maker.chance(0.3):
        last = replace(first, source=head.source, label="finally", sides=head.sides)
        calm = replace(maker.place, calm=maker.chance(0.9), returns=[0])
        _part(maker, last, steps, calm, left=False)
    leaving = [replace(one, sides=head.sides) for one in results if one is not None]
    if len(leaving) == 2:  # what is behind one way only would still belong to that part
        met = [(token, None) for token in leaving]
        maker.add("MERGE", {"mode": "any"}, met, weight=HEAVY, gates=False)
    else:
        for entry in [one for one in leaving if one.source == head.source]:
            _show(maker, replace(entry, sides={**head.sides, int(head.source): frozenset((str(entry.label),))}))
    maker.tokens.append(head)
    if not maker.place.calm:
        maker.fallible(head, caught=0.3)


def _part(maker: Maker, entry: Token, steps: Sequence[Step], place: Place | None = None, *, left: bool) -> Token | None:
    """One part: a few of `steps` behind a labelled way. Gives the token that it is left by, if `left` asks for one."""
    head, label = entry.source, entry.label
    assert isinstance(head, int)
    side = frozenset((str(label),))
    entry = replace(entry, sides={**entry.sides, head: side})
    if left and maker.chance(0.15):
        return entry  # a part without nodes
    with _apart(maker, entry, place or maker.place):
        for _ in range(maker.rng.choice([1, 2, 3])):
            maker.rng.choice(steps)(maker)
        ways = [edge["to"] for edge in maker.edges if edge["from"] == head and edge.get("label") == label]
        if not ways:
            if maker.chance(0.5):
                maker.add("PRINT", {}, [(entry, None)], kind=entry.kind, weight=entry.weight, gates=False)
            else:
                maker.add("CONST_STR", {"value": 3}, control=[entry], kind="int", gates=False)
            ways = [maker.nodes[-1]["id"]]
        members = maker.behind(ways)
        maker.inside |= members
        leaving = [token for token in maker.tokens if token.source in members and token.label is None]
        return maker.rng.choice(leaving) if leaving and left and maker.chance(0.8) else None


def _show(maker: Maker, entry: Token) -> None:
    """A part of one node."""
    maker.add("PRINT", {}, [(entry, None)], kind=entry.kind, weight=entry.weight, gates=False)
    maker.inside.add(maker.nodes[-1]["id"])
    maker.tokens.pop()
