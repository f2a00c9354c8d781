"""The models of a configuration: which keys a table [models.NAME] has, and how it becomes a LanguageModel. Calls none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.errors import ConfigError
from apxm.settings.kinds import absolute
from apxm.settings.nearest import nearest
from apxm.settings.secret import Secret, is_secret, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apxm.dag import ExecutionDag
    from apxm.llm.base import LanguageModel
    from apxm.settings.origin import File, Origin

RESERVED = ("scripted", "extractive")  # `scripted` is what --model scripted:FILE makes, `extractive` is always there


class ModelKind(NamedTuple):
    """A kind of model: its keys with what they mean, and how one is built from their values."""

    doc: str
    keys: Mapping[str, str]
    build: Callable[[Mapping[str, str]], LanguageModel]


class ModelTable(NamedTuple):
    """One [models.NAME]: its kind, the values of its keys (texts and references), where they were written."""

    name: str
    kind: str
    values: Mapping[str, str | Secret]
    default: bool
    origin: Origin

    def build(self, environment: Mapping[str, str] = os.environ) -> LanguageModel:
        """The model; only here are references resolved."""
        known = {}
        for key, value in self.values.items():
            where = self.origin.where(f"models.{self.name}.{key}")
            known[key] = value.resolve(where, environment) if isinstance(value, Secret) else value
        return MODEL_KINDS[self.kind].build(known)


def _extractive(values: Mapping[str, str]) -> LanguageModel:
    from apxm.llm.extractive import ExtractiveModel

    return ExtractiveModel()


def _scripted(values: Mapping[str, str]) -> LanguageModel:
    from apxm.llm.scripted import ScriptedModel

    return ScriptedModel.load(values["file"])


MODEL_KINDS: dict[str, ModelKind] = {
    "extractive": ModelKind("quotes the sentences of its context that answer best; offline", {}, _extractive),
    "scripted": ModelKind("answers from a script, for tests", {"file": "the script, JSON or JSON lines"}, _scripted),
}


def read_models(given: Any, file: File) -> dict[str, ModelTable]:
    """The tables below [models] of one file."""
    if not isinstance(given, dict):
        raise ConfigError(f"{file.origin('models').where('models')} is {given!r:.60}, expected tables [models.NAME]")
    found = {name: _read_table(name, table, file) for name, table in given.items()}
    defaults = [name for name, table in found.items() if table.default]
    if len(defaults) > 1:
        raise ConfigError(f"{file.name}: {' and '.join(f'models.{name}' for name in defaults)} both are the default")
    return found


def _read_table(name: str, given: Any, file: File) -> ModelTable:
    origin = file.origin("models", name)
    where = origin.where(f"models.{name}")
    if not isinstance(given, dict):
        raise ConfigError(f"{where} is {given!r:.60}, expected a table [models.{name}]")
    if name in RESERVED or not name.strip() or ":" in name:
        raise ConfigError(f"{where}: a model cannot have this name", hint="`scripted`, `extractive` and names with `:` are taken")
    values = {
        key: read(value, file.origin("models", name, key).where(f"models.{name}.{key}"), key, file.folder)
        for key, value in given.items()
    }
    kind, default = values.pop("kind", None), values.pop("default", False)
    if kind not in MODEL_KINDS:
        said = "has no `kind`" if kind is None else f"has the kind {kind!s:.60}"
        raise ConfigError(f"{where} {said}", hint=nearest(str(kind), MODEL_KINDS))
    if type(default) is not bool:
        raise ConfigError(f"{file.origin('models', name, 'default').where(f'models.{name}.default')} is no true or false")
    _check(name, kind, values, file)
    located = {
        key: absolute(value, file.folder) if key == "file" and isinstance(value, str) else value for key, value in values.items()
    }
    return ModelTable(name, kind, located, default, origin)


def _check(name: str, kind: str, values: Mapping[str, Any], file: File) -> None:
    """The keys are those of the kind, all of them texts or references."""
    keys = MODEL_KINDS[kind].keys
    for key, value in values.items():
        where = file.origin("models", name, key).where(f"models.{name}.{key}")
        if key not in keys:
            raise ConfigError(f"{where}: models of kind `{kind}` have no `{key}`", hint=nearest(key, (*keys, "kind", "default")))
        if not isinstance(value, str | Secret) or not value:
            raise ConfigError(f"{where} is {'no text' if is_secret(key) else f'{value!r:.60}'}, expected a text or a reference")
    missing = [key for key in keys if key not in values]
    if missing:
        raise ConfigError(f"{file.origin('models', name).where(f'models.{name}')} has no `{missing[0]}`: {keys[missing[0]]}")


def asked_for(dag: ExecutionDag) -> set[str | None]:
    """The models that the nodes of a program name, and None when some node names none."""
    from apxm.graph.ops import BY_CODE, attribute_of

    codes = {code for code, row in enumerate(BY_CODE) if row is not None and attribute_of(row, "model") is not None}
    found: set[str | None] = set()
    for each in _dags(dag):
        if codes.isdisjoint(each.ops):
            continue
        found |= {each.attributes.get(slot, {}).get("model") for slot, code in enumerate(each.ops) if code in codes}
    return found


def _dags(dag: ExecutionDag) -> Iterator[ExecutionDag]:
    left, seen = [dag, *dag.siblings.values()], set()
    while left:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [region for regions in each.regions.values() for region in regions.values()]
