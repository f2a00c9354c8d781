"""Flow parameters: given by name, checked by type, in the order of the dag. Missing or extra ones are refused, all at once."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from apxm.config import RunOptions
from apxm.errors import ApxmError, ParameterError
from apxm.values import check, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.dag import ExecutionDag

_TYPES: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}
_OPTIONS = frozenset(option.name for option in fields(RunOptions))


def arguments_of(dag: ExecutionDag, given: Mapping[str, Any] | None, named: Mapping[str, Any]) -> list[Any]:
    """The values of the parameters of a flow, in order. ParameterError names everything that does not fit."""
    values = {**(given or {}), **named}
    problems: list[str] = []
    args: list[Any] = []
    for parameter in dag.parameters:
        if parameter.name not in values:
            problems.append(f"`{parameter.name}` ({parameter.type_name}) is missing")
            continue
        value = values.pop(parameter.name)
        try:
            args.append(_fit(value, parameter.type_name, parameter.name))
        except ApxmError as error:
            problems.append(error.message)
    known = [parameter.name for parameter in dag.parameters]
    for name in values:
        close = get_close_matches(name, known, n=1)
        problems.append(f"`{name}` is not a parameter" + (f"; close: `{close[0]}`" if close else ""))
    if problems:
        options = [name for name in values if name in _OPTIONS]
        signature = ", ".join(f"{p.name}: {p.type_name}" for p in dag.parameters) or "no parameters"
        text = f"parameters of flow `{dag.name}`: {'; '.join(problems)}"
        hint = f"it takes ({signature})"
        if options:
            hint += f"; what the run may do goes into run=RunOptions({', '.join(f'{name}=...' for name in options)})"
        raise ParameterError(text, hint=hint)
    return args


def _fit(value: Any, type_name: str, name: str) -> Any:
    wanted = _TYPES.get(type_name)
    if wanted is not None:
        fits: bool = isinstance(value, wanted)
        if not fits or (isinstance(value, bool) and bool not in wanted):
            raise ParameterError(f"`{name}` is {type(value).__name__} {value!r:.60}, expected {type_name}")
        return float(value) if type_name == "float" else value
    value = settle(value, where=f"`{name}`")
    check(value, where=f"`{name}`")
    return value
