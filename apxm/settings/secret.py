"""Secrets are named in a configuration, never written there: a reference says where one is. Keeps no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.errors import ConfigError
from apxm.settings.kinds import absolute

if TYPE_CHECKING:
    from collections.abc import Mapping

BYTES_MAX = 64 * 1024
FORMS = '`{ env = "NAME" }` or `{ file = "PATH" }`'
_WORDS = ("api_key", "apikey", "token", "password", "passwd", "secret", "credential", "private_key")


_RESOLVED: set[str] = set()  # what this process read: so that nothing that is kept repeats it


class Secret(NamedTuple):
    """A reference: `source` is env or file, `name` the variable or the absolute path."""

    source: str
    name: str

    def __str__(self) -> str:
        return f"{{ {self.source} = {_quoted(self.name)} }}"

    def resolve(self, where: str, environment: Mapping[str, str]) -> str:
        """The secret itself, as of now; ConfigError names what is missing and who needs it."""
        if self.source == "env":
            found = environment.get(self.name, "")
            if not found:
                raise ConfigError(f"{where} refers to the environment variable {self.name}, which is not set")
            _RESOLVED.add(found)
            return found
        try:
            with open(self.name, "rb") as file:
                data = file.read(BYTES_MAX + 1)
            found = data.decode("utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"{where} refers to the file {self.name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{where} refers to the file {self.name}, which is not UTF-8 text") from None
        if not found or len(data) > BYTES_MAX:
            raise ConfigError(f"{where} refers to the file {self.name}, which {'is too long' if found else 'is empty'}")
        _RESOLVED.add(found)
        return found


def resolved() -> frozenset[str]:
    """Every secret that this process read so far."""
    return frozenset(_RESOLVED)


def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret: `api_key`, `auth_token`, but not `max_tokens`."""
    words = name.lower().replace("-", "_")
    return any(words == word or words.endswith(f"_{word}") for word in _WORDS)


def read(value: Any, where: str, name: str, folder: str) -> Any:
    """A value of a file as it is kept: a reference as Secret; a secret in plain text is refused, without repeating it."""
    if isinstance(value, dict):
        source, target = next(iter(value.items()), ("", ""))
        if len(value) != 1 or source not in ("env", "file") or not isinstance(target, str) or not target or "\0" in target:
            raise ConfigError(f"{where} is no reference to a secret", hint=f"write {FORMS}")
        return Secret(source, absolute(target, folder) if source == "file" else target)
    if is_secret(name):
        raise ConfigError(f"{where} holds a secret in plain text", hint=f"write where it is: {FORMS}")
    return value


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
