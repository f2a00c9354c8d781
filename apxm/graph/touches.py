"""What flows may touch outside of themselves, in words: models, capabilities by effect, memory, people. Counts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.bounds import setting
from apxm.graph.ops import OPERATIONS, Effect
from apxm.graph.sentences import TIERS
from apxm.graph.wording import count, listed, name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from apxm.graph.model import Graph, Node

# effect class -> what a capability of it does: for one, for several
_DOES = {
    "pure": ("only computes", "only compute"),
    "read": ("only reads", "only read"),
    "idempotent": ("changes something, and may be repeated without harm", "change something, and may be repeated without harm"),
    "paid": ("costs something", "cost something"),
    "guarded": (
        "does what cannot be undone, and is never repeated by itself",
        "do what cannot be undone, and are never repeated by themselves",
    ),
    None: (
        "does is not in the program, so it is treated like what cannot be undone",
        "do is not in the program, so they are treated like what cannot be undone",
    ),
}
_FAILING = ("INV", "EXC", "ERR", "GUARD", "COMMUNICATE", "CLAIM", "PAUSE", "RESUME", "FLOW_CALL")


def touches(flows: Mapping[tuple[str, str], Graph], effects: Mapping[str, str | None]) -> list[str]:
    """Sentences about everything these flows may touch, by kind; the last ones about what happens on a failure."""
    nodes = [node for graph in flows.values() for node in every_node(graph)]
    by_op: dict[str, list[Node]] = {}
    for node in nodes:
        by_op.setdefault(node.op, []).append(node)
    said = [*_models(nodes), *_capabilities(by_op.get("INV", ()), effects), *_memory(by_op), *_others(by_op)]
    paragraphs = [" ".join(said) if said else "It touches nothing outside of itself."]
    if any(node.op in _FAILING or OPERATIONS[node.op].effect is Effect.PAID for node in nodes):
        paragraphs.append("A failure that no step above takes care of ends the run.")
    return paragraphs


def every_node(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of all regions in it."""
    for node in graph.nodes:
        yield node
        for region in node.regions.values():
            yield from every_node(region)


def _names(nodes: Iterable[Node]) -> str:
    return listed(list(dict.fromkeys(name(node.name) for node in nodes)))


def _models(nodes: Sequence[Node]) -> Iterator[str]:
    asking = [node for node in nodes if OPERATIONS[node.op].effect is Effect.PAID]
    if not asking:
        return
    models = list(dict.fromkeys(name(node.attributes["model"]) for node in asking if "model" in node.attributes))
    which = f" ({listed(models)})" if models else ""
    where = "in one step" if len(asking) == 1 else f"in {count(len(asking), 'step')}"
    yield f"It asks a model{which} {where}: {_names(asking)}."
    offered = dict.fromkeys(
        name(tool)
        for node in asking
        if setting(node, "tools") and setting(node, "tools_enabled")
        for tool in setting(node, "tools")
    )
    if offered:
        yield f"A model may call {listed(list(offered))} as it sees fit."


def _capabilities(nodes: Iterable[Node], effects: Mapping[str, str | None]) -> Iterator[str]:
    called = sorted({node.attributes["capability"] for node in nodes})
    for effect, (one, many) in _DOES.items():
        those = [name(capability) for capability in called if effects.get(capability) == effect]
        if not those:
            continue
        what = listed(those, most=12)
        does = one if len(those) == 1 else many
        kind = "capability" if len(those) == 1 else "capabilities"
        yield f"What the {kind} {what} {does}." if effect is None else f"The {kind} {what} {does}."


def _memory(by_op: Mapping[str, Sequence[Node]]) -> Iterator[str]:
    def tiers(op: str, more: str, extra: str) -> str:
        """Those that the nodes of an operation name, and `more` where some node says `extra`."""
        found = dict.fromkeys(TIERS[setting(node, "memory_tier")] for node in by_op.get(op, ()))
        if any(setting(node, extra) for nodes in by_op.values() for node in nodes):
            found[TIERS[more]] = None
        return listed(list(found))

    reads, writes = tiers("QMEM", "all", "context_key"), tiers("UMEM", "ltm", "durable")
    if reads and reads == writes:
        yield f"It reads and writes {reads}."
    elif reads and writes:
        yield f"It reads {reads} and writes {writes}."
    elif reads or writes:
        yield f"It {'reads' if reads else 'writes'} {reads or writes}."


def _others(by_op: Mapping[str, Sequence[Node]]) -> Iterator[str]:
    code = [node for node in by_op.get("EXC", ()) if "code" in node.attributes]
    if code:
        yield f"It runs Python code in the sandbox in {_names(code)}."
    for op, what in (
        ("COMMUNICATE", "sends messages to others in"),
        ("CLAIM", "takes tasks from a queue in"),
        ("PAUSE", "waits for a person in"),
        ("RESUME", "waits for an answer in"),
        ("PRINT", "shows text to whoever watches in"),
    ):
        if op in by_op:
            yield f"It {what} {_names(by_op[op])}."
