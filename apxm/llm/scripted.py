"""A model that answers from a script: for tests, demonstrations and rehearsals. It never surprises and never calls out.

In Python a rule is `(what, answer)` or a `Rule`. `what` is a pattern, the name of a node, or a function of the prompt:

    model = ScriptedModel(
        rules=[
            ("draft", "A first draft."),                                # the node `draft`, or a prompt with "draft" in it
            (r"(?i)capital of (France|Spain)", ["Paris.", "Madrid."]),  # one answer for each call, then the rule is used up
            (lambda prompt: prompt.seed == 7, TransientError("busy")),  # raised
            Rule("Fine.", node="check", failures=2),                    # two transient errors first
            (".", lambda prompt: prompt.messages[-1].content.upper()),  # computed; may be async
        ],
        default="I do not know.",
    )

The first rule that matches answers. Patterns are RE2 (linear time), searched in the text of the user turns. Answers that
are not text are given as JSON; a `ToolCall`, or a tuple of them, asks for calls of tools. `Rule(..., tool=PATTERN)` is for the
turn after that: its pattern is searched in what the tools have just said, that of `Rule(..., system=PATTERN)` in the system
prompt. A prompt that nothing matches is a `ModelError` that shows it beside the nearest rule.

A file is the same as JSON, `{"rules": [...], "default": ...}`, or as JSON lines with one rule on each (`.jsonl`):

    {"match": "capital of France", "answer": "Paris."}
    {"node": "check", "answers": ["no", {"ok": true}], "failures": 1, "delay_s": 0.2}
    {"node": "broken", "error": "this always fails"}
    {"node": "clerk", "answers": [{"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]}, "It is 3."]}
    {"tool": "error", "answer": "The tool failed."}
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from collections import deque
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import InvalidError, ModelError, TransientError
from apxm.graph.template import as_text
from apxm.llm.base import Message, Prompt, Reply, ToolCall, Usage, prompt_tokens
from apxm.llm.text import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    What: TypeAlias = str | Callable[[Prompt], bool]

CALLS_KEPT = 10_000
SHOWN_CHARS = 200
_NOTHING: Any = object()
_RULE_KEYS = ("match", "node", "tool", "system", "answer", "answers", "error", "failures", "delay_s")
_FILE_KEYS = ("name", "rules", "default", "delay_s")


@dataclass(slots=True)
class Rule:
    """One answer, or a list of answers given one by one, for the prompts that it matches.

    `match` is an RE2 pattern, `node` the name of a node, `test` a function of the prompt, `tool` and `system` are RE2 patterns
    for what the tools said last and for the system prompt; those that are given must all hold. The first `failures` calls
    raise a TransientError. `delay_s` replaces that of the model.
    """

    answer: Any
    match: str | None = None
    node: str | None = None
    test: Callable[[Prompt], bool] | None = None
    failures: int = 0
    delay_s: float | None = None
    name: str | None = None  # a node name that matches as well as the pattern does
    tool: str | None = None
    system: str | None = None
    used: int = field(default=0, init=False)
    _pattern: Any = field(default=None, init=False, repr=False)
    _turns: list[tuple[Any, Callable[[Prompt], list[Message]]]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.match is not None:
            self._pattern = _compiled(self.match)
        for pattern, turns in ((self.tool, _last_heard), (self.system, _told)):
            if pattern is not None:
                self._turns.append((_compiled(pattern), turns))

    def accepts(self, prompt: Prompt, text: str) -> bool:
        """Whether this rule is for the prompt, used up or not."""
        asked = prompt.metadata.get("node")
        if self.node is not None and self.node != asked:
            return False
        named = self.name is not None and self.name == asked
        if self._pattern is not None and not named and self._pattern.search(text) is None:
            return False
        for pattern, turns in self._turns:
            if not any(pattern.search(turn.content) for turn in turns(prompt)):
                return False
        return self.test is None or bool(self.test(prompt))

    @property
    def left(self) -> bool:
        """Whether it has an answer left."""
        return not isinstance(self.answer, list) or self.used < self.failures + len(self.answer)

    def take(self) -> Any:
        """The next answer: a value, or an error to raise."""
        self.used += 1
        if self.used <= self.failures:
            return TransientError(f"scripted failure {self.used} of {self.failures}")
        return self.answer[self.used - self.failures - 1] if isinstance(self.answer, list) else self.answer

    def __str__(self) -> str:
        what = [f"match `{self.match}`"] if self.match is not None else []
        what += [f"node `{self.node}`"] if self.node is not None else []
        what += [f"tool `{self.tool}`"] if self.tool is not None else []
        what += [f"system `{self.system}`"] if self.system is not None else []
        what += [f"test {getattr(self.test, '__name__', 'function')}"] if self.test is not None else []
        return " and ".join(what) or "any prompt"


@dataclass(slots=True)
class Call:
    """One call that a scripted model got; `reply` or `error` once it has ended."""

    prompt: Prompt
    reply: Reply | None = None
    error: BaseException | None = None

    @property
    def text(self) -> str:
        """What the user turns say."""
        return self.prompt.text


class ScriptedModel:
    """Answers from rules (see the module's text). `calls` has what it was asked; usage is counted, the same every time."""

    def __init__(
        self,
        rules: Iterable[Rule | tuple[What, Any]] = (),
        default: Any = _NOTHING,
        *,
        delay_s: float = 0.0,
        name: str = "scripted",
    ) -> None:
        self.name = name
        self.delay_s = delay_s
        self.rules = [rule if isinstance(rule, Rule) else _rule(rule) for rule in rules]
        self.default = default
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self._lock = Lock()

    @classmethod
    def load(cls, path: str | Path, *, name: str | None = None) -> ScriptedModel:
        """A model that answers from a file; InvalidError names the file and the place when it is none."""
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidError(f"script {file} cannot be read: {error}") from error
        script = _parsed_lines(file, text) if file.suffix in (".jsonl", ".ndjson") else _parsed(file, text)
        _refuse_keys(script, _FILE_KEYS, f"script {file}")
        rules = [_rule_of(entry, f"script {file}, rule {number}") for number, entry in enumerate(script.get("rules", []), 1)]
        return cls(
            rules,
            script.get("default", _NOTHING),
            delay_s=script.get("delay_s", 0.0),
            name=name or script.get("name", "scripted"),
        )

    def count_tokens(self, text: str) -> int:
        """Four characters for a token."""
        return estimate_tokens(text)

    async def complete(self, prompt: Prompt) -> Reply:
        """The answer of the first rule that matches and has one left, else the default, else a ModelError."""
        call = Call(prompt)
        with self._lock:
            self.calls.append(call)
        try:
            call.reply = await self._reply(prompt)
        except BaseException as error:
            call.error = error
            raise
        return call.reply

    async def _reply(self, prompt: Prompt) -> Reply:
        answer, delay_s = self._choose(prompt)
        if delay_s:
            await asyncio.sleep(delay_s)
        if callable(answer) and not isinstance(answer, type):
            answer = answer(prompt)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, type) and issubclass(answer, BaseException):
            answer = answer("scripted failure")
        if isinstance(answer, BaseException):
            raise _fresh(answer)
        if isinstance(answer, Reply):
            return answer
        asked = prompt_tokens(self, prompt)
        if (calls := _calls(answer)) is not None:
            turn = len(prompt.messages)
            calls = tuple(replace(call, id=call.id or f"call_{turn}_{n}") for n, call in enumerate(calls, 1))
            said = sum(self.count_tokens(f"{call.name} {call.arguments}") for call in calls)
            return Reply("", Usage(asked, said), self.name, "tools", calls)
        text = as_text(answer)
        return Reply(text, Usage(asked, self.count_tokens(text)), self.name)

    def _choose(self, prompt: Prompt) -> tuple[Any, float]:
        text = prompt.text
        matching = [rule for rule in self.rules if rule.accepts(prompt, text)]
        with self._lock:
            for rule in matching:
                if rule.left:
                    return rule.take(), self.delay_s if rule.delay_s is None else rule.delay_s
        if self.default is not _NOTHING:
            return self.default, self.delay_s
        raise self._unmatched(prompt, text, matching)

    def _unmatched(self, prompt: Prompt, text: str, matching: Sequence[Rule]) -> ModelError:
        flat = " ".join(text.split())
        head = flat if len(flat) <= SHOWN_CHARS else f"{flat[:SHOWN_CHARS]}…"
        node = prompt.metadata.get("node")
        place = f" of node `{node}`" if node else ""
        if matching:
            hint = f"the rule for {matching[0]} matches, but its {len(matching[0].answer)} answers are used up"
        elif self.rules:
            near = max(self.rules, key=lambda rule: _nearness(rule, str(node or ""), flat[:2_000]))
            hint = f"the nearest of its {len(self.rules)} rules is for {near}"
        else:
            hint = "it has no rules; give it rules or a default"
        return ModelError(f"model `{self.name}` has no scripted answer for the prompt{place} `{head}`", hint=hint)


