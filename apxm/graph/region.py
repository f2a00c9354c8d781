"""Which input binds which parameter of a region. Validation, lowering and binding all ask here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Parameters that the operation itself gives, when the region declares them.
RESERVED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("LOOP", "body"): ("iteration",),
    ("MAP", "body"): ("item", "index"),
    ("MAP", "reduce"): ("items",),
    ("TRY_CATCH", "catch"): ("error",),
}

# The port of the input that the operation keeps for itself; without it, the first positional input, if `True`.
_OWN_PORTS: Mapping[str, tuple[str, bool]] = {
    "BRANCH_ON_VALUE": ("token", True),
    "SWITCH": ("discriminant", True),
    "MAP": ("items", True),
    "LOOP": ("count", False),
}


def reserved(op: str, region: str) -> tuple[str, ...]:
    """Names of the parameters that `op` gives to its region `region`."""
    return ("input",) if op == "SWITCH" else RESERVED.get((op, region), ())


@dataclass(frozen=True, slots=True)
class Binding:
    """How the inputs of a node meet a region: indexes into the node's Data inputs.

    `own` is the input the operation keeps (discriminant, list, count), `sources` has parameter name -> input; `unbound`
    are the parameters, apart from the reserved ones, that no input binds; `unused` are inputs that this region takes not.
    """

    own: int | None
    sources: dict[str, int]
    unbound: tuple[str, ...]
    unused: tuple[int, ...]


def needs_own(op: str) -> str | None:
    """The port of the input that `op` cannot do without; an input without a name may be there instead."""
    port, first = _OWN_PORTS.get(op, ("", False))
    return port if first else None


def is_position(port: str | None) -> bool:
    """Whether a port is no name: absent, or a number."""
    return port is None or (port.isascii() and port.isdigit())


def own_input(op: str, ports: Sequence[str | None]) -> int | None:
    """Index of the input that `op` keeps for itself: what it tests, its list, its count.

    That is the one with its port. Without one it is the first that has no name, except for a count, which is never guessed.
    """
    if op not in _OWN_PORTS:
        return None
    port, first = _OWN_PORTS[op]
    if port in ports:
        return ports.index(port)
    return next((i for i, name in enumerate(ports) if is_position(name)), None) if first else None


def bind(op: str, region: str, parameters: Sequence[str], ports: Sequence[str | None]) -> Binding:
    """Bind the inputs with `ports` (in argument order) to the `parameters` of one region: ports by name, the rest in order."""
    own = own_input(op, ports)
    given = reserved(op, region)
    named = {port: i for i, port in enumerate(ports) if port is not None and not is_position(port) and i != own}
    sources = {name: named[name] for name in parameters if name in named and name not in given}
    free = [name for name in parameters if name not in given and name not in sources]
    positional = [i for i, port in enumerate(ports) if is_position(port) and i != own]
    sources.update(zip(free, positional))
    taken = set(sources.values())
    unused = tuple(i for i in range(len(ports)) if i != own and i not in taken)
    return Binding(own, sources, tuple(name for name in free if name not in sources), unused)
