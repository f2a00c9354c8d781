"""Which values a setting may have: how one is checked, read from text and made independent of where it was written."""

from __future__ import annotations

import os
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.settings.secret import Secret

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind:
    """A type of value.

    `expected` is what messages and the reference say. `accept` gives the value to keep, or raises ValueError; it takes what
    TOML and flags give, `read` the text of an environment variable. `located` makes paths absolute, from the given folder.
    `choices` are all values there are, when they can be listed.
    """

    __slots__ = ("accept", "choices", "expected", "located", "read")

    def __init__(
        self,
        expected: str,
        accept: Callable[[Any], Any],
        read: Callable[[str], Any],
        *,
        located: Callable[[Any, str], Any] | None = None,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.expected, self.accept, self.read, self.choices = expected, accept, read, choices
        self.located = located or (lambda value, folder: value)


def absolute(path: str, folder: str) -> str:
    """`path` as it is meant in `folder`; `~` is the home of the user."""
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _switch(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _switch_of(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError
    return _WORDS[text.lower()]


def _whole(least: int) -> Callable[[Any], int]:
    def accept(value: Any) -> int:
        if type(value) is not int or value < least:
            raise ValueError
        return value

    return accept


def _amount(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value) or value < 0:
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or not value.strip() or "\0" in value:
        raise ValueError
    return value


def _url(value: Any) -> str:
    if not _text(value).startswith(("http://", "https://")):
        raise ValueError
    return str(value)


def _port(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 65_535:
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    return tuple(_text(item) for item in value)


HOSTED = ("http_get", "communicate")  # what stands behind the `=` of a grant for these is a host, and no folder


def _grants(value: Any) -> tuple[str, ...]:
    for text in _texts(value):
        name, equals, root = text.partition("=")
        if not name.strip() or (equals and not root.strip()):
            raise ValueError
    return _texts(value)


def _peers(value: Any) -> tuple[str, ...]:
    for text in _texts(value):
        name, _, url = text.partition("=")
        if not name.strip() or not url.strip().startswith(("http://", "https://")):
            raise ValueError
    return _texts(value)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _grant_located(grants: tuple[str, ...], folder: str) -> tuple[str, ...]:
    return tuple(_one_grant_located(*grant.partition("="), folder) for grant in grants)


def _one_grant_located(name: str, equals: str, scope: str, folder: str) -> str:
    name, scope = name.strip(), scope.strip()
    if not equals:
        return name
    return f"{name}={scope if name in HOSTED else absolute(scope, folder)}"


def _reference(value: Any) -> Secret:
    from apxm.settings.secret import Secret

    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError
    source, target = next(iter(value.items()))
    if source not in ("env", "file") or not isinstance(target, str) or not target or "\0" in target:
        raise ValueError
    return Secret(source, target)


def _reference_of(text: str) -> dict[str, str]:
    """`env:NAME` or `file:PATH`: a variable may say where the secret is, as a file does."""
    source, colon, target = text.partition(":")
    if not colon:
        raise ValueError
    return {source: target}


def _reference_located(secret: Secret, folder: str) -> Secret:
    return secret._replace(name=absolute(secret.name, folder)) if secret.source == "file" else secret


def _files_located(names: tuple[str, ...], folder: str) -> tuple[str, ...]:
    return tuple(absolute(name, folder) if name.endswith(".py") else name for name in names)


def _model_located(model: str, folder: str) -> str:
    kind, colon, file = model.partition(":")
    return f"{kind}:{absolute(file, folder)}" if colon and file else model


def choice(*names: str) -> Kind:
    """One of some names."""

    def accept(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Kind(" or ".join((", ".join(names[:-1]), names[-1])), accept, str, choices=names)


SWITCH = Kind("true or false", _switch, _switch_of, choices=("true", "false"))
COUNT = Kind("a whole number, 0 or more", _whole(0), int)
POSITIVE = Kind("a whole number, at least 1", _whole(1), int)
SECRET = Kind(
    '`{ env = "NAME" }` or `{ file = "PATH" }`, in a variable `env:NAME` or `file:PATH`',
    _reference,
    _reference_of,
    located=_reference_located,
)
SECONDS = Kind("seconds, 0 or more", _amount, float)
DAYS = Kind("days, 0 or more", _amount, float)
DOLLARS = Kind("an amount of dollars, 0 or more", _amount, float)
URL = Kind("a URL such as http://localhost:4318", _url, str)
PORT = Kind("a port, 0 to 65535", _port, int)
TEXT = Kind("a text", _text, str)
FOLDER = Kind("the path of a folder", _text, str, located=absolute)
MODEL = Kind("`extractive`, `scripted:FILE` or the name of a model", _text, str, located=_model_located)
GRANTS = Kind("a list of `NAME` and `NAME=FOLDER`", _grants, _parts, located=_grant_located)
PEERS = Kind("a list of `NAME=URL`", _peers, _parts)
TRUST = Kind("a list of `LABEL` and `LABEL=CAPABILITY`", _grants, _parts)
MODULES = Kind("a list of `FILE.py` and modules", _texts, _parts, located=_files_located)