def _calls(answer: Any) -> tuple[ToolCall, ...] | None:
    """The calls that an answer asks for; None when it is no such answer."""
    if isinstance(answer, ToolCall):
        return (answer,)
    several = isinstance(answer, tuple) and answer and all(isinstance(one, ToolCall) for one in answer)
    return answer if several else None


def _last_heard(prompt: Prompt) -> list[Message]:
    """The tool turns at the end of a prompt: what the calls gave that the model asked for last."""
    found: list[Message] = []
    for message in reversed(prompt.messages):
        if message.role != "tool":
            break
        found.append(message)
    return found


def _told(prompt: Prompt) -> list[Message]:
    """The system turns of a prompt."""
    return [message for message in prompt.messages if message.role == "system"]


def _fresh(error: BaseException) -> BaseException:
    """A copy to raise: whoever catches it may write on it where it happened."""
    try:
        return copy.copy(error)
    except Exception:  # an exception class of a user that cannot be copied
        return error.with_traceback(None)


def _nearness(rule: Rule, node: str, text: str) -> float:
    """How close a rule came: the longest piece of it that the prompt has, as a share."""
    wanted = rule.match or rule.node or ""
    if not wanted:
        return 0.0
    matcher = SequenceMatcher(None, wanted.casefold(), (node if rule.match is None else text).casefold(), autojunk=False)
    return matcher.find_longest_match().size / len(wanted)


