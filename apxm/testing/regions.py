"""Random nodes that hold regions: SWITCH, LOOP, MAP, TRY_CATCH."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.testing.making import HEAVY, Maker, Place, Token, both

if TYPE_CHECKING:
    from collections.abc import Sequence

Fed = list[tuple[Token, str | None, str]]  # token, port, name of the region parameter it is meant for


def _inputs(maker: Maker, count: int, weight: int = HEAVY) -> Fed:
    """Tokens for the parameters x0, x1 ... of regions; some by name, some by position."""
    found: Fed = []
    sides: Any = {}
    for number in range(count):
        token = maker.pick(sides, weight=weight)
        if token is not None:
            found.append((token, f"x{number}" if maker.chance(0.6) else None, f"x{number}"))
            sides = {**sides, **token.sides}
    return found


def _declared(maker: Maker, fed: Fed, reserved: Sequence[Token], *, every: bool) -> list[Token]:
    """The parameters of one region: all inputs, or the positional ones and some of the others; reserved ones if it likes."""
    taken = [Token(name, token.kind, token.weight) for token, port, name in fed if every or port is None or maker.chance(0.5)]
    for one in reserved:
        if maker.chance(0.85):
            taken.insert(maker.rng.randrange(len(taken) + 1), one)
    return taken


def region(maker: Maker, place: Place, parameters: Sequence[Token], size: int, *, gives: str = "", name: str = "region") -> Any:
    """A region graph; `gives` makes a call of that capability its value."""
    from apxm.testing.programs import add_call, fill

    inner = Maker(maker.shared, place, parameters)
    fill(inner, size)
    if gives:
        inner.add("YIELD", {}, [(add_call(inner, gives), None)])
        return inner.graph(name)
    sinks = [node for node in inner.nodes if not any(edge["from"] == node["id"] for edge in inner.edges)]
    if len(sinks) > 4:
        inner.add("YIELD", {}, [(add_call(inner, "mix"), None)])
    elif inner.tokens and inner.chance(0.5):
        _yield(inner)
    elif not inner.ended and inner.chance(0.3):
        inner.exits = [inner.rng.choice([node for node in inner.nodes if node["id"] not in inner.inside])["name"]]
    return inner.graph(name)


def _yield(inner: Maker) -> None:
    """One YIELD, or one on each side of a branch; rarely two that are both live."""
    token = inner.need()
    if inner.chance(0.7):
        inner.add("YIELD", {}, [(token, None)])
        return
    router = inner.add("BRANCH_ON_VALUE", {"condition": "not_empty"}, [(token, None)])
    inner.route(router, ("true", "false"), kind=token.kind, weight=token.weight, plain=0)
    for side in (inner.tokens.pop(), inner.tokens.pop()):
        inner.add("YIELD", {}, [(side, None)])
    if not inner.place.calm and inner.chance(0.1):
        inner.add("YIELD", {}, [(inner.need(), None)])


def _size(maker: Maker) -> int:
    return maker.rng.choice([1, 1, 2, 3, 4, 6])


def _data(fed: Fed) -> list[tuple[Token, str | None]]:
    return [(token, port) for token, port, _ in fed]


def _may_fail(maker: Maker, token: Token, caught: float = 0.3) -> None:
    if not maker.place.calm:
        maker.fallible(token, caught)


def switched(maker: Maker) -> None:
    """SWITCH with regions, some of its cases as edges."""
    from apxm.testing.programs import add_call

    token = maker.pick(kinds=("case",)) or add_call(maker, "pick")
    fed = [one for one in _inputs(maker, maker.rng.choice([0, 1, 2])) if _together(one[0], token)]
    cases = maker.rng.sample(["a", "b", "c"], maker.rng.choice([1, 2, 2]))
    reserved = [Token("input", "case")]
    regions = {
        case: region(
            maker, maker.place.inner(), _declared(maker, fed, reserved, every=place == 0), _size(maker), name=f"case_{case}"
        )
        for place, case in enumerate([*cases, "default"] if maker.chance(0.6) else cases)
    }
    by_port = maker.chance(0.4)
    data = [(token, "discriminant" if by_port else None), *_data(fed)]
    if by_port:
        maker.rng.shuffle(data)
    labels = [case for case in ("a", "b", "c") if case not in regions][:1] if maker.chance(0.3) else []
    made = maker.add("SWITCH", {"case_labels": [*cases, *labels]}, data, regions=regions, weight=HEAVY)
    if labels:
        label = labels[0]
        edge = Token(made.source, "case", 1, label, {**made.sides, int(made.source): frozenset((label,))})
        maker.add("PRINT", {}, [(edge, None)], kind="case", gates=False)
    else:
        _may_fail(maker, made)


def _together(one: Token, other: Token) -> bool:
    return both(one.sides, other.sides) is not None


def looped(maker: Maker) -> None:
    """LOOP with carried values, conditions, a count."""
    place = maker.place.inner(once=False)
    attributes: dict[str, Any] = {"max_iterations": maker.rng.choice([0, 1, 2, 3, 4])}
    fed = _inputs(maker, maker.rng.choice([0, 1, 1, 2]))
    carried = maker.rng.choice(["none", "one", "one", "two"])
    parameters = [replace(one, weight=HEAVY) for one in _declared(maker, fed, [Token("iteration", "int")], every=True)]
    if carried == "two":
        attributes["carry"] = ["acc", "other"]
        parameters += [Token("acc", "int"), Token("other", "int")]
    elif carried == "one":
        names = [str(one.source) for one in parameters if one.source != "iteration"]
        if names and maker.chance(0.7):
            attributes["carry"] = [names[0]]
            parameters = [replace(one, kind="any") if one.source == names[0] else one for one in parameters]
        else:
            attributes["carry"] = ["acc"]
            parameters.append(Token("acc", "any", HEAVY))
    if maker.chance(0.3):
        attributes["until"] = maker.rng.choice(["> 500", "not_empty", "len >= 2", "is_null"])
    if maker.chance(0.3):
        attributes["while"] = maker.rng.choice(["< 700", "not_empty", "!= 3"])
    gives = "fields" if carried == "two" else ""
    body = region(maker, place, parameters, _size(maker), gives=gives, name="body")
    data = _data(fed)
    if maker.chance(0.2) and not data:
        data.append((maker.need(kinds=("int",)), "count"))
    _may_fail(maker, maker.add("LOOP", attributes, data, regions={"body": body}, weight=HEAVY))


def mapped(maker: Maker) -> None:
    """MAP over a short list, sometimes over what is no list."""
    from apxm.testing.programs import add_call

    items = maker.pick(kinds=("list",), weight=8) or add_call(maker, "span")
    if not maker.place.calm and maker.chance(0.03):
        items = maker.need(weight=8)
    fed = [one for one in _inputs(maker, maker.rng.choice([0, 0, 1])) if _together(one[0], items)]
    attributes: dict[str, Any] = {"on_item_error": maker.rng.choice(["fail", "skip", "null"])}
    if maker.chance(0.4):
        attributes["window"] = maker.rng.choice([1, 2, 3])
    place = maker.place.inner(once=False, returns=[0])
    reserved = [Token("item", "any", 8), Token("index", "int")]
    regions = {"body": region(maker, place, _declared(maker, fed, reserved, every=True), _size(maker), name="body")}
    if maker.chance(0.3):
        reduced = _declared(maker, fed, [Token("items", "any", HEAVY)], every=False)
        regions["reduce"] = region(maker, place, reduced, _size(maker), name="reduce")
    data = [(items, "items" if maker.chance(0.4) else None), *_data(fed)]
    _may_fail(
        maker, maker.add("MAP", attributes, data, regions=regions, kind="any" if "reduce" in regions else "list", weight=HEAVY)
    )


def tried(maker: Maker) -> None:
    """TRY_CATCH with and without its two other regions."""
    fed = _inputs(maker, maker.rng.choice([0, 1, 2]))
    inner = maker.place.inner()
    regions = {"try": region(maker, inner, _declared(maker, fed, [], every=True), _size(maker) + 1, name="try")}
    if maker.chance(0.75):
        caught = _declared(maker, fed, [Token("error", "error", 4)], every=False)
        regions["catch"] = region(maker, inner, caught, _size(maker), name="catch")
    if maker.chance(0.4):
        calm = maker.place.inner(calm=maker.chance(0.9), returns=[0])
        regions["finally"] = region(maker, calm, _declared(maker, fed, [], every=False), _size(maker), name="finally")
    _may_fail(maker, maker.add("TRY_CATCH", {}, _data(fed), regions=regions, weight=HEAVY))
