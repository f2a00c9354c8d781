"""The directory where apxm keeps what outlives a run: where it is, and that nobody else may look into it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODE = 0o700
STATE, MEMORY = "state directory", "memory folder"  # as messages call them


def xdg_folder(variable: str, otherwise: str, environment: Mapping[str, str]) -> str:
    """`apxm` beneath the folder that an XDG variable names; a relative one does not count, as its specification says."""
    base = environment.get(variable, "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser(otherwise), "apxm")


def private_folder(name: str, where: str, *, what: str = STATE, setting: str = "state_dir") -> Path:
    """The folder, made with mode 0700 when it is not there; ConfigError when it belongs to others or they may enter it.

    `what` and `setting` are how messages call it and the setting that names another one.
    """
    if not os.path.isabs(name):  # `~` stayed what it is
        raise ConfigError("there is no home directory to keep state in", hint=f"set `{setting}`, XDG_STATE_HOME or HOME")
    folder = Path(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=MODE, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        reason = "there is a file of this name" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigError(f"the {what} {name} ({where}) cannot be made: {reason}", hint=f"set `{setting}`") from None
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise ConfigError(
            f"the {what} {name} ({where}) belongs to the user with the id {found.st_uid}, not to you",
            hint=f"set `{setting}` to a directory of your own",
        )
    mode = stat.S_IMODE(found.st_mode)
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"the {what} {name} ({where}) is open to others: its mode is {mode:04o}, expected {MODE:04o}",
            hint=f"chmod 700 {name}, or set `{setting}` to a directory of its own",
        )
    return folder
