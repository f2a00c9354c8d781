"""Every error that is raised on purpose: one tree, stable codes, one place that lists them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FailureClass(Enum):
    """What a caller may do about a failure. Only TRANSIENT is ever retried."""

    INVALID = "invalid"
    DENIED = "denied"
    BUDGET = "budget"
    DEADLINE = "deadline"
    TRANSIENT = "transient"
    FATAL = "fatal"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


class ApxmError(Exception):
    """Root of the tree.

    `code` is stable and listed in `CODES`; `hint` says what to try. When the error comes out of a run, `node`, `op`,
    `flow`, `path` (the frame path), `attempt` say where it happened and `result` holds what was finished before it.
    """

    failure: FailureClass = FailureClass.FATAL
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        assert self.code in CODES, f"unlisted error code {self.code!r}"
        self.message = message
        self.hint = hint
        self.node: str | None = None
        self.op: str | None = None
        self.flow: str | None = None
        self.path: tuple[tuple[int, str | int], ...] = ()
        self.attempt: int = 0
        self.called = False  # a call went out before the failure: whoever made it owned the retries
        self.result: Any = None

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def to_map(self) -> dict[str, Any]:
        """The value that an `error` edge carries: {code, class, message, node, op, attempts}."""
        return {
            "code": self.code,
            "class": self.failure.value,
            "message": str(self),
            "node": self.node,
            "op": self.op,
            "attempts": self.attempt,
        }


class InternalError(ApxmError):
    """A bug of ours; please report it."""


class InvalidError(ApxmError):
    """What was given does not fit what was declared."""

    failure = FailureClass.INVALID
    default_code = "invalid"


class ConfigError(InvalidError):
    """A configuration value out of its range."""

    default_code = "config"


class ValueRefused(InvalidError):
    """A value that no token may carry."""

    default_code = "value"


class ParameterError(InvalidError):
    """Missing, extra or ill-typed flow parameters."""

    default_code = "parameter"


class Problem:
    """One broken rule of a graph: where it is, what was expected, the nearest right spelling."""

    __slots__ = ("code", "expected", "message", "nearest", "node", "path")

    def __init__(
        self,
        code: str,
        message: str,
        *,
        node: int | str | None = None,
        path: str = "",
        expected: str | None = None,
        nearest: str | None = None,
    ) -> None:
        assert code in CODES, f"unlisted error code {code!r}"
        self.code, self.message, self.node, self.path = code, message, node, path
        self.expected, self.nearest = expected, nearest

    def to_map(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("code", "node", "path", "message", "expected", "nearest")}

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.nearest:
            text += f"; close: `{self.nearest}`"
        return text

    def __repr__(self) -> str:
        return f"Problem({self.code!r}, {str(self)!r})"


class GraphError(InvalidError):
    """A graph that breaks rules; `problems` has every one of them."""

    default_code = "graph"

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  - [{p.code}] {p}" for p in self.problems)])


class CompileError(InvalidError):
    """A valid graph that cannot be lowered."""

    default_code = "compile"


class ArtifactError(InvalidError):
    """Bytes that are not an artifact of ours, whatever they are."""

    default_code = "artifact"


class BindError(InvalidError):
    """A dag that this runtime cannot run: an operation or capability it does not have."""

    default_code = "bind"


class DeniedError(ApxmError):
    """Something that was not granted."""

    failure = FailureClass.DENIED
    default_code = "denied"


class BudgetError(ApxmError):
    """Nothing more may be spent."""

    failure = FailureClass.BUDGET
    default_code = "budget"


class DeadlineError(ApxmError):
    """Time is up: of the run, or of one node."""

    failure = FailureClass.DEADLINE
    default_code = "deadline"


class TransientError(ApxmError):
    """May work when tried again."""

    failure = FailureClass.TRANSIENT
    default_code = "transient"


class LockedError(TransientError):
    """Another process owns what must have one owner; the message names it."""

    default_code = "locked"


class StorageError(ApxmError):
    """A store on disk cannot be read or written: it is full, read-only, damaged, or not ours."""

    default_code = "storage"


class UnknownEffectError(ApxmError):
    """An effect that may or may not have happened."""

    failure = FailureClass.UNKNOWN
    default_code = "unknown_effect"


class HandlerError(ApxmError):
    """An operation failed; `__cause__` has what it raised."""

    default_code = "handler"


class CapabilityError(HandlerError):
    """A capability failed."""

    default_code = "capability"


class ModelError(HandlerError):
    """A model could not answer."""

    default_code = "model"


class EmbedderError(HandlerError):
    """Texts cannot be embedded, or the vectors of two embedders would be compared."""

    default_code = "embedder"


class RaisedError(HandlerError):
    """A program failed on purpose: ERR, GUARD, a condition that did not hold. Its code and class may be the program's own."""

    default_code = "raised"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        failure: FailureClass = FailureClass.FATAL,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code or self.default_code
        self.failure = failure


