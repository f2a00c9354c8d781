"""Random programs with every firing rule, edge kind, region and failure, from a seed. Never runs them.

`generate(seed)` gives the same program on every machine. What a program gives is determined up to the choices that a run
makes (see the oracle): no two RETURNs of one activation can be live, and memory is read where edges order it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apxm.testing.capabilities import CAPABILITIES
from apxm.testing.making import HEAVY, TEXTS, Maker, Place, Shared, Token, both
from apxm.testing.parts import Step, paired, parted
from apxm.testing.regions import looped, mapped, switched, tried
from apxm.testing.respelling import REFERRING, respell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hypothesis.strategies import SearchStrategy

    from apxm.config import FailurePolicy

PROFILES = ("pure", "routing", "failing", "waiting", "all", "all")


@dataclass(frozen=True, slots=True)
class Program:
    """One random program: `graph` is a graph or a program of agents in the JSON contract."""

    seed: int
    graph: dict[str, Any]
    parameters: dict[str, Any]
    on_failure: FailurePolicy

    @property
    def size(self) -> int:
        """Nodes, those of regions and flows included."""
        return sum(1 for _ in nodes_of(self.graph))


def nodes_of(graph: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a graph or program, those of regions included."""
    for one in graphs_of(graph):
        yield from one["nodes"]


