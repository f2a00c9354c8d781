"""What a row of the operation table is made of: Operation, Attribute, and the classes they are sorted by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

TURN_CALLS = 16  # calls of tools that a model may ask for in one turn: enough for any plan, and a bound on what a turn can do
ATTRIBUTE_TYPES = ("text", "filled", "str", "name", "names", "int", "float", "bool", "json", "list", "map", "condition", "node")


class Effect(Enum):
    """What running an operation again may do; ordered from weakest to strongest. See the execution model."""

    PURE = "pure"
    READ = "read"
    IDEMPOTENT = "idempotent"
    PAID = "paid"
    GUARDED = "guarded"


class Latency(Enum):
    """How long one firing is expected to take, in milliseconds, until a measurement says otherwise."""

    NONE = 10
    LOW = 100
    MEDIUM = 1_000
    HIGH = 5_000


class Rule(Enum):
    """When a node fires, over its Data in-edges."""

    ALL = 0
    ANY = 1
    COLLECT = 2
    RACE = 3


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an operation.

    `type` is one of ATTRIBUTE_TYPES: text (a template string), filled (any JSON value; strings anywhere inside are
    templates, and a string that is one placeholder stands for the value itself), str (taken as it is), name (a non-empty
    str that names something), names (a list of those), int, float, bool, json (any value), list, map, condition (GUARD's
    grammar), node (an authoring-time reference to a node by id, name or `{{node_N}}`: normalising turns it into an edge
    and its label, so no handler ever sees it).

    `aliases` are other spellings that mean the same. A name that ends in `*` stands for every name with that
    beginning. `least` is the smallest number allowed. Handlers see only canonical names; an attribute that is not given
    is absent, and its default is what this row says.
    """

    name: str
    type: str
    doc: str
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    least: float | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. `code` is the stable number in artifacts; `regions` are the region names it may hold (`*`: any name).

    `labels` are the out-edge labels it may choose (`*`: any), besides `error`, which every operation has.
    `effect` None means: that of its capability, callee or body. `ports` are the names its Data in-edges may have (`*`:
    any; positions and `node_N` always may). Each group in `needs` names attributes of which one must be given; in it,
    `input` stands for any Data in-edge and a name in angle brackets for a region or an out-edge of that label.
    """

    name: str
    code: int
    category: str
    doc: str
    effect: Effect | None
    latency: Latency
    rule: Rule = Rule.ALL
    attributes: tuple[Attribute, ...] = ()
    inputs_min: int = 0
    inputs_max: int | None = None
    regions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    ports: tuple[str, ...] = ("*",)
    needs: tuple[tuple[str, ...], ...] = ()
