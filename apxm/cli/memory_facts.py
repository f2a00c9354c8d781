"""`apxm memory facts`: what was learnt, to list, search, add and remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.remembered import CONFIG, MORE, NAMESPACE, TEXT_SHOWN

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from apxm.memory.facts import Fact, Facts
    from apxm.memory.ltm.system import LongTermMemory

SAME_SHOWN = 5  # ids that a message names when several begin alike
TAGS_SHOWN = 30  # characters


def facts(order: Namespace) -> int:
    """Do what is asked with the facts of a namespace; the exit code."""
    from apxm.cli import remembered
    from apxm.cli.text import spelling
    from apxm.errors import InvalidError
    from apxm.memory.facts import Facts

    action = ACTIONS.get(order.action or "ls")
    if action is None:
        raise InvalidError(f"`apxm memory facts` has no `{order.action}`", hint=spelling(order.action, ACTIONS))
    wanted = WANTED.get(order.action)
    if (order.what is None) is not (wanted is None):
        what = "takes nothing behind it" if wanted is None else f"needs {wanted}"
        raise InvalidError(f"`apxm memory facts {order.action or 'ls'}` {what}")
    with remembered.opened(order) as memory:
        if order.action == "rm":
            order.what = _id(memory, order.namespace, order.what)
        return action(Facts(memory), order)


def _list(known: Facts, order: Namespace) -> int:
    from apxm.cli import remembered, report

    limit = remembered.bounded(order.limit)
    found = known.list(namespace=order.namespace, **_asked(order), limit=limit + 1)
    if _said(found[:limit], order):
        if len(found) > limit:
            report.say("there are more; `--limit N` shows them")
    elif not order.json:
        chosen = order.tag or order.source or order.session
        report.say(f"{remembered.namespace_text(order.namespace)} has no fact{' like that' if chosen else ''}")
    return Exit.OK


def _search(known: Facts, order: Namespace) -> int:
    from apxm.cli import remembered, report

    limit = remembered.bounded(order.limit)
    found = known.search(order.what, namespace=order.namespace, **_asked(order), limit=limit, min_score=order.min_score)
    if not _said(found, order) and not order.json:
        report.say(f"no fact in {remembered.namespace_text(order.namespace)} answers that")
    return Exit.OK


def _add(known: Facts, order: Namespace) -> int:
    from apxm.cli import report
    from apxm.cli.text import as_json

    fact = known.store(
        order.what,
        namespace=order.namespace,
        tags=order.tag,
        source=order.source,
        session=order.session,
        labels=tuple(order.label),
    )
    report.emit(as_json(fact_map(fact)) if order.json else fact.id)
    return Exit.OK


def _remove(known: Facts, order: Namespace) -> int:
    from apxm.cli import report
    from apxm.cli.text import as_json

    known.delete(order.what, namespace=order.namespace)
    report.emit(as_json({"deleted": [order.what]}) if order.json else f"deleted fact {order.what}")
    return Exit.OK


def _id(memory: LongTermMemory, namespace: str, text: str) -> str:
    """The id of the one fact whose id is or begins with `text`. InvalidError when there is none, or more than one."""
    from apxm.cli.remembered import namespace_text
    from apxm.cli.text import line
    from apxm.errors import InvalidError

    found = [entry.key for entry in memory.list(namespace=namespace, kind="fact", prefix=text, limit=SAME_SHOWN)] if text else []
    if text in found or len(found) == 1:
        return text if text in found else found[0]
    name = f"`{line(text, 60)}`"
    if found:
        some = ", ".join(f"`{line(each, 60)}`" for each in found)
        raise InvalidError(f"several facts of {namespace_text(namespace)} begin with {name}", hint=f"write more of it: {some}")
    raise InvalidError(f"{namespace_text(namespace)} has no fact {name}", hint="`apxm memory facts` lists those that are")


def _asked(order: Namespace) -> dict[str, Any]:
    return {"tags": order.tag or None, "source": order.source, "session": order.session}


def _said(found: list[Fact], order: Namespace) -> bool:
    """Print facts as they are wanted; False when there are none, and nothing is printed for a person."""
    from apxm.cli import remembered, report
    from apxm.cli.text import as_json

    if order.json:
        report.emit(as_json([fact_map(fact) for fact in found]))
    elif found:
        scored = any(fact.score is not None for fact in found)
        head = ("score", *HEAD) if scored else HEAD
        rows = [_row(fact, scored) for fact in found]
        remembered.show(head, rows, right=("score",), give=("id", "tags", "source", "text"))
    return bool(found)


HEAD = ("id", "told", "tags", "source", "text")


def _row(fact: Fact, scored: bool) -> tuple[str, ...]:
    from apxm.cli.runs import moment
    from apxm.cli.text import line

    tags, source = (line(text, TAGS_SHOWN) or "-" for text in (", ".join(fact.tags), fact.source or ""))
    row = (line(fact.id, 40), moment(fact.updated_at), tags, source, line(fact.text, TEXT_SHOWN))
    return (f"{fact.score or 0:.3f}", *row) if scored else row


def fact_map(fact: Fact) -> dict[str, Any]:
    """A fact as data; `score` only where a search found it."""
    names = ("id", "namespace", "text", "source", "session", "created_at", "updated_at")
    said = {name: getattr(fact, name) for name in names}
    said |= {"tags": list(fact.tags), "labels": list(fact.labels), "metadata": dict(fact.metadata)}
    return said if fact.score is None else {"score": fact.score} | said


ACTIONS: dict[str, Callable[[Facts, Namespace], int]] = {"ls": _list, "search": _search, "add": _add, "rm": _remove}
WANTED = {"search": "a QUERY", "add": "a TEXT", "rm": "the ID of a fact, or its beginning"}

COMMANDS = {
    "memory facts": Command(
        "memory facts",
        "List, search, add and remove facts: short texts worth keeping.",
        "`apxm memory facts` lists them, the one told last first; `facts search QUERY`, `facts add TEXT`, `facts rm ID`.\n"
        "In a search newer facts go before older ones that are as good, and none says what another said.",
        (
            Option("action", "ls (default), search, add or rm", "ACTION", optional=True, choices=tuple(ACTIONS)),
            Option("what", "the query, the text, or the id or its beginning", "WHAT", optional=True),
            NAMESPACE,
            Option("--tag", "only with this tag; of `add`: give it one; repeatable", "TAG", repeat=True),
            Option("--source", "only from there; of `add`: where it is from", "TEXT"),
            Option("--session", "only of this session; of `add`: of which it is", "NAME"),
            Option("--label", "of `add`: where it came from, as labels say it: `web`; repeatable", "LABEL", repeat=True),
            Option("--min-score", "of `search`: only what scores at least this, 0 to 1", "SCORE", type=float, default=0.0),
            MORE,
            CONFIG,
            JSON,
        ),
        facts,
    ),
}
