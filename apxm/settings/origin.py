"""Where a value was written, down to the line of the file. Knows no setting."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_MAX = 1024 * 1024  # far beyond any configuration; what is longer is some other file
DEPTH_MAX = 16
STATEMENT_LINES_MAX = 500  # of one value, whose lines are tried one by one; the lines behind a longer one are not known
Path = tuple[str, ...]  # a key inside a file: ("run", "deadline_s")


class Origin(NamedTuple):
    """Who gave a value: `layer` is default, project, user, environment or flag; `name` is the variable or the flag."""

    layer: str
    name: str = ""
    file: File | None = None
    path: Path = ()

    def __str__(self) -> str:
        if self.file is not None:
            return self.file.place(self.path)
        return f"{self.layer} {self.name}".rstrip()

    def where(self, key: str) -> str:
        """How a message begins that complains about the value of `key`."""
        return f"{self}: {key}" if self.file is not None else self.name or key


DEFAULT = Origin("default")


class File:
    """A file of settings that was read. `layer` is project or user, `name` how it is called by somebody who stands in `here`."""

    def __init__(self, path: str, layer: str, here: str) -> None:
        self.layer, self.folder = layer, os.path.dirname(path)
        self.name = path.removeprefix(os.path.join(here, ""))
        self.text = _text_of(path, self.name)
        self.data = self._parsed()
        self._lines: dict[Path, int] | None = None

    def origin(self, *path: str) -> Origin:
        """The origin of what stands in this file under `path`."""
        return Origin(self.layer, file=self, path=path)

    def place(self, path: Path) -> str:
        """`apxm.toml:12`."""
        if self._lines is None:
            self._lines = {}
            for key, number in _lines(self.text):
                self._lines.setdefault(key, number)
        line = self._lines.get(path)
        return f"{self.name}:{line}" if line else self.name

    def _parsed(self) -> dict[str, Any]:
        import tomllib  # only where there is a file: it is half of what reading the settings costs

        data: dict[str, Any] | None
        try:
            data = tomllib.loads(self.text)
        except ValueError as error:  # TOMLDecodeError is one, and so is a number of too many digits
            raise ConfigError(f"{self.name}{_position(str(error))}", hint="expected TOML: key = value, [table]") from None
        except RecursionError:
            data = None
        if data is None or _is_deep(data):
            raise ConfigError(f"{self.name} is nested more than {DEPTH_MAX} deep")
        return data


def _text_of(path: str, name: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {name}: {error.strerror}") from None
    if len(data) > BYTES_MAX:
        raise ConfigError(f"the configuration {name} is longer than {BYTES_MAX:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {name} is not UTF-8 text: byte {error.start:,}") from None


def _is_deep(data: Any) -> bool:
    """Dotted keys nest without recursion, but whoever looks at their values would need it."""
    level = [data]
    for _ in range(DEPTH_MAX):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [each for each in level if isinstance(each, dict | list)]
    return bool(level)


def _position(message: str) -> str:
    """`Invalid value (at line 3, column 5)` as `:3:5: invalid value`."""
    import re

    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.S)
    said, place = (found[1], f":{found[2]}:{found[3]}") if found else (message, "")
    return f"{place}: {said[:1].lower()}{said[1:]}"


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """The line on which each key begins: tomllib does not say. The text is valid, so a statement ends where it parses."""
    import tomllib

    table: Path = ()
    begin, lines = 0, text.split("\n")
    for end in range(1, len(lines) + 1):
        if end - begin > STATEMENT_LINES_MAX:
            return
        statement = "\n".join(lines[begin:end])
        try:
            said = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = next(path for path in reversed(list(_paths(said))))
            yield table, begin + 1
        else:
            yield from ((table + path, begin + 1) for path in _paths(said))
        begin = end


def _paths(data: Any) -> Iterator[Path]:
    if isinstance(data, list):  # [[table]]
        for item in data:
            yield from _paths(item)
    elif isinstance(data, dict):
        for name, value in data.items():
            yield (name,)
            yield from ((name, *path) for path in _paths(value))
