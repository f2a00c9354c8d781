"""A finished draft becomes an ExecutionDag: columns in topological order, with ranks."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from apxm.compiler.ranks import upward_ranks
from apxm.dag import CONTROL, DATA, EFFECT, PARAMETER_CODE, ExecutionDag
from apxm.graph.model import Dependency
from apxm.graph.region import is_position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.compiler.draft import Draft

_KINDS = {Dependency.DATA: DATA, Dependency.CONTROL: CONTROL, Dependency.EFFECT: EFFECT}
NO_ID = -1  # the id of a parameter slot


def emit(draft: Draft, agent: str) -> ExecutionDag:
    """The dag of a draft and of the regions in it. Equal attribute maps are shared: they are never changed."""
    return _emit(draft, agent, {})


def _emit(draft: Draft, agent: str, shared: dict[bytes, Mapping[str, Any]]) -> ExecutionDag:
    first = len(draft.parameters)
    order = draft.order()
    slots: dict[int | str, int] = {parameter.name: slot for slot, parameter in enumerate(draft.parameters)}
    slots.update((id, slot) for slot, id in enumerate(order, first))
    offsets, sources, kinds = array("I", [0] * (first + 1)), array("I"), bytearray()
    ports: dict[int, str] = {}
    labels: dict[int, str] = {}
    ins = draft.ins()
    for id in order:
        for edge in ins[id]:
            if edge.port is not None and not is_position(edge.port):
                ports[len(sources)] = edge.port
            if edge.label is not None:
                labels[len(sources)] = edge.label
            sources.append(slots[edge.source])
            kinds.append(_KINDS[edge.dependency])
        offsets.append(len(sources))
    steps = [draft.steps[id] for id in order]
    regions = {
        slots[step.id]: {name: _emit(region, agent, shared) for name, region in sorted(step.regions.items())}
        for step in steps
        if step.regions
    }
    assert draft.exits is not None
    return ExecutionDag(
        name=draft.name,
        agent=agent,
        ops=bytes([PARAMETER_CODE] * first) + bytes(step.op.code for step in steps),
        ids=array("q", [NO_ID] * first + order),
        names=[*(parameter.name for parameter in draft.parameters), *(step.name for step in steps)],
        in_offsets=offsets,
        in_sources=sources,
        in_kinds=bytes(kinds),
        exits=[slots[id] for id in draft.exits],
        ranks=upward_ranks([step.op for step in steps], first, offsets, sources, regions),
        parameters=draft.parameters,
        attributes={slots[step.id]: _share(step.attributes, shared) for step in steps if step.attributes},
        ports=ports,
        labels=labels,
        regions=regions,
        metadata=draft.metadata,
    )


def _share(attributes: Mapping[str, Any], shared: dict[bytes, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The one map for these attributes, sorted by name."""
    import msgpack

    ordered = {name: attributes[name] for name in sorted(attributes)}
    try:
        return shared.setdefault(msgpack.packb(ordered), ordered)
    except (TypeError, ValueError, OverflowError):
        return ordered  # an artifact will refuse it and say where it is; a run may take it
