"""What Python may not do with a value that exists only when the graph runs, and which step does it instead. Runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

_TEST = "branch_on_value(x, condition='== \"...\"'), switch(x) with its cases, or guard(x, condition=...)"
_TEXT = 'an f-string for text (f"... {x}"), inv(...) with a function of your own for anything else'
_PART = "inv(...) with a function of your own that takes the value and gives the part"
_OWN = "inv(...) with a function of your own that takes the value"

# The special method -> how a person wrote it, and what to use instead.
_REFUSED = {
    "__bool__": ("has no truth value", _TEST),
    "__len__": ("has no length", 'condition="len > 3" of branch_on_value or guard, or ' + _OWN),
    "__iter__": ("cannot be iterated", "map: `with step.map(x) as item:`"),
    "__reversed__": ("cannot be iterated", "map, or " + _OWN),
    "__contains__": ("cannot be searched with `in`", "condition='contains \"...\"' of branch_on_value or guard"),
    "__getitem__": ("has no items to take", _PART),
    "__call__": ("cannot be called", _OWN),
    "__int__": ("is no number yet", _OWN),
    "__float__": ("is no number yet", _OWN),
    "__complex__": ("is no number yet", _OWN),
    "__index__": ("is no number yet", _OWN),
    "__round__": ("is no number yet", _OWN),
    "__enter__": ("opens no region", "its region: map, loop, `with s.case(...)` of switch, `with t.try_:` of try_"),
    "__exit__": ("opens no region", "its region"),
    "__await__": ("cannot be awaited", "nothing: a step waits for its inputs by itself"),
}
_COMPARED = {"__eq__": "==", "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">="}
_COUNTED = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@"}
_COMBINED = {"and": "&", "or": "|", "xor": "^", "lshift": "<<"}


class NoSuchName(GraphError, AttributeError):
    """A name after a dot that means nothing; an AttributeError too, so that hasattr says no."""


class StandIn:
    """Stands for a value of a later run. Comparing, counting or opening it is refused; it hashes by identity."""

    __slots__ = ()
    __hash__ = object.__hash__

    def _called(self) -> str:
        """What a message calls it."""
        return repr(self)

    def _names(self) -> Iterable[str]:
        """What may stand after its dot."""
        return ("label", "ref")

    def __format__(self, spec: str) -> str:
        if spec:
            raise refusal(self, f"cannot be formatted with `:{spec}`", "the plain {x}, or " + _OWN)
        return str(self)

    if not TYPE_CHECKING:  # a type checker shall go on refusing what nobody defined

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_") or name in ("graph", "source", "label", "ref"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            known = ", ".join(f"`{item}`" for item in self._names())
            raise NoSuchName(
                f"{self._called()} has no `{name}`: it stands for a value that exists only when the flow runs; "
                f"of its own it has {known}; for a part or a method of the value use {_OWN}",
                code="graph.shape",
            )


def refusal(value: StandIn, what: str, instead: str) -> GraphError:
    """The error for something that cannot be done with `value` while the graph is written."""
    return GraphError(
        f"{value._called()} {what} while the flow is written: its value exists only when the flow runs; use {instead}",
        code="graph.shape",
    )


def _refusing(what: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(self: StandIn, *_: Any) -> NoReturn:
        raise refusal(self, what, instead)

    return refuse


def _refuse_everything() -> None:
    for method, (what, instead) in _REFUSED.items():
        setattr(StandIn, method, _refusing(what, instead))
    for method, sign in _COMPARED.items():
        setattr(StandIn, method, _refusing(f"cannot be compared with `{sign}`", _TEST))
    for signs in (_COUNTED, _COMBINED):
        for name, sign in signs.items():
            for method in (f"__{name}__", f"__r{name}__"):
                setattr(StandIn, method, _refusing(f"cannot be combined with `{sign}`", _TEXT))
    for name, sign in (("neg", "-"), ("pos", "+"), ("abs", "abs()"), ("invert", "~")):
        setattr(StandIn, f"__{name}__", _refusing(f"cannot be combined with `{sign}`", _OWN))


_refuse_everything()
