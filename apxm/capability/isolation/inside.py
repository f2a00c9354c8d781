"""Runs inside the sandbox: gives up what rights are left, then becomes a command or runs Python code. Decides no limit.

Its text is given to a fresh interpreter by cell.py, and nothing of apxm is there: standard library only. The request
comes as JSON on one descriptor; the result of code goes as one JSON document to another. Whoever reads that document
must not believe it: the code that ran before has the same descriptor.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import types
from contextlib import suppress
from math import isfinite
from typing import Any

DEPTH_MAX = 100
MESSAGE_MAX = 4000  # characters
_NAME = "<code>"  # what the code is called in tracebacks
_RESULT = 3  # the descriptor that the result goes to


def main() -> None:
    """Do what the request says. Ends the process."""
    request_fd, result_fd = int(sys.argv[1]), int(sys.argv[2])
    with open(request_fd, encoding="utf-8", closefd=False) as file:
        text = file.read()
    if not text:  # whoever asked is gone
        sys.exit(1)
    request = json.loads(text)
    if result_fd >= 0:
        os.dup2(result_fd, _RESULT, inheritable=False)
    _close_others(_RESULT if result_fd >= 0 else _RESULT - 1)
    _give_up(request)
    if result_fd < 0:
        _become(request)
    _evaluate(request)


def _close_others(last: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them
            if int(name) > last:
                os.close(int(name))


# ---- rights ----------------------------------------------------------------------------------------------------------
def _give_up(request: dict[str, Any]) -> None:
    user = request["user"]
    if user is not None:  # the sandbox was built by root
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # when memory runs out, the kernel takes these first
    _landlock(request["writable"])
    for name, value in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (value[0], value[1]))


def _landlock(writable: list[str]) -> None:
    """Say the same once more to the kernel's Landlock, where it has one: reading everywhere, writing in some places, no TCP."""
    try:
        import ctypes
    except ImportError:  # an interpreter without libffi
        return
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(444, None, 0, 1)  # landlock_create_ruleset, LANDLOCK_CREATE_RULESET_VERSION
    if version < 1:
        return
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1  # every right on files that this version knows
    handled = [rights, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]  # files, TCP, signals and abstract sockets
    ruleset = call(444, (ctypes.c_uint64 * len(handled))(*handled), ctypes.c_size_t(8 * len(handled)), 0)
    if ruleset < 0:
        return
    reading = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, list a directory
    using = (reading | 1 << 1 | 1 << 14 | 1 << 15) & rights  # also write, truncate, control a device
    for path, allowed in [("/", reading), ("/dev", using), *((path, rights) for path in writable)]:
        place = os.open(path, os.O_PATH)
        rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        call(445, ruleset, 1, rule, 0)  # landlock_add_rule, LANDLOCK_RULE_PATH_BENEATH
        os.close(place)
    if call(446, ruleset, 0):  # landlock_restrict_self
        raise OSError(ctypes.get_errno(), "the sandbox cannot be closed")
    os.close(ruleset)


# ---- a command -------------------------------------------------------------------------------------------------------
def _become(request: dict[str, Any]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored stays so
        signal.signal(number, signal.SIG_DFL)
    argv, where = request["argv"], request["cwd"]
    try:
        if where.startswith(os.environ["HOME"]):
            os.makedirs(where, exist_ok=True)
        os.chdir(where)
        where = argv[0]
        os.execvpe(argv[0], argv, os.environ)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        os.write(2, f"{where}: {said}\n".encode("utf-8", "replace"))
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


# ---- code ------------------------------------------------------------------------------------------------------------
def _evaluate(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    sys.argv = [_NAME]
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    names = module.__dict__
    names.update(request["names"])
    told = _run(request["code"], names)
    if "error" not in told:
        told = _told(names.get("result"), request["result_max"])
    data = json.dumps(told).encode()
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    while data:
        data = data[os.write(_RESULT, data) :]
    os._exit(0)


def _run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    try:
        exec(compile(code, _NAME, "exec", dont_inherit=True), names)
    except SystemExit as ended:
        if ended.code not in (None, 0):
            return _failed(ended)
    except BaseException as error:
        return _failed(error)
    return {}


def _failed(error: BaseException) -> dict[str, Any]:
    """Type, message and line of what the code raised."""
    line, step = None, error.__traceback__
    if isinstance(error, SyntaxError) and error.filename == _NAME:
        line = error.lineno
    while step is not None:
        if step.tb_frame.f_code.co_filename == _NAME:
            line = step.tb_lineno
        step = step.tb_next
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        message = ""
    return {"error": {"type": type(error).__name__, "message": message[:MESSAGE_MAX], "line": line}}


def _told(result: Any, most: int) -> dict[str, Any]:
    """The result, or why it is none."""
    problem = _problem(result, "result", 0)
    if problem is not None:
        return {"refused": problem[:MESSAGE_MAX]}
    told = {"result": result}
    size = len(json.dumps(told))
    return {"refused": f"`result` has {size} bytes as JSON, at most {most} are taken"} if size > most else told


def _problem(value: Any, path: str, depth: int) -> str | None:
    """What is no JSON value, and where."""
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, float):
        return None if isfinite(value) else f"`{path}` is {value}"
    if isinstance(value, str):
        return None if value.isascii() or _is_unicode(value) else f"`{path}` is text that is not Unicode"
    if depth >= DEPTH_MAX:
        return f"`{path:.60}…` is nested more than {DEPTH_MAX} deep"
    if isinstance(value, (list, tuple)):
        pairs = ((f"{path}[{at}]", item) for at, item in enumerate(value))
    elif isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str) or not _is_unicode(key)), None)
        if odd is not None:
            return f"`{path}` has the key {odd!r:.60}, and keys are text"
        pairs = ((f"{path}[{key!r:.60}]", item) for key, item in value.items())
    else:
        return f"`{path}` is a {type(value).__name__}"
    return next((found for where, item in pairs if (found := _problem(item, where, depth + 1)) is not None), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    main()
