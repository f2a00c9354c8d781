"""What one step does, as the rest of a sentence that begins with its name: `asks a model: …`. One function per operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.graph.bounds import setting
from apxm.graph.region import is_position, own_input
from apxm.graph.template import Placeholder, parse, parse_filled
from apxm.graph.wording import (
    Value,
    condition,
    constant,
    count,
    duration,
    listed,
    name,
    quoted,
    several,
    shortened,
    template,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apxm.graph.model import Node

TIERS = {"stm": "short-term memory", "ltm": "long-term memory", "episodic": "the episodic memory", "all": "all memory"}
ARGUMENTS_MAX = 4


@dataclass(frozen=True, slots=True)
class Input:
    """One Data input of a step, in order: its port, and what comes in."""

    port: str | None
    value: Value
    source: int | str


@dataclass(frozen=True, slots=True)
class Scene:
    """A step where it stands. `result` is what the region around it makes of a value: `this item`, `this iteration`."""

    node: Node
    inputs: Sequence[Input]
    result: str = ""

    def get(self, attribute: str) -> Any:
        """An attribute, else its default."""
        return setting(self.node, attribute)

    def has(self, attribute: str) -> bool:
        return attribute in self.node.attributes

    def text(self, attribute: str) -> str:
        """A template, quoted, with the names of what fills it."""
        return template(str(self.node.attributes.get(attribute, "")), self._look)

    def said(self, value: Any) -> str:
        """A value that may hold placeholders: a sole one is what fills it."""
        if isinstance(value, str):
            sole = parse(value).sole
            found = self._input(sole) if sole is not None else None
            return found.value.words if found is not None else template(value, self._look)
        gaps = parse_filled(value).placeholders
        return shortened(constant(value).short) if not gaps else template(constant(value).short, self._look)

    @property
    def free(self) -> list[Input]:
        """The inputs that no text of the step uses."""
        used = parse_filled(list(self.node.attributes.values()))
        in_text = {id(self._input(Placeholder("name", one))) for one in used.names}
        in_text |= {id(self._input(Placeholder("position", one))) for one in used.positions}
        in_text |= {id(self._input(Placeholder("node", one))) for one in used.node_ids}
        return [one for one in self.inputs if id(one) not in in_text]

    @property
    def tested(self) -> str:
        """What a routing step looks at."""
        own = own_input(self.node.op, [one.port for one in self.inputs])
        index = own if own is not None else 0
        return self.inputs[index].value.words if index < len(self.inputs) else "its input"

    @property
    def first(self) -> str:
        return self.inputs[0].value.words if self.inputs else "its input"

    def all(self, word: str = "and") -> str:
        return several([one.value for one in self.inputs], word)

    def _look(self, gap: Placeholder) -> str:
        found = self._input(gap)
        return found.value.short if found is not None else str(gap.key)

    def _input(self, gap: Placeholder) -> Input | None:
        if gap.kind == "position":
            plain = [one for one in self.inputs if is_position(one.port)]
            return plain[int(gap.key)] if int(gap.key) < len(plain) else None
        if gap.kind == "name":
            return next((one for one in self.inputs if one.port == gap.key), None)
        return next((one for one in self.inputs if gap.key == one.source or one.port == f"node_{gap.key}"), None)


Sentence: TypeAlias = "Callable[[Scene], str]"


# ---- values and control ----------------------------------------------------------------------------------------------
def _constant(scene: Scene) -> str:
    value = scene.node.attributes["value"]
    return f"gives {quoted(value) if isinstance(value, str) else shortened(constant(value).short)}"


def _print(scene: Scene) -> str:
    if not scene.node.attributes.get("message"):
        return f"shows {scene.all()}" if scene.inputs else "shows an empty line"
    more = [one.value for one in scene.free] if not parse(scene.get("message")).placeholders else []
    return f"shows {scene.text('message')}" + (f" and {several(more)}" if more else "")


def _merge(scene: Scene) -> str:
    one = len(scene.inputs) == 1
    match scene.get("mode") or "array":
        case "any":
            return f"takes {scene.first}" if one else f"takes {scene.all('or')}, whichever is there"
        case "race":
            return f"takes {scene.all('or')}, whichever comes first, and stops what leads only to the others"
        case "first_success":
            return f"takes {scene.all('or')}, whichever comes first without a failure"
        case "concat":
            return f"joins the texts of {scene.all()}"
        case "sum":
            return f"adds up {scene.all()}"
    return f"gathers {scene.all()} in a list"


def _wait_all(scene: Scene) -> str:
    return f"waits for {scene.all()} and gives their list" if scene.inputs else "gives an empty list"


def _fence(scene: Scene) -> str:
    return "makes sure that everything written to memory so far is safe before anything after it begins"


def _branch(scene: Scene) -> str:
    if scene.has("condition"):
        return f"tests whether {scene.tested} {condition(scene.get('condition'))}"
    return f"tests whether {scene.tested} is {constant(scene.get('value')).words}"


def _switch(scene: Scene) -> str:
    cases = [quoted(one, 40) for one in scene.get("case_labels") or scene.node.regions if one != "default"]
    match scene.get("match"):
        case "contains":
            return f"looks which text occurs in {scene.tested}: {listed(cases, 'or')}"
        case "regex":
            return f"looks which pattern matches {scene.tested}: {listed(cases, 'or')}"
    case = ", upper or lower case" if scene.get("match") == "casefold" else ""
    return f"looks whether {scene.tested} is {listed(cases, 'or')}{case}" if cases else f"looks at {scene.tested}"


def _guard(scene: Scene) -> str:
    text = f"lets {scene.first} pass only if it {condition(scene.get('condition'))}"
    if scene.get("on_fail") == "skip":
        return f"{text}; otherwise what needs it is skipped"
    return f"{text}; otherwise the step fails" + (f" with {scene.text('error_message')}" if scene.has("error_message") else "")


def _loop(scene: Scene) -> str:
    most = scene.get("max_iterations")
    counted = next((one.value.words for one in scene.inputs if one.port == "count"), None)
    text = f"repeats the following at most {count(most, 'time')}"
    text = f"repeats the following as often as {counted} says, at most {count(most, 'time')}" if counted is not None else text
    carry = scene.get("carry")
    if scene.has("while"):
        text += f", while {name(carry[0]) if carry else 'the result'} {condition(scene.get('while'))}"
    if scene.has("until"):
        text += f", until the result {condition(scene.get('until'))}"
    if carry:
        begin = {one.port: one.value.words for one in scene.inputs}
        first = [f"{name(one)} begins as {_begin(one, begin)}" for one in carry]
        then = "is then the result of the time before" if len(carry) == 1 else "they are then what the time before gave for them"
        text += f"; {listed(first)} and {then}" if len(carry) == 1 else f"; {listed(first)}; {then}"
    return text


def _begin(carried: str, begin: Mapping[str | None, str]) -> str:
    """What a carried value is before the first time."""
    words = begin.get(carried, "null")
    return "it came in" if words == name(carried) else words


def _map(scene: Scene) -> str:
    window = scene.node.attributes.get("window")
    items = "that item (a list itself)" if scene.tested == "the item" else scene.tested
    text = f"does the following for each item of {items}" + (f", at most {window:,} at a time," if window else "")
    kept = {"skip": ", without those of items that fail", "null": ", with null for items that fail"}
    if "reduce" in scene.node.regions:
        return text.rstrip(",") + kept.get(scene.get("on_item_error"), "")
    return text + " and gives the list of results" + kept.get(scene.get("on_item_error"), "")


def _jump(scene: Scene) -> str:
    return f"goes on at {name(scene.get('label'))}"


def _return(scene: Scene) -> str:
    return f"ends the flow and returns {scene.first}"


def _yield(scene: Scene) -> str:
    return f"gives {scene.first} as the result of {scene.result or 'this part'}"


def _try(scene: Scene) -> str:
    return "tries the following"


def _err(scene: Scene) -> str:
    if not scene.has("message"):
        made = scene.text("recovery_template") if scene.has("recovery_template") else "a text that says what went wrong"
        return f"turns {scene.first} into {made}"
    code = f" and the code {name(scene.get('code'))}" if scene.has("code") else ""
    kind = f" (class {scene.get('class')})" if scene.has("class") else ""
    return f"fails with {scene.text('message')}{code}{kind}"


def _exc(scene: Scene) -> str:
    if not scene.has("code"):
        return f"fails with {scene.text('message')}"
    given = f" with {scene.all()}" if scene.inputs else ""
    return f"runs Python in the sandbox{given}: {quoted(scene.get('code'))}"


# ---- the world and memory --------------------------------------------------------------------------------------------
def _arguments(scene: Scene, named: dict[str, Any], positional: Sequence[Any]) -> str:
    """` with A as x and B as y`."""
    said = {key: scene.said(value) for key, value in named.items()}
    free = scene.free
    said |= {one.port: one.value.words for one in free if one.port is not None and not is_position(one.port)}
    bare = [scene.said(value) for value in positional]
    bare += [one.value.words for one in free if is_position(one.port)]
    parts = [*bare, *(words if words == name(key) else f"{words} as {name(key)}" for key, words in said.items())]
    return f" with {listed(parts, most=ARGUMENTS_MAX)}" if parts else ""


def _inv(scene: Scene) -> str:
    attributes = scene.node.attributes
    params = attributes.get("params_json") or {}
    named = dict(params) if isinstance(params, dict) else {}
    named.update((key[4:], value) for key, value in attributes.items() if key.startswith("arg_"))
    positional = attributes.get("args") or []
    given = _arguments(scene, named, positional if isinstance(positional, list) else [positional])
    return f"calls the capability {name(attributes['capability'])}{given}"


def _qmem(scene: Scene) -> str:
    tier = TIERS[scene.get("memory_tier")]
    if scene.has("key"):
        return f"reads {scene.said(scene.get('key'))} from {tier}"
    what = scene.said(scene.get("query")) if scene.has("query") else scene.first
    where = f" whose fields are {constant(scene.get('where')).words}" if scene.has("where") else ""
    return f"searches {tier} for {what} and gives at most {count(scene.get('limit'), 'entry', 'entries')}{where}"


_SHARED = {"agent": "", "flow": " of this flow", "run": " of the whole run", "session": " of the session"}


def _umem(scene: Scene) -> str:
    free = scene.free
    what = free[0].value.words if free else scene.said(scene.node.attributes.get("value"))
    verb = "adds" if scene.get("memory_tier") == "episodic" else "stores"
    text = f"{verb} {what} under {scene.said(scene.get('key'))} in {TIERS[scene.get('memory_tier')]}"
    text += _SHARED[scene.get("scope")]
    text += f", for {duration(scene.get('ttl_ms'))}" if scene.has("ttl_ms") else ""
    text += ", and in long-term memory too" if scene.get("durable") else ""
    return text + (f", and as the belief {name(scene.get('belief_key'))}" if scene.has("belief_key") else "")


def _goal(scene: Scene) -> str:
    goal = scene.said(scene.node.attributes.get("goal_id", ""))
    match scene.get("action"):
        case "complete":
            return f"marks the goal {goal} as reached"
        case "remove":
            return f"drops the goal {goal}"
        case "clear":
            return "drops all goals of the agent"
    said = f": {scene.text('description')}" if scene.has("description") else ""
    return f"sets the goal {goal}" + (f" with priority {scene.get('priority')}" if scene.has("priority") else "") + said


def _agent(scene: Scene) -> str:
    return declared(scene.node.attributes, "the agent") or "declares the agent"


def declared(said: Mapping[str, Any], agent: str) -> str:
    """What an AGENT node or the metadata of an agent declares; "" when that is nothing. What makes no sense is passed over."""
    memories = [name(one) for one in _named(said.get("memory", said.get("memories")))]
    held, wanted = said.get("beliefs"), said.get("goals")
    beliefs = [f"{name(key)} is {constant(value).words}" for key, value in held.items()] if isinstance(held, dict) else []
    goals = [_wanted(one) for one in wanted] if isinstance(wanted, list) else []
    parts = [f"the memory {listed(memories)}"] if memories else []
    parts += [f"the belief that {listed(beliefs)}"] if beliefs else []
    parts += [f"the goal{'s' if goals[1:] else ''} {listed([quoted(one, 60) for one in goals])}"] if goals else []
    told = [f"gives {agent} {listed(parts)}"] if parts else []
    if any(said.get(key) is not None for key in ("capabilities", "tools")):
        names = [name(one) for key in ("capabilities", "tools") for one in _named(said.get(key))]
        told.append(f"lets {agent} use no capability" + (f" but {listed(names)}" if names else ""))
    told += [f"says what {agent} is: {quoted(said['context'])}"] if isinstance(said.get("context"), str) else []
    return listed(told)


def _named(several: Any) -> list[str]:
    """The names in a map by name, or in a list of names and of maps with one."""
    rows = several if isinstance(several, (list, dict)) else ()
    return [str(one.get("name", "?")) if isinstance(one, dict) else str(one) for one in rows]


def _wanted(goal: Any) -> str:
    return str(goal.get("description", goal.get("id", "?"))) if isinstance(goal, dict) else str(goal)


# ---- models ----------------------------------------------------------------------------------------------------------
def _asked(scene: Scene, verb: str, attribute: str = "template_str") -> str:
    """`asks a model: “…”`, with what else it gets."""
    which = f"the model {name(scene.get('model'))}" if scene.has("model") else "a model"
    text = scene.node.attributes.get(attribute, "")
    free = [one.value for one in scene.free]
    if not str(text).strip():
        return f"{verb.format(which)} {several(free[:1])}" if free else verb.format(which)
    if free and not parse(str(text)).placeholders:
        verb = f"{verb.removesuffix(':')}, with {several(free)} as context:"
    return f"{verb.format(which)} {scene.text(attribute)}"


def _extras(scene: Scene) -> str:
    tools = scene.get("tools") if scene.get("tools_enabled") else ()
    parts = []
    if tools:
        rounds = count(scene.get("max_iterations"), "round")
        parts.append(f"the model may call {listed([name(one) for one in tools], 'and')} for at most {rounds}")
    if scene.has("output_schema"):
        repairs = scene.get("max_schema_retries")
        parts.append(f"the answer must fit a JSON schema ({count(repairs, 'repair')} allowed)")
    if scene.has("token_budget"):
        parts.append(f"it may use {scene.get('token_budget'):,} tokens")
    return f"; {listed(parts)}" if parts else ""


def _ask(scene: Scene) -> str:
    return _asked(scene, "asks {}:") + _extras(scene)


def _think(scene: Scene) -> str:
    budget = f", for at most {scene.get('budget'):,} tokens," if scene.has("budget") else ""
    return _asked(scene, f"has {{}} think{budget} before it answers:") + _extras(scene)


def _inner(scene: Scene) -> str:
    runs = scene.node.attributes.get("enable_inner_plan", scene.get("inner_plan_supported"))
    if not runs:
        return ""
    tools = _named(scene.get("tools"))
    names = listed([name(one) for one in tools], "and") if tools else "what this flow names"
    return f"; the plan that the model makes is then run, and may call {names}, if granted"


def _recalling(scene: Scene) -> str:
    """What of memory the model is told, and what is stored of its answer."""
    text = f"; the model is told what memory has under {name(scene.get('context_key'))}" if scene.has("context_key") else ""
    return text + ("; what it comes to believe is stored in long-term memory too" if scene.get("durable") else "")


def _reason(scene: Scene) -> str:
    asked = _asked(scene, "has {} reason, which may change beliefs and goals of the agent:")
    return asked + _recalling(scene) + _extras(scene) + _inner(scene)


def _plan(scene: Scene) -> str:
    return _asked(scene, "has {} split this goal into steps:", "goal") + _recalling(scene) + _inner(scene)


def _reflect(scene: Scene) -> str:
    episodes = count(scene.get("history_limit"), "episode")
    whose = f" of {scene.text('trace_id')}" if scene.has("trace_id") else " of this run"
    whose = whose.replace("{", "{{").replace("}", "}}")  # it becomes part of a form that is filled in
    looking = f"has {{}} look back at up to {episodes}{whose}"
    return _asked(scene, f"{looking}:" if scene.node.attributes.get("template_str") or scene.free else looking)


def _verify(scene: Scene) -> str:
    which = f"the model {name(scene.get('model'))}" if scene.has("model") else "a model"
    free = [one.value.words for one in scene.free]
    gives = ", and gives true or false" if scene.get("as_bool") else ""
    if scene.has("condition"):
        return f"has {which} check whether {scene.first} meets {scene.text('condition')}{gives}"
    claim = scene.said(scene.get("claim")) if scene.has("claim") else (free.pop(0) if free else "its input")
    evidence = scene.said(scene.get("evidence")) if scene.has("evidence") else (free.pop(0) if free else "")
    return f"has {which} check whether {claim} {f'follows from {evidence}' if evidence else 'is true'}{gives}"


# ---- others ----------------------------------------------------------------------------------------------------------
def _communicate(scene: Scene) -> str:
    what = scene.said(scene.get("message")) if scene.has("message") else scene.first
    to = scene.get("recipient")
    match scene.get("protocol"):
        case "broadcast":
            whom = "every agent that listens"
        case "local":
            whom = f"the agent {name(str(to))}"
        case _:
            whom = quoted(str(to), 60)
    return f"sends {what} to {whom}" + (" and waits for the reply" if scene.get("reply") else "")


def _flow_call(scene: Scene) -> str:
    args = scene.node.attributes.get("args") or {}
    named = args if isinstance(args, dict) else {}
    positional = args if isinstance(args, list) else [args] if isinstance(args, str) else []
    whose = f" of the agent {name(scene.get('agent_name'))}" if scene.has("agent_name") else ""
    return f"calls the flow {name(scene.get('flow_name'))}{whose}{_arguments(scene, named, positional)}"


def _claim(scene: Scene) -> str:
    wait, lease = duration(scene.get("max_wait_ms")), duration(scene.get("lease_ms"))
    text = f"takes a task from the queue {name(scene.get('queue'))}, waiting at most {wait} for one"
    return f"{text}, and holds it, by leases of {lease}, until what follows is done"


def _pause(scene: Scene) -> str:
    text = f"asks a person {scene.text('message')} and waits for the answer"
    if not scene.get("timeout_ms"):
        default = f"; a run that does not wait goes on with {constant(scene.get('default')).words}"
        return text + default if scene.has("default") else text
    late = f"goes on with {constant(scene.get('default')).words}" if scene.has("default") else "fails"
    return f"{text}; after {duration(scene.get('timeout_ms'))} without one it {late}"


def _resume(scene: Scene) -> str:
    limit = scene.get("timeout_ms") or scene.get("poll_max_attempts") * scene.get("poll_interval_ms")
    return f"waits at most {duration(limit)} for the answer to the checkpoint {scene.text('checkpoint')}"


SENTENCES: dict[str, Sentence] = {
    "CONST_STR": _constant,
    "PRINT": _print,
    "MERGE": _merge,
    "WAIT_ALL": _wait_all,
    "FENCE": _fence,
    "BRANCH_ON_VALUE": _branch,
    "SWITCH": _switch,
    "GUARD": _guard,
    "LOOP": _loop,
    "MAP": _map,
    "JUMP": _jump,
    "RETURN": _return,
    "YIELD": _yield,
    "TRY_CATCH": _try,
    "ERR": _err,
    "EXC": _exc,
    "INV": _inv,
    "QMEM": _qmem,
    "UMEM": _umem,
    "UPDATE_GOAL": _goal,
    "AGENT": _agent,
    "ASK": _ask,
    "THINK": _think,
    "REASON": _reason,
    "PLAN": _plan,
    "REFLECT": _reflect,
    "VERIFY": _verify,
    "COMMUNICATE": _communicate,
    "FLOW_CALL": _flow_call,
    "CLAIM": _claim,
    "PAUSE": _pause,
    "RESUME": _resume,
}


def sentence(scene: Scene) -> str:
    """What a step does, without its name and without a full stop."""
    return SENTENCES[scene.node.op](scene)
