"""One layer at a time: which files there are, and what a file, the environment and the flags each say. Joins nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.errors import ConfigError
from apxm.settings.keys import KEYS, PREFIX, SECTIONS, Value
from apxm.settings.kinds import SECRET, absolute
from apxm.settings.origin import File, Origin
from apxm.settings.state import xdg_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.settings.models import ModelTable

NAME = "apxm.toml"
NONE = "none"

# Variables of ours that are no setting, with what the reference says about them.
OTHER_VARIABLES = {
    "APXM_CONFIG": "a project file to take instead of the nearest one; `none`: read no file, neither of project nor of user",
    "APXM_DEBUG": "when set, an internal error shows its traceback",
    "APXM_LONG": "read by the tests of apxm: the sizes of a release",
    "APXM_PROGRAMS": "read by the tests of apxm: how many programs are made",
    "APXM_SEED": "read by the tests of apxm: the first seed",
}
# What Kubernetes and Docker put in the environment of every container beside a service named `apxm` or `apxm-…`.
_OF_A_SERVICE = r"APXM_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"


@dataclass(slots=True)
class Layer:
    """What one layer says: values by dotted name, models by name."""

    values: dict[str, Value] = field(default_factory=dict)
    models: dict[str, ModelTable] = field(default_factory=dict)


# ---- files ---------------------------------------------------------------------------------------------------------------
def files(config: str | None, folder: str, environment: Mapping[str, str]) -> list[File]:
    """The files to read, in order: that of the project (or `config` in its place), that of the user."""
    if config == NONE:
        return []
    project = absolute(config, folder) if config else project_file(folder)
    user = os.path.join(xdg_folder("XDG_CONFIG_HOME", "~/.config", environment), NAME)
    found = [File(project, "project", folder)] if project else []
    return [*found, File(user, "user", folder)] if os.path.isfile(user) else found


def project_file(folder: str) -> str | None:
    """The nearest `apxm.toml` from a folder upwards; a folder with `.git` and the home of the user are the last ones looked at.

    It may make code run, so one that another user has put above the working directory is refused, as git does.
    """
    home = os.path.expanduser("~")
    while True:
        name = os.path.join(folder, NAME)
        if os.path.isfile(name):
            owner = os.stat(name).st_uid
            if hasattr(os, "getuid") and owner not in (0, os.getuid()):
                raise ConfigError(
                    f"{name} belongs to the user with the id {owner}, not to you",
                    hint=f"--config {name} takes it all the same, --config none leaves it",
                )
            return name
        above = os.path.dirname(folder)
        if folder in (home, above) or os.path.lexists(os.path.join(folder, ".git")):
            return None
        folder = above


def from_file(file: File) -> Layer:
    """What a file says."""
    layer = Layer()
    for name, given in file.data.items():
        if name == "models":
            from apxm.settings.models import read_models

            layer.models = read_models(given, file)
        elif name in SECTIONS:
            if not isinstance(given, dict):
                raise ConfigError(f"{file.origin(name).where(name)} is {given!r:.60}, expected a table [{name}]")
            for key, value in given.items():
                _put(layer, f"{name}.{key}", value, file.origin(name, key), file.folder)
        else:
            _put(layer, name, given, file.origin(name), file.folder)
    return layer


def _put(layer: Layer, name: str, value: Any, origin: Origin, folder: str | None) -> None:
    key = KEYS.get(name)
    if key is None:
        raise ConfigError(f"{origin}: there is no setting `{name}`", hint=_nearest(name, [*KEYS, *SECTIONS, "models"]))
    try:
        kept = key.kind.accept(value)
    except ValueError:
        said = "no reference to a secret" if key.kind is SECRET else f"{value!r:.60}"
        raise ConfigError(f"{origin.where(name)} is {said}, expected {key.kind.expected}") from None
    if folder is not None:
        kept = key.kind.located(kept, folder)
    if not key.joined:
        layer.values[name] = Value(kept, (origin,))
    elif kept:
        layer.values[name] = Value(kept, (origin,) * len(kept))


# ---- environment and flags -----------------------------------------------------------------------------------------------
def from_environment(environment: Mapping[str, str], folder: str) -> Layer:
    """What variables that begin with APXM_ say. An empty one says nothing."""
    layer = Layer()
    by_variable = {key.variable: key for key in KEYS.values()}
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        key, text = by_variable.get(variable), environment[variable]
        if key is None:
            _refuse_unknown(variable, [*by_variable, *OTHER_VARIABLES])
        elif text.strip():
            try:
                value = key.kind.read(text.strip())
            except ValueError:
                value = text
            _put(layer, key.name, value, Origin("environment", variable), folder)
    return layer


def _refuse_unknown(variable: str, known: list[str]) -> None:
    import re

    if variable not in OTHER_VARIABLES and not re.fullmatch(_OF_A_SERVICE, variable):
        raise ConfigError(f"the environment variable {variable} is no setting", hint=_nearest(variable, known))


def from_flags(flags: Mapping[str, tuple[str, Any]]) -> Layer:
    """What was typed: by key, the flag and its value. Paths stay as they are: messages repeat them, and nobody moves."""
    layer = Layer()
    for name, (flag, value) in flags.items():
        _put(layer, name, value, Origin("flag", flag), None)
    return layer


def _nearest(name: str, known: list[str]) -> str:
    from apxm.settings.nearest import nearest

    return nearest(name, known)
