"""The system prompts of a user: those of the configuration, and those in files. Read once, when a runtime is made."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.errors import ConfigError

if TYPE_CHECKING:
    from apxm.config import PromptConfig

OPERATIONS = ("ask", "think", "reason", "plan", "reflect", "verify")  # what has a system prompt, in lower case
CHARS_MAX = 100_000  # a longer file is no prompt


def read_prompts(config: PromptConfig) -> dict[str, str]:
    """Operation in lower case -> what its nodes tell a model by default; a text goes before a file.

    ConfigError for an operation that does not exist, a folder without prompts, and a file that is none.
    """
    for name, text in config.texts.items():
        if name not in OPERATIONS:
            raise ConfigError(f"there is no operation `{name}` that has a system prompt", hint=_near(name))
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"the system prompt of `{name}` is {text!r:.60}, expected a text")
    found = {} if config.folder is None else _files(Path(config.folder))
    return found | dict(config.texts)


def _files(folder: Path) -> dict[str, str]:
    """What the files `ask.md`, `think.md`, … of a folder say. Other kinds of files, and README.md, are passed over."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".md" and file.stem.lower() != "readme")
    except OSError as error:
        raise ConfigError(f"the folder of prompts {folder} cannot be read: {error.strerror}") from None
    if not files:
        raise ConfigError(f"the folder of prompts {folder} has no prompt", hint=f"expected {_all()}")
    found = {}
    for file in files:
        if file.stem not in OPERATIONS:
            raise ConfigError(f"{file} is for no operation that has a system prompt", hint=_near(file.stem))
        found[file.stem] = _text(file)
    return found


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(CHARS_MAX + 1)
    except OSError as error:
        raise ConfigError(f"the prompt {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the prompt {file} is not UTF-8 text: byte {error.start:,}") from None
    if len(text) > CHARS_MAX:
        raise ConfigError(f"the prompt {file} is longer than {CHARS_MAX:,} characters")
    if not text.strip():
        raise ConfigError(f"the prompt {file} is empty", hint="delete it, and the built-in one is used")
    return text.strip()


def _near(name: str) -> str:
    close = get_close_matches(name, OPERATIONS, n=1)
    return f"close: `{close[0]}`" if close else f"there are {', '.join(OPERATIONS)}"


def _all() -> str:
    return ", ".join(f"{name}.md" for name in OPERATIONS)
