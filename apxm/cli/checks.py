"""What `apxm doctor` looks at, one check after the other. Each says what it saw; none of them mends anything."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Literal, NamedTuple

from apxm.errors import ApxmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.settings import Settings

State = Literal["ok", "absent", "failed"]

PYTHON_MIN = (3, 11)
FREE_MIN = 100 * 1024 * 1024  # bytes; below it, records and artifacts may not find room
TRY_S = 60

# A program in a process that refuses every connection: if it gives its answer, nothing needs the network.
_OFFLINE = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"{event} {arguments[1:]}")
sys.addaudithook(refuse)
from apxm import Runtime, flow, step
@flow
def offline(text: str):
    return step.ask(f"Context 1: {text}\\n\\nQuestion: What works?")
with Runtime() as runtime:
    print(runtime.execute(offline, text="apxm works without a network.").value)
"""


class Check(NamedTuple):
    """One thing that was looked at. `absent` is no failure: nothing that runs today needs it."""

    area: str
    name: str
    state: State
    detail: str
    hint: str | None = None


def all_checks(config: str | None) -> Iterator[Check]:
    """Every check, each made when it is asked for."""
    yield from environment()
    yield from packages()
    settings = None
    for check, read in configuration(config):
        settings = read or settings
        yield check
    if settings is not None:
        yield state(settings)
        yield from models(settings)
        yield from memory(settings)
    yield from sandbox()
    yield cluster()
    yield offline()


# ---- environment -----------------------------------------------------------------------------------------------------
def environment() -> Iterator[Check]:
    """Python, the system, where apxm comes from."""
    import apxm

    version = sys.version_info[:2]
    text = f"{platform.python_version()} ({sys.executable})"
    fine = version >= PYTHON_MIN
    yield Check("environment", "python", "ok" if fine else "failed", text, None if fine else "apxm needs Python 3.11 or newer")
    yield Check("environment", "system", "ok", f"{platform.platform()}, {os.cpu_count()} processors")
    yield Check("environment", "apxm", "ok", f"{apxm.__version__} ({os.path.dirname(apxm.__file__)})")


def packages() -> Iterator[Check]:
    """What the distribution requires, and which of its extras are complete."""
    try:
        required = metadata.requires("apxm") or []
    except metadata.PackageNotFoundError:
        yield Check("packages", "core", "failed", "apxm runs from a folder, it is not installed", "pip install -e .")
        return
    groups: dict[str, list[str]] = {"core": []}
    for line in required:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if name is not None and name[0] != "apxm":
            groups.setdefault(extra[1] if extra else "core", []).append(name[0])
    for group, names in groups.items():
        missing = [name for name in names if _version(name) is None]
        there = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        if not missing:
            yield Check("packages", group, "ok", there)
        elif group == "core":
            yield Check("packages", group, "failed", f"missing: {', '.join(missing)}", "pip install apxm")
        else:
            yield Check("packages", group, "absent", f"not installed: {', '.join(missing)}", f"pip install 'apxm[{group}]'")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# ---- settings --------------------------------------------------------------------------------------------------------
def configuration(config: str | None) -> Iterator[tuple[Check, Settings | None]]:
    """Whether the settings can be read, and from which files."""
    from apxm.settings import load

    try:
        settings = load(config=config)
    except ApxmError as error:
        yield Check("settings", "files", "failed", error.message, error.hint), None
        return
    names = ", ".join(f"{file.layer}: {file.name}" for file in settings.files) or "none; the defaults hold"
    yield Check("settings", "files", "ok", names), settings


def state(settings: Settings) -> Check:
    """The state directory: private, writable, with room."""
    try:
        folder = settings.state_folder()
        free = shutil.disk_usage(folder).free
    except (ApxmError, OSError) as error:
        hint = error.hint if isinstance(error, ApxmError) else None
        return Check("settings", "state directory", "failed", str(error), hint)
    if not os.access(folder, os.W_OK):
        return Check("settings", "state directory", "failed", f"{folder} cannot be written", "set `state_dir`")
    detail = f"{folder}, {free // 2**20:,} MiB free"
    if free < FREE_MIN:
        return Check("settings", "state directory", "failed", detail, "make room, or `apxm runs gc`")
    return Check("settings", "state directory", "ok", detail)


