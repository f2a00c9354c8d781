"""What was typed for parameters and budgets, as typed values. Every refusal names the parameter and the type it wants."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from apxm.cli.text import line, spelling
from apxm.errors import ConfigError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apxm.budget import Limits
    from apxm.graph.model import Parameter

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def convert(text: str, type_name: str) -> Any:
    """`text` as a value of a parameter type; ValueError says what was expected."""
    match type_name:
        case "str":
            return text
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            if text.lower() not in _WORDS:
                raise ValueError("true or false")
            return _WORDS[text.lower()]
        case _:
            return json.loads(text)


_EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false", "json": 'JSON, such as [1, 2] or "text"'}


def bind(given: Sequence[str], file: Path | None, declared: Sequence[Parameter]) -> dict[str, Any]:
    """The parameters of a run: those of `--params FILE`, then each `--param name=value` converted to its declared type."""
    types = {parameter.name: parameter.type_name for parameter in declared}
    bound = _from_file(file) if file else {}
    for name in bound:
        _known(name, types)
    for item in given:
        name, equals, text = item.partition("=")
        if not equals:
            raise ParameterError(f"--param {item!r} has no `=`", hint="write --param name=value")
        type_name = _known(name.strip(), types)
        try:
            bound[name.strip()] = convert(text, type_name)
        except ValueError:
            raise ParameterError(
                f"parameter `{name.strip()}` is {line(text, 60)!r}, expected {_EXPECTED[type_name]} (type {type_name})"
            ) from None
    return bound


def _known(name: str, types: dict[str, str]) -> str:
    if name in types:
        return types[name]
    raise ParameterError(f"the flow has no parameter `{name}`", hint=spelling(name, types))


def _from_file(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"--params {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ParameterError(f"--params {file} is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ParameterError(f"--params {file}, line {error.lineno}, column {error.colno}: {error.msg}") from None
    if not isinstance(data, dict):
        raise ParameterError(f"--params {file} holds a {type(data).__name__}, expected an object {{name: value}}")
    return data


def limits(texts: Sequence[str]) -> Limits:
    """`llm_calls=10,nodes=1000` as Limits; several are joined."""
    from apxm.budget import Limits

    names = [field.name for field in fields(Limits)]
    found: dict[str, Any] = {}
    for item in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, _, text = item.partition("=")
        if name not in names:
            raise ConfigError(f"--budget has no quantity `{name}`", hint=spelling(name, names))
        kind = float if name == "cost_usd" else int
        try:
            found[name] = kind(text)
        except ValueError:
            raise ConfigError(
                f"--budget {name} is {text!r}, expected {'a number' if kind is float else 'a whole number'}"
            ) from None
    return Limits(**found)