class PlanError(GraphError):
    """A plan that a model made, and that is refused; `problems` says why."""

    default_code = "plan"


class StuckError(ApxmError):
    """Nodes are left, and nothing is running, ready or waiting: `edges` names what they wait for."""

    default_code = "stuck"

    def __init__(self, message: str, edges: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.edges = tuple(edges)


class RunCancelled(ApxmError):
    """Somebody cancelled the run."""

    failure = FailureClass.CANCELLED
    default_code = "cancelled"


# Every code with the sentence that the error reference prints. A code never changes its meaning.
CODES: Mapping[str, str] = {
    "internal": "a bug in apxm",
    "invalid": "input that does not fit its declaration",
    "config": "a configuration value out of its range",
    "value": "a value that no token may carry (see the value table)",
    "parameter": "missing, extra or ill-typed flow parameters",
    "graph": "a graph that breaks one or more rules",
    "graph.json": "text that is not JSON, or JSON that says something twice",
    "graph.shape": "a key is missing or holds the wrong kind of value",
    "graph.unknown_key": "a key that the contract does not have",
    "graph.name": "a name that is missing, blank or no name",
    "graph.empty": "a graph without nodes",
    "graph.node_id": "a node id out of range, or used twice",
    "graph.duplicate_name": "a name used twice where names must differ",
    "graph.unknown_op": "an operation that does not exist",
    "graph.unknown_attribute": "an attribute that the operation does not have",
    "graph.missing_attribute": "an attribute or input that the operation needs",
    "graph.attribute_type": "an attribute of the wrong type",
    "graph.attribute_value": "an attribute out of its range or choices, or given twice",
    "graph.unknown_node": "a reference to a node that is not in the graph",
    "graph.unknown_parameter": "a reference to a parameter that the graph does not have",
    "graph.parameter_type": "a parameter type that does not exist",
    "graph.cycle": "edges that lead back to where they came from",
    "graph.port": "a port that its node does not have, or that two edges feed",
    "graph.label": "a label that the operation cannot choose",
    "graph.never_fires": "a node that no run can reach",
    "graph.arity": "too few or too many inputs",
    "graph.template": "a placeholder that nothing fills",
    "graph.condition": "a condition that does not parse",
    "graph.region": "a region that the operation cannot hold, lacks, or holds besides an edge for the same case",
    "graph.region_parameter": "a region parameter that nothing binds, or an input that no region takes",
    "graph.depth": "regions nested too deeply",
    "graph.placement": "RETURN, YIELD or AGENT where it cannot be",
    "graph.jump": "a JUMP that does not lead forward to one node",
    "graph.loop_pair": "LOOP_START and LOOP_END that do not enclose one body",
    "graph.unknown_flow": "a FLOW_CALL of a flow that its agent does not have",
    "graph.argument": "an argument that the flow of a FLOW_CALL does not take, or one that it lacks",
    "graph.exit": "an exit that does not exist, or two exits of one name",
    "graph.unused": "a node whose value and effect nobody can see (a warning)",
    "graph.shadowed": "something that another setting makes void (a warning)",
    "compile": "a valid graph that cannot be lowered",
    "artifact": "bytes that are not a valid artifact",
    "bind": "an operation or capability that this runtime does not have",
    "plan": "a plan that a model made breaks rules, asks for more than it may, or is too large",
    "limit": "a bound of the scheduler was reached (frames, depth)",
    "changed_input": "a handler changed a value that it was given (found in check mode)",
    "two_values": "two RETURNs of one activation, or two YIELDs of one region, are live",
    "denied": "something that was not granted",
    "policy": "a policy, an interceptor or a person refused a call",
    "sandbox": "code that must run in a sandbox, where there is none",
    "budget": "a budget is exhausted",
    "deadline": "the deadline of the run or the timeout of a node passed",
    "transient": "a failure that may not happen again; retried where that is safe",
    "locked": "another process owns what must have one owner; try again when it has ended",
    "storage": "a store on disk that cannot be read or written: full, read-only, damaged, or not ours",
    "embedder": "texts cannot be embedded: the embedder fails, or is another one than the memory was made with",
    "unknown_effect": "an effect that may or may not have happened",
    "lease_lost": "work was done under a lease that had been lost: somebody else may have done it too",
    "handler": "an operation raised an exception",
    "capability": "a capability raised an exception",
    "model": "a model could not answer",
    "raised": "the program failed on purpose (ERR, GUARD)",
    "stuck": "nodes are left that nothing can ever make ready",
    "cancelled": "the run was cancelled",
    "record": "a file that is no record of a run, a run that is not recorded, or one that cannot be",
}
