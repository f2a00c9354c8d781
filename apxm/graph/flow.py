"""`@flow`: a plain Python function, run once with stand-ins for its parameters, becomes the graph of the steps it took."""

from __future__ import annotations

import inspect
import typing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, overload

from apxm.errors import GraphError
from apxm.graph.builder import Ref, no_operation
from apxm.graph.model import Graph, Parameter
from apxm.graph.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.graph.builder import Input

_RECORDING: ContextVar[Graph | None] = ContextVar("apxm_flow", default=None)
_TYPES: dict[Any, str] = {str: "str", int: "int", float: "float", bool: "bool"}


class Recorder(Steps):
    """The operations as functions, for use inside of a function under `@flow`: `step.ask(f"About {topic}")`."""

    __slots__ = ()

    def add(self, op: str, *inputs: Input, **keywords: Any) -> Ref:
        """Add a node of any operation to the flow that is being recorded."""
        graph = _RECORDING.get()
        if graph is None:
            raise GraphError(f"{op} outside of a flow; call steps inside of a function under @flow, or on a Graph")
        return graph.add(op, *inputs, **keywords)

    if not TYPE_CHECKING:  # a type checker shall go on refusing what nobody defined

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise no_operation("`step`", name)


step = Recorder()


@overload
def flow(function: Callable[..., Any], /) -> Graph: ...


@overload
def flow(*, name: str | None = None, is_entry: bool = True) -> Callable[[Callable[..., Any]], Graph]: ...


def flow(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, is_entry: bool = True
) -> Graph | Callable[[Callable[..., Any]], Graph]:
    """Record a function into a Graph.

    The parameters become those of the flow: `str`, `int`, `float`, `bool` as they are, any other annotation as json. What
    the function returns is the value of the flow: a step, or a tuple of steps, whose values are then the outputs under
    their names. Without a return value the steps that nothing follows are the outputs. Python's own `if`, `for` and
    `while` run while recording: over values that exist only later, use branch_on_value, switch, map, loop.
    """
    if function is None:
        return lambda decorated: _record(decorated, name, is_entry)
    return _record(function, name, is_entry)


def _record(function: Callable[..., Any], name: str | None, is_entry: bool) -> Graph:
    graph = Graph(name or function.__name__, parameters=_parameters(function))
    if not is_entry:
        graph.metadata["is_entry"] = False
    if function.__doc__:
        graph.metadata["description"] = inspect.cleandoc(function.__doc__)
    token = _RECORDING.set(graph)
    try:
        value = function(*(Ref(graph, parameter.name) for parameter in graph.parameters))
    finally:
        _RECORDING.reset(token)
    _finish(graph, value)
    return graph


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    hints = typing.get_type_hints(function)
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter `{parameter.name}` of flow `{function.__name__}`"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise GraphError(f"{where} is {parameter.kind.description}, expected a plain parameter", code="graph.parameter_type")
        if parameter.default is not parameter.empty:
            raise GraphError(f"{where} has a default; flows take every parameter by name", code="graph.parameter_type")
        parameters.append(Parameter(parameter.name, _TYPES.get(hints.get(parameter.name), "json")))
    return parameters


def _finish(graph: Graph, value: Any) -> None:
    """Make what the function returned the outcome of the flow."""
    if value is None:
        return
    if isinstance(value, Ref):
        if not (isinstance(value.source, int) and value.graph is graph and value.node.op == "RETURN"):
            graph.return_(value, name="return")
        return
    if isinstance(value, (list, tuple)) and all(isinstance(item, Ref) and item.graph is graph for item in value):
        graph.metadata["exits"] = [item.name for item in value]
        return
    raise GraphError(f"flow `{graph.name}` returned {value!r}, expected a step of it, a tuple of steps, or nothing")