def _rule(pair: tuple[What, Any]) -> Rule:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise InvalidError(f"a scripted rule is a pair (what, answer) or a Rule, not {pair!r:.80}")
    what, answer = pair
    if isinstance(what, str):
        return Rule(answer, match=what, name=what)
    if callable(what):
        return Rule(answer, test=what)
    raise InvalidError(f"a scripted rule is for a pattern, a node name or a function of the prompt, not {what!r:.80}")


def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise InvalidError(f"scripted pattern `{pattern}` is no RE2 pattern: {_message(error)}") from error


def _message(error: Exception) -> str:
    text = error.args[0] if error.args else error
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _rule_of(entry: Any, place: str) -> Rule:
    """A rule as a file has it."""
    if not isinstance(entry, dict):
        raise InvalidError(f"{place} is a {type(entry).__name__}, expected a map such as {{match, answer}}")
    _refuse_keys(entry, _RULE_KEYS, place)
    given = [key for key in ("answer", "answers", "error") if key in entry]
    if len(given) != 1:
        raise InvalidError(f"{place} has {', '.join(given) or 'no answer'}; expected one of answer, answers, error")
    for key, kinds, expected in (
        ("match", str, "a text"),
        ("node", str, "a text"),
        ("tool", str, "a text"),
        ("system", str, "a text"),
        ("answers", list, "a list"),
        ("error", str, "a text"),
        ("failures", int, "a count"),
        ("delay_s", (int, float), "seconds"),
    ):
        value = entry.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise InvalidError(f"{place}: `{key}` is {value!r:.60}, expected {expected}")
    if given[0] == "answer" and isinstance(entry["answer"], list):
        answer: Any = json.dumps(entry["answer"], ensure_ascii=False)  # a list that is one answer
    else:
        answer = ModelError(entry["error"]) if given[0] == "error" else entry[given[0]]
    answer = [_asked(one, place) for one in answer] if isinstance(answer, list) else _asked(answer, place)
    try:
        return Rule(
            answer,
            entry.get("match"),
            entry.get("node"),
            failures=entry.get("failures", 0),
            delay_s=entry.get("delay_s"),
            tool=entry.get("tool"),
            system=entry.get("system"),
        )
    except InvalidError as error:
        raise InvalidError(f"{place}: {error}") from error


def _asked(answer: Any, place: str) -> Any:
    """The calls that `{"tool_calls": [...]}` stands for; any other answer as it is."""
    if not isinstance(answer, dict) or answer.keys() != {"tool_calls"}:
        return answer
    calls = answer["tool_calls"]
    if not isinstance(calls, list) or not calls:
        raise InvalidError(f"{place}: `tool_calls` is {calls!r:.60}, expected a list of {{name, arguments}}")
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not isinstance(call.get("arguments", {}), dict):
            raise InvalidError(f"{place}: {call!r:.60} is no call, expected {{name, arguments}}")
        _refuse_keys(call, ("name", "arguments"), place)
    return tuple(ToolCall("", call["name"], call.get("arguments", {})) for call in calls)


def _parsed(file: Path, text: str) -> Mapping[str, Any]:
    try:
        script = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"script {file} is no JSON: {error}", hint="name it .jsonl when every line is a rule") from error
    if isinstance(script, list):
        return {"rules": script}
    if not isinstance(script, dict) or not isinstance(script.get("rules", []), list):
        raise InvalidError(f"script {file} is no list of rules", hint='expected {"rules": [...], "default": ...}')
    return script


def _parsed_lines(file: Path, text: str) -> Mapping[str, Any]:
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rules.append(json.loads(line))
            except ValueError as error:
                raise InvalidError(f"script {file}, line {number} is no JSON: {error}") from error
    return {"rules": rules}


def _refuse_keys(entry: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in entry:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            raise InvalidError(f"{place} has the unknown key `{key}`", hint=f"close: `{close[0]}`" if close else ", ".join(known))
