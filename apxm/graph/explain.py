"""What a flow does, in words, from its graph alone. Never asks a model, never runs anything; the same graph, the same words.

Steps are numbered by phases: what stands under one number may happen at the same time. Constants are said where they are
used. A flow that is called is explained behind the one that calls it.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.graph.analysis import phases, regions_of
from apxm.graph.bounds import calls_of
from apxm.graph.model import Dependency
from apxm.graph.ops import Rule, firing_rule
from apxm.graph.region import bind, is_position
from apxm.graph.routes import Routes
from apxm.graph.sentences import Input, Scene, declared, sentence
from apxm.graph.touches import touches
from apxm.graph.wiring import Wiring
from apxm.graph.wording import (
    TYPES,
    Value,
    begins,
    constant,
    count,
    duration,
    listed,
    name,
    quoted,
    result_of,
    several,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from apxm.graph.model import Edge, Graph, Node

FlowKey: TypeAlias = tuple[str, str]  # agent, flow

WIDTH = 100
STEPS_MAX = 400  # of all flows together; what a person reads ends long before
TOGETHER_MAX = 12  # steps of one phase that are told, each for itself
_ITEM = Value("the item", "item")
_RESERVED = {
    ("LOOP", "iteration"): Value("the number of the iteration", "iteration"),
    ("MAP", "item"): _ITEM,
    ("MAP", "index"): Value("the position of the item", "index"),
    ("MAP", "items"): Value("the list of results", "items"),
    ("TRY_CATCH", "error"): Value("the error", "error"),
    ("SWITCH", "input"): Value("what was looked at", "input"),
}


def explain(
    flows: Mapping[FlowKey, Graph],
    entry: FlowKey,
    effects: Mapping[str, str | None] | None = None,
    width: int = WIDTH,
    agents: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """A flow of a program, as `lift` gives it, in words, with the flows that it calls.

    `effects` has the effect class of every capability that is known, `agents` what the program says about its agents.
    Text of the program stands in it as it is, apart from line breaks: whoever prints it to a terminal escapes it.
    """
    telling = _Telling(width)
    reached = _reached(flows, entry)
    for key in reached:
        telling.flow(key, flows[key], first=key == entry)
    for agent in dict.fromkeys(agent for agent, _ in reached):
        said = declared((agents or {}).get(agent, {}), f"the agent {name(agent)}")
        telling.paragraphs([f"From the start, the program {said}."] if said else [])
    telling.paragraphs(touches({key: flows[key] for key in reached}, effects or {}))
    return "\n".join(telling.lines)


def _reached(flows: Mapping[FlowKey, Graph], entry: FlowKey) -> list[FlowKey]:
    """The flows that one reaches by calls, itself first, callers before the called."""
    found = {entry: None}
    for key in (todo := [entry]):
        for callee in calls_of(flows[key], key[0]):
            if callee in flows and callee not in found:
                found[callee] = None
                todo.append(callee)
    return list(found)


@dataclass(frozen=True, slots=True)
class _Scope:
    """One graph while it is told: what its parameters mean, and what its result is the result of."""

    graph: Graph
    meanings: Mapping[str, Value]
    result: str
    hidden: frozenset[int]  # constants that are said where they are used
    wiring: Wiring
    routes: Routes

    @classmethod
    def of(cls, graph: Graph, meanings: Mapping[str, Value], result: str = "") -> _Scope:
        exits = graph.metadata.get("exits", ())
        waiting = {edge.target for edge in graph.edges}
        used = {edge.source for edge in graph.edges if edge.dependency is Dependency.DATA and edge.label is None}
        hidden = frozenset(
            node.id
            for node in graph.nodes
            if node.op == "CONST_STR" and node.id in used and node.id not in waiting and node.name not in exits
        )
        return cls(graph, meanings, result, hidden, Wiring(graph), Routes(graph))

    def inputs(self, node: Node) -> list[Input]:
        return [Input(edge.port, self.value(edge), edge.source) for edge in self.wiring.data(node.id)]

    def value(self, edge: Edge) -> Value:
        """What an edge carries."""
        if isinstance(edge.source, str):
            return self.meanings.get(edge.source, Value(name(edge.source), edge.source))
        node = self.wiring.nodes[edge.source]
        if edge.label == "error":
            return Value(f"the error of {name(node.name)}", f"error of {node.name}")
        if node.id in self.hidden:
            return constant(node.attributes["value"])
        passed = self._passed(node, edge.label)
        return passed if passed is not None else result_of(node.name)

    def _passed(self, node: Node, label: str | None) -> Value | None:
        """What a step that only lets something pass lets pass."""
        routes = node.op == "BRANCH_ON_VALUE" or (node.op == "SWITCH" and label not in node.regions and not node.regions)
        edges = self.wiring.data(node.id)
        if not edges or not (routes or node.op in ("GUARD", "JUMP")):
            return None
        own = next((edge for edge in edges if routes and edge.port == "pass"), None)
        tested = next((edge for edge in edges if edge.port in ("token", "discriminant")), None)
        return self.value(own or tested or next((edge for edge in edges if is_position(edge.port)), edges[0]))


@dataclass(slots=True)
class _Telling:
    """The text so far, line by line."""

    width: int
    lines: list[str] = field(default_factory=list)
    steps: int = 0
    untold: int = 0

    def flow(self, key: FlowKey, graph: Graph, *, first: bool) -> None:
        whose = f" of the agent {name(key[0])}" if key[0] != "default" else ""
        described = graph.metadata.get("description")
        title = f"The flow {name(key[1])}{whose}"
        if not first:
            self.lines.append("")
        said = f"{title}: {shortened(described, 400)}" if isinstance(described, str) and described.strip() else None
        scope = _Scope.of(graph, {one.name: Value(name(one.name), one.name) for one in graph.parameters})
        takes = [f"{name(one.name)} ({TYPES[one.type_name]})" for one in graph.parameters]
        subject = "It" if said is not None else title
        self.paragraphs([said] if said is not None else [])
        self._say(f"{subject} takes {listed(takes, most=20) or 'no parameters'} and {_gives(scope)}.")
        self.lines.append("")
        self.block(scope, "", "")
        if self.untold:
            self._say(f"… and {count(self.untold, 'more step')}.")
            self.untold = 0

    def paragraphs(self, several: Sequence[str]) -> None:
        for text in several:
            if self.lines and not self.lines[-1].startswith("The flow"):
                self.lines.append("")
            self._say(_stopped(text))

    def _say(self, text: str, indent: str = "", label: str = "") -> None:
        first = f"{indent}{label} " if label else indent
        self.lines += textwrap.wrap(
            text,
            self.width,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )

    # ---- steps -----------------------------------------------------------------------------------------------------
    def block(self, scope: _Scope, indent: str, number: str, begin: int = 1) -> int:
        """The steps of one graph, numbered from `begin` behind `number`; the next number that is free."""
        for level in phases(scope.graph, scope.hidden):
            if self.steps >= STEPS_MAX:
                self.untold += len(level)
                continue
            self.steps += len(level)
            label = f"{number}{begin}"
            if len(level) == 1:
                self.step(scope, level[0], indent, label)
            else:
                self._together(scope, level, indent, label)
            begin += 1
        return begin

    def _together(self, scope: _Scope, level: Sequence[Node], indent: str, label: str) -> None:
        together = scope.routes.largest({node.id: 1 for node in level}, sum, max)
        apart = "One of these:" if together == 1 else "At the same time, as far as they are reached:"
        self._say(apart if together < len(level) else "At the same time:", indent, f"{label}.")
        told = level if len(level) <= TOGETHER_MAX + 1 else level[:TOGETHER_MAX]
        for place, node in enumerate(told):
            self.step(scope, node, f"{indent}   ", f"{label}{_letter(place)}")
        if len(told) < len(level):
            ops = sorted({node.op for node in level[len(told) :]})
            self._say(f"… and {count(len(level) - len(told), 'more step')} ({listed(ops)}).", f"{indent}   ")

    def step(self, scope: _Scope, node: Node, indent: str, label: str) -> None:
        scene = Scene(node, scope.inputs(node), scope.result)
        when = _when(scope, node)
        over = _passed_over(scope, node)
        text = f"{name(node.name)} {sentence(scene)}{_common(node)}" if over is None else f"{name(node.name)} never runs: {over}"
        text = f"{begins(when)}, {text}" if when and over is None else text
        self._say(f"{text}:" if node.regions else _stopped(text), indent, f"{label}.")
        if node.regions:
            self._regions(scope, node, scene, indent, label)

    def _regions(self, scope: _Scope, node: Node, scene: Scene, indent: str, label: str) -> None:
        inner, begin = f"{indent}   ", 1
        for region_name in regions_of(node):
            region = node.regions[region_name]
            heading, result = _heading(node, region_name, scene)
            if heading:
                self._say(heading, inner)
            meanings = _meanings(node, region_name, region, scene)
            items = any(value.short == _ITEM.short for value in scope.meanings.values())
            if items and node.op == "MAP" and "item" in meanings and region_name == "body":  # two items are to be told apart
                meanings["item"] = Value(f"the item of {name(node.name)}", _ITEM.short)
            inside = _Scope.of(region, meanings, result)
            begin = self.block(inside, f"{inner}{'   ' if heading else ''}", f"{label}.", begin)


def _heading(node: Node, region: str, scene: Scene) -> tuple[str, str]:
    """What stands above a region, and what its result is the result of."""
    own = name(node.name)
    if node.op == "MAP":
        return ("", "this item") if region == "body" else ("When all items are through:", own)
    if node.op == "LOOP":
        return "", "this time"
    if node.op == "TRY_CATCH":
        headings = {"try": "", "catch": "If anything of that fails:", "finally": "At the end, whatever happened:"}
        return headings[region], own
    if region == "default":
        return "In every other case:", own
    how = {"contains": f"If {quoted(region, 40)} occurs in it:", "regex": f"If {quoted(region, 40)} matches it:"}
    return how.get(scene.get("match"), f"If it is {quoted(region, 40)}:"), own


def _meanings(node: Node, region_name: str, region: Graph, scene: Scene) -> dict[str, Value]:
    """What the parameters of a region mean: what comes in from around it, the item, the error, what is carried."""
    bound = bind(node.op, region_name, [one.name for one in region.parameters], [one.port for one in scene.inputs])
    meanings = {parameter: scene.inputs[index].value for parameter, index in bound.sources.items()}
    for parameter in region.parameters:
        reserved = _RESERVED.get((node.op, parameter.name))
        if reserved is not None and parameter.name not in meanings:
            meanings[parameter.name] = reserved
    if node.op == "LOOP":
        meanings |= {one: Value(name(one), one) for one in node.attributes.get("carry", ())}
    return meanings


def _gives(scope: _Scope) -> str:
    """What a flow gives, as the rest of a sentence."""
    returns = list(_returns(scope.graph))
    if len(returns) == 1 and returns[0] in scope.graph.nodes:
        return f"returns {scope.value(scope.wiring.data(returns[0].id)[0]).words}"
    ends = f"what {listed([name(node.name) for node in returns], 'or')} returns"
    by_name = {node.name: node for node in scope.graph.nodes}
    exits = [by_name[one] for one in scope.graph.metadata.get("exits", ()) if one in by_name]
    exits = [node for node in exits if node.op != "RETURN"]
    if not exits:
        return f"gives {ends}" if returns else "gives nothing"
    if len(exits) == 1:
        said = f"gives {result_of(exits[0].name).words}"
    else:
        said = f"gives {several([result_of(node.name) for node in exits])}, each under its name"
    return f"{said}, or {ends}" if returns else said


def _returns(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        if node.op == "RETURN":
            yield node
        for region in node.regions.values():
            yield from _returns(region)


def _when(scope: _Scope, node: Node) -> str:
    """The conditions of a step, as words before it: `if found holds, and once a is done`."""
    needs_all = firing_rule(node.op, node.attributes) is Rule.ALL
    data = [edge for edge in scope.wiring.data(node.id) if isinstance(edge.source, int)]
    gates = scope.wiring.others(node.id)
    conditions: dict[str, None] = {}
    for edge in (*(data if needs_all else ()), *gates):
        if edge.label is not None and edge.dependency is not Dependency.EFFECT:
            conditions[_condition(scope.wiring.nodes[int(edge.source)], edge.label)] = None
    if not needs_all and data and all(edge.label is not None for edge in data):
        either = dict.fromkeys(_condition(scope.wiring.nodes[int(edge.source)], str(edge.label)) for edge in data)
        conditions[listed(list(either), "or")] = None
    values = {edge.source for edge in data}
    after = dict.fromkeys(edge.source for edge in gates if edge.label is None and edge.source not in values)
    names = [name(scope.wiring.nodes[int(one)].name) for one in after]
    words = listed(list(conditions))
    if names:
        done = f"once {listed(names)} {'is' if len(names) == 1 else 'are'} done"
        words = f"{words}, and {done}" if words else done
    return words


def _passed_over(scope: _Scope, node: Node) -> str | None:
    """Why a step never runs: a jump leads past it."""
    for edge in (*scope.wiring.data(node.id), *scope.wiring.others(node.id)):
        if isinstance(edge.source, int) and edge.dependency is not Dependency.EFFECT:
            jump = scope.wiring.nodes[edge.source]
            if jump.op == "JUMP" and edge.label not in (None, "error", jump.attributes["label"]):
                return f"{name(jump.name)} jumps over it"
    return None


def _condition(router: Node, label: str) -> str:
    own = name(router.name)
    if label == "error":
        return f"if {own} does not let it pass" if router.op == "GUARD" else f"if {own} fails"
    if router.op == "BRANCH_ON_VALUE":
        return f"if {own} holds" if label == "true" else f"if {own} does not hold"
    if router.op == "JUMP":
        return f"when {own} jumps here"
    return f"if no case of {own} fits" if label == "default" else f"if {own} finds {quoted(label, 40)}"


def _common(node: Node) -> str:
    """What any step may have: a limit of its time, further tries, a value for when it fails."""
    attributes = node.attributes
    parts = []
    if "timeout_ms" in attributes and node.op not in ("PAUSE", "RESUME"):
        parts.append(f"it may take {duration(attributes['timeout_ms'])}")
    if attributes.get("retries"):
        parts.append(f"it may be tried again {count(attributes['retries'], 'time')}")
    if "fallback" in attributes:
        parts.append(f"if it fails, its result is {constant(attributes['fallback']).words}")
    return f" ({'; '.join(parts)})" if parts else ""


def _stopped(text: str) -> str:
    """With a full stop, where none is there."""
    return text if text.endswith((".", "?", "!", ".”", "?”", "!”", "…”", ":")) else f"{text}."


def _letter(place: int) -> str:
    """a, b … z, aa, ab …"""
    return (_letter(place // 26 - 1) if place >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[place % 26]
