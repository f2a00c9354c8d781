"""May this call be made, with these arguments? Interceptors, provenance of arguments, and people. Runs no capability."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from inspect import isawaitable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import ApxmError, ConfigError, DeniedError
from apxm.labels import MANY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from apxm.capability.record import CapabilityRecord

CALL = ""  # stands for the call itself among the labels of its arguments, where it has none
UNTRUSTED: tuple[str, ...] = ("llm:*", "web")  # where text comes from that may be an attack; `many` always counts among it


@dataclass(frozen=True, slots=True)
class Allow:
    """An interceptor or an approver has nothing against the call."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call is not made; `reason` is part of the error."""

    reason: str


@dataclass(frozen=True, slots=True)
class Edit:
    """The call goes on with these arguments, by name. They are checked as if the program had given them.

    An argument that is no longer the same object counts as made of all that came in.
    """

    arguments: Mapping[str, Any]


Verdict: TypeAlias = Allow | Deny | Edit


@dataclass(frozen=True, slots=True)
class Request:
    """A call, as interceptors and approvers see it.

    `arguments` are by name. `labels` says for each of them where its value came from; it is looked up when asked
    for. `run`, `agent` and `node` are None when the host calls. `reasons` say why a person is asked.
    """

    capability: str
    arguments: Mapping[str, Any]
    effect: str
    run: str | None
    agent: str | None
    node: str | None
    reasons: tuple[str, ...] = ()
    _look: Callable[[], Mapping[str, tuple[str, ...]]] = field(default=dict, repr=False, compare=False)

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        return self._look()


Interceptor: TypeAlias = "Callable[[Request], Verdict | Awaitable[Verdict]]"
Approver: TypeAlias = "Callable[[Request], Verdict | bool | Awaitable[Verdict | bool]]"


@dataclass(frozen=True, slots=True)
class Trust:
    """What one run allows beyond the records: labels that may reach arguments of guarded capabilities, all or one of them."""

    everywhere: tuple[str, ...] = ()
    somewhere: tuple[tuple[str, str], ...] = ()  # (pattern of labels, capability)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Trust:
        """From `LABEL` and `LABEL=CAPABILITY`; a label may be a pattern: `llm:*`."""
        everywhere: list[str] = []
        somewhere: list[tuple[str, str]] = []
        for text in texts:
            pattern, equals, name = (part.strip() for part in text.partition("="))
            if not pattern or (equals and not name):
                raise ConfigError(f"{text!r} says no trust", hint="write `LABEL` or `LABEL=CAPABILITY`: `web=send_mail`, `llm:*`")
            if equals:
                somewhere.append((pattern, name))
            else:
                everywhere.append(pattern)
        return cls(tuple(everywhere), tuple(somewhere))

    def allows(self, label: str, capability: str) -> bool:
        """Whether values from there may reach the arguments of this capability."""
        return matches(label, self.everywhere) or matches(label, (one for one, name in self.somewhere if name == capability))


def matches(label: str, patterns: Iterable[str]) -> bool:
    """Whether a label is meant. `many` may stand for anything: only itself and `*` mean it."""
    if label == MANY:
        return any(pattern in (MANY, "*") for pattern in patterns)
    return any(fnmatchcase(label, pattern) for pattern in patterns)


def untrusted(label: str, patterns: Sequence[str]) -> bool:
    """Whether a guarded capability has to be kept from values of this origin."""
    return bool(patterns) and (label == MANY or matches(label, patterns))


def joined(labels: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All labels of several values, each once."""
    return tuple(dict.fromkeys(label for one in labels for label in one))


def breaches(
    record: CapabilityRecord,
    labels: Mapping[str, tuple[str, ...]],
    patterns: Sequence[str],
    trusts: Callable[[str, str], bool],
) -> list[tuple[str, str]]:
    """(argument, label) wherever untrusted text would reach a guarded argument, and nobody said that it may."""
    return [
        (argument, label)
        for argument, origins in labels.items()
        if record.guards is None or argument in record.guards
        for label in origins
        if untrusted(label, patterns) and not matches(label, record.trusts) and not trusts(label, record.name)
    ]


def breach_text(record: CapabilityRecord, where: str, breach: tuple[str, str]) -> str:
    """Which argument comes from where."""
    argument, label = breach
    what = f"its argument `{argument}`" if argument != CALL else "that it is called"
    return f"{where} is {record.effect.value}, and {what} comes from `{label}`, which is not trusted"


def breach_error(record: CapabilityRecord, where: str, breach: tuple[str, str]) -> DeniedError:
    """Names the node, the argument, the label, and the three ways out."""
    label, name = breach[1], record.name
    hint = (
        f"if that is meant: RunOptions(trust=['{label}={name}']) or --trust '{label}={name}' for this run, "
        f"trusts=('{label}',) in the CapabilityRecord for all, or capability_system().approver for a person to decide"
    )
    return DeniedError(breach_text(record, where, breach), code="policy", hint=hint)


async def intercepted(
    hooks: Sequence[Interceptor], request: Callable[[Mapping[str, Any]], Request], arguments: Mapping[str, Any], where: str
) -> Mapping[str, Any]:
    """Ask every interceptor, in order; each sees what the one before it made. DeniedError when one denies or fails."""
    for hook in hooks:
        named = f"interceptor `{getattr(hook, '__qualname__', None) or type(hook).__qualname__}`"
        try:
            said = hook(request(MappingProxyType(dict(arguments))))
            verdict = await said if isawaitable(said) else said
        except Exception as error:
            what = error.message if isinstance(error, ApxmError) else f"{type(error).__name__}: {error}"
            raise DeniedError(f"{where}: {named} failed: {what}", code="policy", hint="what fails allows nothing") from error
        match verdict:
            case Allow():
                continue
            case Deny(reason):
                raise DeniedError(f"{where}: {named} denied the call: {reason}", code="policy")
            case Edit(edited):
                arguments = dict(edited)
            case _:
                text = f"{where}: {named} returned {verdict!r:.60}, expected Allow(), Deny(reason) or Edit(arguments)"
                raise DeniedError(text, code="policy")
    return arguments


def approved(verdict: Any, where: str) -> None:
    """DeniedError unless the answer of an approver is a plain yes."""
    match verdict:
        case True | Allow():
            return
        case Deny(reason):
            raise DeniedError(f"{where} was not approved: {reason}", code="policy")
        case False:
            raise DeniedError(f"{where} was not approved", code="policy")
    text = f"{where}: the approver returned {verdict!r:.60}, expected True, False, Allow() or Deny(reason)"
    raise DeniedError(text, code="policy")