def graphs_of(graph: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every graph of a graph or program, regions included, outer ones first."""
    todo: list[Any] = [flow for agent in graph["agents"] for flow in agent["flows"]] if "agents" in graph else [graph]
    while todo:
        one = todo.pop(0)
        yield one
        for node in one["nodes"]:
            todo += node.get("regions", {}).values()


# ---- steps: each adds one node, or a few --------------------------------------------------------------------------
def _constant(maker: Maker) -> None:
    kind = maker.rng.choice(["int", "int", "str", "case", "list"])
    control = [token] if maker.chance(0.4) and (token := maker.pick()) is not None and isinstance(token.source, int) else []
    weight = 4 if kind == "list" else 1
    maker.add("CONST_STR", {"value": maker.constant(kind)}, kind=kind, weight=weight, control=control)


_BINARY = ("mix", "mix", "add", "concat", "fields", "look")
_UNARY = ("pick", "span", "later", "note", "act")
_FAILING = ("fail_if_odd", "fail_if_third", "fail_later", "act_or_fail")


def _call(maker: Maker) -> None:
    names = [*_BINARY, "pick", "span"] if maker.shared.profile == "pure" else [*_BINARY, *_UNARY]
    if maker.shared.profile == "pure":
        names.remove("look")
    if maker.shared.profile == "waiting":
        names += ["later", "look", "note", "act"] * 2
    add_call(maker, maker.rng.choice(names))


def _failing_call(maker: Maker) -> None:
    if maker.place.calm:
        return _call(maker)
    return maker.fallible(add_call(maker, maker.rng.choice(_FAILING)))


def add_call(maker: Maker, name: str, first: Token | None = None) -> Token:
    """An INV of a capability of the set, its arguments given in one of the many ways."""
    listed = CAPABILITIES[name]
    arguments = ["a", "b"] if name in _BINARY else ["error"] if name == "blame" else ["x"]
    attributes: dict[str, Any] = {"capability": name}
    data: list[tuple[Token, str | None]] = []
    implied: list[Token] = []
    sides: Any = {}
    for argument in arguments:
        token = first if first is not None and argument in ("a", "x") else maker.pick(sides, weight=HEAVY + 4)
        if token is None or (argument == "b" and maker.chance(0.2)):
            _give_constant(maker, attributes, argument)
            continue
        way = maker.rng.choice(("port", "port", "position", "position", "node", "text"))
        mentioned = token.source in {one.source for one in implied}
        new = not mentioned and token.source not in {one.source for one, _ in data}
        if way == "node" and new and token.label is None and isinstance(token.source, int):
            attributes[f"arg_{argument}"] = f"{{{{node_{token.source}}}}}"
            implied.append(token)
        elif way == "text" and isinstance(token.source, str) and token.kind in TEXTS:
            attributes[f"arg_{argument}"] = f"<{{{token.source}}}>"
        else:
            data.append((token, argument if way == "port" or mentioned else None))
        sides = {**sides, **token.sides}
    return maker.add(
        "INV", attributes, data, kind=listed.gives, weight=3 if listed.gives in ("list", "fields") else 1, implied=implied
    )


def _give_constant(maker: Maker, attributes: dict[str, Any], argument: str) -> None:
    if maker.chance(0.5):
        attributes[f"arg_{argument}"] = maker.constant("int")
    else:
        attributes["params_json"] = {**attributes.get("params_json", {}), argument: maker.constant("list")}


def _pass(maker: Maker) -> None:
    token = maker.need()
    op = maker.rng.choice(["PRINT", "FENCE"])
    attributes = {"message": maker.rng.choice(["", "hello", "got {0}" if token.kind in TEXTS else ""])} if op == "PRINT" else {}
    maker.add(op, attributes, [(token, None)], kind=token.kind, weight=token.weight)


def _join(maker: Maker) -> None:
    """MERGE in every mode, and WAIT_ALL."""
    pure = maker.shared.profile == "pure"
    modes = (
        ["array", "concat", "sum", "wait"] if pure else ["array", "concat", "sum", "wait", "any", "any", "race", "first_success"]
    )
    mode = maker.rng.choice(modes)
    kinds = {"concat": TEXTS, "sum": ("int",)}.get(mode, ())
    count = maker.rng.choice([1, 2, 2, 2, 3, 3, 4])
    limit = HEAVY if mode in ("any", "race", "first_success", "sum") else HEAVY // count - 1
    found = [maker.pick(kinds=kinds, weight=limit) for _ in range(count)]
    tokens = list({(token.source, token.label): token for token in found if token is not None}.values())
    if not tokens:
        return _constant(maker)
    if mode in ("any", "race", "first_success"):
        kinds_found = {token.kind for token in tokens}
        kind, weight = kinds_found.pop() if len(kinds_found) == 1 else "any", max(token.weight for token in tokens)
    else:
        kind = {"concat": "str", "sum": "int"}.get(mode, "list")
        weight = 1 if mode == "sum" else sum(token.weight for token in tokens) + 1
    numbered = maker.chance(0.25)
    order = maker.rng.sample(range(len(tokens)), len(tokens))
    data = [(token, str(order[place]) if numbered else None) for place, token in enumerate(tokens)]
    op, attributes = ("WAIT_ALL", {}) if mode == "wait" else ("MERGE", {"mode": mode})
    maker.add(op, attributes, data, kind=kind, weight=weight, joins=True)
    return None


def condition_for(maker: Maker, token: Token) -> str:
    """A condition that a token of this kind may or may not fulfil."""
    if token.kind == "int":
        return f"{maker.rng.choice(['<', '<=', '>', '>=', '!='])} {maker.rng.choice([0, 3, 50, 300, 600])}"
    if token.kind in ("str", "case"):
        return maker.rng.choice(["contains 1", "== a", "!= b", "len >= 2", "matches [ab3]", "not_empty"])
    if token.kind == "list":
        return maker.rng.choice(["len >= 2", "not_empty", "is_empty", "contains 3"])
    return maker.rng.choice(["not_empty", "is_null", "not_null", "is_true", "len < 4"])


def _branch(maker: Maker) -> None:
    token = maker.need()
    data: list[tuple[Token, str | None]] = [(token, "token" if maker.chance(0.4) else None)]
    carried = token
    if maker.chance(0.3) and (other := maker.pick(token.sides)) is not None:
        data.append((other, "pass"))
        carried = other
    if maker.chance(0.3):
        attributes: dict[str, Any] = {"value": maker.constant(token.kind if token.kind in ("int", "case") else "")}
    else:
        attributes = {"condition": condition_for(maker, token)}
    router = maker.add("BRANCH_ON_VALUE", attributes, data)
    maker.route(router, ("true", "false"), kind=carried.kind, weight=carried.weight)


def _sides(maker: Maker) -> None:
    """Both sides of a branch, joined again without saying how."""
    token = maker.need()
    router = maker.add("BRANCH_ON_VALUE", {"condition": condition_for(maker, token)}, [(token, None)])
    maker.route(router, ("true", "false"), kind=token.kind, weight=token.weight, plain=0)
    no, yes = maker.tokens.pop(), maker.tokens.pop()
    ends = []
    for side in (yes, no):
        name = maker.rng.choice(["later", "pick"] if maker.shared.profile != "pure" else ["pick"])
        ends.append(maker.add("INV", {"capability": name}, [(side, None)], kind=CAPABILITIES[name].gives, gates=False))
    maker.add("MERGE", {}, [(end, None) for end in ends], joins=True, gates=False)


def _switch_edges(maker: Maker) -> None:
    token = maker.pick(kinds=("case",)) or add_call(maker, "pick")
    cases = maker.rng.sample(["a", "b", "c"], maker.rng.choice([1, 2, 3]))
    labels = [*cases, "default"] if maker.chance(0.7) else cases
    router = maker.add("SWITCH", {"case_labels": cases, "match": maker.rng.choice(["exact", "casefold"])}, [(token, None)])
    maker.route(router, labels, kind="case", weight=1)
    _use_labels(maker, int(router.source), labels)


def _use_labels(maker: Maker, router: int, labels: list[str]) -> None:
    """A SWITCH knows its default by its edges: make sure that each label has one."""
    for token in [token for token in maker.tokens if token.source == router and token.label in labels]:
        maker.add("PRINT", {}, [(token, None)], kind="case", gates=False)


def _guard(maker: Maker) -> None:
    token = maker.need()
    skips = maker.place.calm or maker.chance(0.5)
    attributes = {"condition": condition_for(maker, token), "on_fail": "skip" if skips else "halt", "error_message": "no"}
    guard = maker.add("GUARD", attributes, [(token, None)], kind=token.kind, weight=token.weight)
    if not skips:
        maker.fallible(guard)
    elif maker.chance(0.6):
        maker.split_error(guard)
    else:
        maker.tokens.remove(guard)
        maker.tokens.append(
            Token(guard.source, guard.kind, guard.weight, None, {**guard.sides, int(guard.source): frozenset(("ok",))})
        )


def _fail(maker: Maker) -> None:
    """ERR behind a condition, so that not every program fails."""
    if maker.place.calm:
        return _call(maker)
    labelled = [token for token in maker.tokens if token.label is not None]
    attributes: dict[str, Any] = {"message": "broken"}
    if maker.chance(0.5):
        attributes |= {
            "code": maker.rng.choice(["e1", "e2"]),
            "class": maker.rng.choice(["invalid", "denied", "budget", "fatal"]),
        }
    if labelled:
        token = maker.rng.choice(labelled)
        if token.kind in TEXTS and maker.chance(0.5):
            err = maker.add("ERR", {**attributes, "message": "broken {0}"}, [(token, None)], kind="str")
        else:
            err = maker.add("ERR", attributes, control=[token], kind="str")
    else:
        err = maker.add("ERR", attributes, kind="str")
        return maker.fallible(err, caught=0.95)
    return maker.fallible(err)


def _key(maker: Maker) -> str:
    maker.shared.keys += 1
    return f"k{maker.shared.keys}"


def _retried(maker: Maker) -> None:
    """What fails a few times, and then may work. Only where it happens once: each failure is counted under its key."""
    if not maker.place.once:
        return _failing_call(maker)
    calm = maker.place.calm
    if not calm and maker.chance(0.2):
        attributes = {"message": "not now", "class": "transient", **_allowance(maker, "retries")}
        labelled = [token for token in maker.tokens if token.label is not None]
        maker.fallible(maker.add("ERR", attributes, control=labelled[-1:], kind="str"), caught=0.95)
        return None
    name = maker.rng.choice(["wobble", "falter", "falter" if calm else "falter_once"])
    more = _allowance(maker, "retries")
    fails = maker.rng.choice([0, 1, 1, 2, 3]) if name != "falter_once" else maker.rng.choice([0, 0, 1])
    attributes = {"capability": name, "arg_key": _key(maker), "arg_fails": min(fails, more.get("retries", 2)) if calm else fails}
    made = maker.add("INV", {**attributes, **more}, [(maker.need(), "x")], kind="int")
    return None if calm else maker.fallible(made)


def _allowance(maker: Maker, name: str) -> dict[str, int]:
    return {name: maker.rng.choice([0, 1, 2, 3])} if maker.chance(0.5) else {}


def _ask(maker: Maker) -> None:
    """A prompt with placeholders, with inputs behind it, or nothing but an input; sometimes to a model that fails at first."""
    found = [maker.pick(kinds=TEXTS, weight=8) for _ in range(maker.rng.choice([1, 1, 2]))]
    tokens = list({token.source: token for token in found if token is not None}.values())
    if not tokens or (len(tokens) > 1 and both(tokens[0].sides, tokens[1].sides) is None):
        tokens = [maker.need(kinds=TEXTS, weight=8)]
    more: dict[str, int] = {}
    template = maker.rng.choice(["", "Look at this.", "What is {0}?", f"Compare {{{len(tokens) - 1}}} and {{0}}."])
    if maker.place.once and not maker.place.calm and maker.chance(0.7):
        more = _allowance(maker, "max_retries")
        template = f"[{_key(maker)} fails {maker.rng.choice([1, 1, 2, 4])}] {template}"
    asked = maker.add("ASK", {"template_str": template, **more}, [(token, None) for token in tokens], kind="str", weight=2)
    if more:
        maker.fallible(asked)


def _handler(maker: Maker) -> None:
    """ERR in its handler form."""
    token = maker.need(kinds=TEXTS)
    attributes = {"recovery_template": "saved {0}"} if maker.chance(0.5) else {}
    maker.add("ERR", attributes, [(token, None)], kind="str")


def _jump(maker: Maker) -> None:
    token = maker.need()
    targets = [maker.new_id() for _ in range(maker.rng.choice([1, 2, 2]))]
    jump = maker.add("JUMP", {"label": f"n{targets[0]}"}, [(token, None)], kind=token.kind, weight=token.weight)
    maker.tokens.remove(jump)
    for target in targets:
        side = Token(jump.source, token.kind, token.weight, None, {**jump.sides, int(jump.source): frozenset((str(target),))})
        maker.add("PRINT", {}, [(side, None)], kind=token.kind, weight=token.weight, node_id=target)


def _memory(maker: Maker) -> None:
    if not maker.place.once:
        return _call(maker)
    key = _key(maker)
    if maker.chance(0.8):
        token = maker.need()
        wrote = maker.add("UMEM", {"key": key}, [(token, None)], kind=token.kind, weight=token.weight)
    else:
        token = wrote = maker.add("UMEM", {"key": key, "value": maker.constant("int")}, kind="int")
    for _ in range(maker.rng.choice([1, 1, 2])):
        read = maker.add("QMEM", {"key": key}, kind=token.kind, weight=token.weight, gates=False)
        maker.link(wrote, int(read.source), maker.rng.choice(["Effect", "Control"]))
    return None


def _flow(maker: Maker) -> None:
    if not maker.shared.flows:
        return _call(maker)
    agent, flow, parameters = maker.rng.choice(maker.shared.flows)
    attributes: dict[str, Any] = {"flow_name": flow}
    if agent != maker.shared.agent or maker.chance(0.2):
        attributes["agent_name"] = agent
    data: list[tuple[Token, str | None]] = []
    sides: Any = {}
    given: dict[str, Any] = {}
    for name in parameters:
        token = maker.pick(sides, weight=8)
        if token is None or maker.chance(0.2):
            given[name] = maker.constant("int")
            continue
        data.append((token, name if maker.chance(0.6) else None))
        sides = {**sides, **token.sides}
    if given:
        attributes["args"] = given
    token = maker.add("FLOW_CALL", attributes, data, weight=HEAVY)
    return None if maker.place.calm else maker.fallible(token, caught=0.4)


def _return(maker: Maker) -> None:
    """A RETURN on one side of a branch: at most one for each activation of a flow."""
    if maker.place.returns[0] <= 0:
        return _call(maker)
    maker.place.returns[0] -= 1
    token = maker.need()
    router = maker.add("BRANCH_ON_VALUE", {"condition": condition_for(maker, token)}, [(token, None)])
    maker.route(router, ("true", "false"), kind=token.kind, weight=token.weight)
    side = maker.tokens.pop() if maker.chance(0.5) else maker.tokens.pop(-2)
    maker.add("RETURN", {}, [(side, None)])
    return None


def _paired(maker: Maker) -> None:
    paired(maker, _within(maker, {_return, _parted}))


def _parted(maker: Maker) -> None:
    parted(maker, _within(maker, {_parted}))


def _within(maker: Maker, without: set[Step]) -> list[Step]:
    """The steps that may stand in a loop or a TRY written as several nodes: no second one, whose ends could overlap."""
    return [step for step in _allowed(maker) if step not in without and step is not _paired]


_COMMON: dict[Step, int] = {_constant: 2, _call: 4, _join: 5, _branch: 2, _guard: 2, _handler: 1, _flow: 1}
_ROUTES: dict[Step, int] = {_pass: 1, _sides: 1, _switch_edges: 2, _jump: 1, _return: 1}
_AGAIN: dict[Step, int] = {_retried: 3, _ask: 2}
_PARTS: dict[Step, int] = {_parted: 2, _paired: 1}
_STEPS: dict[str, dict[Step, int]] = {
    "pure": {_constant: 2, _call: 8, _pass: 1, _join: 3},
    "routing": {**_COMMON, **_ROUTES, _branch: 4},
    "waiting": {_constant: 2, _call: 8, _join: 5, _branch: 2, _memory: 1, _flow: 1, _return: 1, mapped: 1, looped: 1, _ask: 2},
    "failing": {**_COMMON, _failing_call: 4, _fail: 2, tried: 3, mapped: 1, looped: 1, switched: 1, **_PARTS, **_AGAIN},
    "all": {
        **_COMMON,
        **_ROUTES,
        _failing_call: 2,
        _fail: 1,
        _memory: 2,
        tried: 2,
        mapped: 2,
        looped: 2,
        switched: 2,
        _paired: 2,
        _parted: 2,
        _ask: 2,
        _retried: 2,
    },
}
_REGIONS: frozenset[Step] = frozenset({tried, mapped, looped, switched, _paired, _parted})
_DEPTH_MAX = 3


def _allowed(maker: Maker) -> dict[Step, int]:
    steps = _STEPS[maker.shared.profile]
    return {step: weight for step, weight in steps.items() if step not in _REGIONS or maker.place.depth < _DEPTH_MAX}


def fill(maker: Maker, size: int) -> None:
    """Add steps until the graph has so many nodes."""
    allowed = _allowed(maker)
    while len(maker.nodes) < size and len(maker.nodes) < 60:
        maker.rng.choices(list(allowed), list(allowed.values()))[0](maker)


# ---- programs -----------------------------------------------------------------------------------------------------
def generate(seed: int, size: int | None = None) -> Program:
    """The program of a seed: the same every time. `size` is about how many nodes its main flow has."""
    rng = random.Random(f"apxm program {seed}")  # a text, so that neighbouring seeds share nothing
    shared = Shared(rng, rng.choice(PROFILES))
    subs = (
        [_sub_flow(shared, number) for number in range(rng.choice([0, 0, 1, 2]))]
        if shared.profile in ("failing", "waiting", "all")
        else []
    )
    names = [f"p{number}" for number in range(rng.choice([0, 0, 1, 2, 3]))]
    maker = Maker(shared, Place(returns=[1]), [Token(name, "any", 4) for name in names])
    fill(maker, size if size is not None else rng.choice([1, 2, 3, 5, 8, 12, 18, 25, 40]))
    if maker.chance(0.15):
        ordinary = [node for node in maker.nodes if node["id"] not in maker.ended | maker.inside]
        chosen = rng.sample(ordinary, min(len(ordinary), rng.choice([1, 2, 3])))
        if not maker.ended:
            maker.exits = [node["name"] if rng.random() < 0.7 else node["id"] for node in chosen]
    main = maker.graph("start")
    graph: dict[str, Any] = main
    if subs:
        agents: dict[str, list[dict[str, Any]]] = {"main": [main]}
        for agent, flow in subs:
            agents.setdefault(agent, []).append(flow)
        graph = {"agents": [{"name": name, "flows": flows} for name, flows in agents.items()]}
    spelling = random.Random(f"apxm spelling {seed}")
    for one in graphs_of(graph):
        respell(one, spelling)
    parameters = {name: maker.constant() for name in names}
    policy: FailurePolicy = "continue" if maker.chance(1 / 3) else "fail_fast"
    return Program(seed, graph, parameters, policy)


def _sub_flow(shared: Shared, number: int) -> tuple[str, dict[str, Any]]:
    agent, name = shared.rng.choice(["main", "helper"]), f"flow{number}"
    shared.agent = agent
    parameters = [f"q{place}" for place in range(shared.rng.choice([0, 1, 2]))]
    maker = Maker(shared, Place(depth=1, once=False, returns=[1]), [Token(one, "any", 8) for one in parameters])
    fill(maker, shared.rng.choice([1, 2, 4, 6]))
    shared.flows.append((agent, name, parameters))
    shared.agent = "main"
    graph = maker.graph(name)
    graph["metadata"] = {**graph.get("metadata", {}), "is_entry": False}
    return agent, graph


def programs(size_max: int = 40) -> SearchStrategy[Program]:
    """A Hypothesis strategy: random programs of up to about `size_max` nodes in the main flow."""
    from hypothesis import strategies as st

    return st.builds(generate, st.integers(0, 2**32 - 1), size=st.integers(1, size_max))


def features(program: Program) -> Counter[str]:
    """Which features a program has: operations, modes, edge kinds, labels, regions, depth."""
    found: Counter[str] = Counter({program.on_failure: 1})
    if "agents" in program.graph:
        found["several flows"] += 1
    for graph in graphs_of(program.graph):
        for node in graph["nodes"]:
            mode = node["attributes"].get("mode")
            found[f"{node['op']} {mode}" if mode else node["op"]] += 1
            found.update(f"region {node['op']}.{name if node['op'] != 'SWITCH' else 'case'}" for name in node.get("regions", {}))
            found.update(
                f"attribute {name}"
                for name in ("fallback", "on_item_error", "while", "until", "carry", "retries", "max_retries")
                if name in node["attributes"]
            )
            found["calls what fails at first"] += node["attributes"].get("arg_fails", 0) > 0
            found["names nodes in attributes"] += bool(REFERRING & node["attributes"].keys())
        for edge in graph["edges"]:
            found[f"edge {edge['dependency']}"] += 1
            found["edge from a parameter"] += isinstance(edge["from"], str)
            found["edge with a port"] += "port" in edge
            if "label" in edge:
                label = edge["label"]
                found[f"edge labelled {label}" if label in ("error", "try", "catch", "finally") else "edge labelled"] += 1
        found["declared exits"] += "exits" in graph.get("metadata", {})
    return found