def models(settings: Settings) -> Iterator[Check]:
    """The models of the settings: whether each can be built, its secrets found. Calls none."""
    for name, table in settings.models.items():
        try:
            table.build(settings.environment)
        except ApxmError as error:
            yield Check("models", name, "failed", error.message, error.hint)
        else:
            yield Check("models", name, "ok", table.kind)
    yield Check("models", "default", "ok", settings.default_model_name())


# ---- memory ----------------------------------------------------------------------------------------------------------
def memory(settings: Settings) -> Iterator[Check]:
    """What is remembered from run to run: the folder and its owner, the record, and what an index needs. Owns nothing."""
    from apxm.cli.remembered import bytes_text
    from apxm.cli.text import count
    from apxm.memory.ltm.system import LongTermMemory

    version = _version("chromadb")
    if version is None:
        yield Check(
            "memory", "index", "absent", "no chromadb: large namespaces are searched slower", "pip install 'apxm[memory]'"
        )
    else:
        yield Check("memory", "index", "ok", f"chromadb {version}")
    known = LongTermMemory(settings.memory_folder, settings.memory_config())
    try:
        found = known.stats()
    except ApxmError as error:
        yield Check("memory", "record", "failed", error.message, error.hint)
        return
    finally:
        known.close()
    yield Check("memory", "folder", "ok", f"{found.folder}, owned by {found.owner or 'nobody'}")
    if found.record_bytes:
        detail = f"{count(found.entries, 'entry', 'entries')}, {bytes_text(found.record_bytes)}"
        yield Check("memory", "record", "ok", detail)
    else:
        yield Check("memory", "record", "absent", "nothing was remembered yet")


# ---- sandbox, cluster, a run -----------------------------------------------------------------------------------------
def sandbox() -> Iterator[Check]:
    """Whether code can be isolated here, tried out: bubblewrap, what else it needs, and Landlock beneath."""
    from apxm.capability.isolation.enclosure import INSTALL
    from apxm.capability.isolation.sandbox import absence

    if not sys.platform.startswith("linux"):
        yield Check("sandbox", "bubblewrap", "absent", f"isolation is for Linux; this is {sys.platform}")
        return
    reason = absence()
    if reason is None:
        yield Check("sandbox", "bubblewrap", "ok", f"{shutil.which('bwrap')}; `bash`, `python` and EXC can run code")
    else:
        yield Check("sandbox", "bubblewrap", "absent", f"`bash`, `python` and EXC are refused: {reason}"[:400], INSTALL)
    yield _landlock()


def _landlock() -> Check:
    """The version of the kernel's Landlock interface: landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)."""
    import ctypes

    create_ruleset, ask_version = 444, 1
    version = ctypes.CDLL(None, use_errno=True).syscall(create_ruleset, None, 0, ask_version)
    if version < 0:
        return Check("sandbox", "landlock", "absent", os.strerror(ctypes.get_errno()))
    return Check("sandbox", "landlock", "ok", f"version {version} of its interface")


def cluster() -> Check:
    """Whether Ray is there, and whether an address is set. Connects to nothing."""
    version = _version("ray")
    if version is None:
        return Check("cluster", "ray", "absent", "not installed", "pip install 'apxm[ray]'")
    address = os.environ.get("RAY_ADDRESS")
    return Check("cluster", "ray", "ok", f"ray {version}; " + (f"RAY_ADDRESS is {address}" if address else "no address is set"))


def offline() -> Check:
    """Run a small program in a process that may not use the network."""
    code, text = _ended(sys.executable, "-c", _OFFLINE)
    if code == 0 and text.startswith("apxm works without a network."):
        return Check("run", "offline", "ok", "a program ran and answered, without a network")
    return Check("run", "offline", "failed", text[-300:] or f"exit code {code}", "APXM_DEBUG=1 shows more; please report it")


def _ended(*command: str) -> tuple[int, str]:
    """The exit code of a process and what it printed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TRY_S, stdin=subprocess.DEVNULL, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()
