"""What hostile code can do in a sandbox, and what is left of it: real processes, real limits, on this machine."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import apxm
from apxm.capability.calling.supervisor import descendants
from apxm.capability.isolation import enclosure
from apxm.capability.isolation.cell import Cell, Limits, excess
from apxm.capability.isolation.enclosure import SCRATCH, Enclosure
from apxm.capability.isolation.sandbox import Sandbox, absence
from apxm.cli.checks import _landlock
from apxm.errors import CapabilityError, DeniedError, InvalidError
from tests.integration import hostile_code

ABSENT = absence()
pytestmark = pytest.mark.skipif(ABSENT is not None, reason=f"no sandbox on this machine: {ABSENT}; tools/test installs one")

REFUSED = {"refused: EPERM", "refused: EACCES", "refused: EROFS", "refused: ENOENT"}
GONE_S = 3.0  # for the kernel to take away what a killed parent left


def here() -> Enclosure:
    found = enclosure.find()
    assert isinstance(found, Enclosure)
    return found


def marked() -> str:
    return f"marker-{secrets.token_hex(8)}"


def left(marker: str, also: str = "") -> list[int]:
    """The processes of this machine that have the marker, and this text too, in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
            if marker.encode() in line and also.encode() in line:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def sandbox():
    one = Sandbox()
    yield one
    one.close()


def play(sandbox: Sandbox, code: str, *arguments: str, **more):
    """Run a hostile program; afterwards nothing of it is left."""
    marker = marked()
    done = asyncio.run(sandbox.run([here().python, "-c", code, marker, *arguments], **more))
    assert_gone(marker)
    return done


def assert_gone(marker: str, within_s: float = 0.0) -> None:
    """Nothing has the marker any more, at once or soon; what has it all the same is ended."""
    until = time.monotonic() + within_s
    while left(marker) and time.monotonic() < until:
        time.sleep(0.01)
    found = {pid: state(pid) for pid in left(marker)}
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    assert found == {}


def state(pid: int) -> str:
    """What a process is, and what it waits for."""
    try:
        lines = (Path(f"/proc/{pid}/{name}").read_text()[:200] for name in ("stat", "wchan", "cmdline"))
        return " ".join(lines)
    except OSError:
        return "gone"


# ---- what cannot be reached --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["as it is made here", "by a user namespace"])
def told(request):
    """What became of every attempt, and whether a listener out here heard anything."""
    made = here()
    if request.param == "by a user namespace":
        if not made.drops:
            pytest.skip("that is how it is made here")
        made = replace(made, drops=False)
    name = secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        arguments = [marked(), str(server.getsockname()[1]), name, str(Path.home()), __file__]
        argv = [made.python, "-c", hostile_code.ATTEMPTS, *arguments]
        done = Cell({"argv": argv, "cwd": SCRATCH}, Limits()).run(made)
        heard = []
        for listener in (server, abstract):
            listener.setblocking(False)
            try:
                heard.append(listener.accept())
            except BlockingIOError:
                continue
    assert done.exit_code == 0, done.stderr
    assert_gone(arguments[0])
    return json.loads(done.stdout), heard


async def begun(task: asyncio.Task[Any], marker: str) -> None:
    """Wait until what a sandbox runs is there; its end before that is an error of the test."""
    while not left(marker):
        assert not task.done(), task.result()
        await asyncio.sleep(0.005)


def test_what_a_program_needs_is_there(told):
    said, _ = told
    assert [said[name] for name in ("scratch", "tmp", "shm", "null", "own sockets")] == ["done"] * 5


@pytest.mark.parametrize(
    "name",
    [
        *("read shadow", "read through a link", "list /home", "list /var", "list /sys", "read the test"),
        *("write /usr", "write /etc", "write /", "write /dev", "write the interpreter", "write core_pattern", "write sysrq"),
        *("remount", "kernel memory", "device node"),
        *("ptrace", "mount", "umount", "pivot_root", "chroot", "unshare user", "unshare net", "setns", "clone user"),
        *("process_vm_readv", "keyctl", "add_key", "bpf", "perf_event_open", "userfaultfd", "io_uring", "personality"),
        *("open_by_handle_at", "init_module", "kexec_load", "swapon", "sethostname", "memfd_create", "shmget"),
    ],
)
def test_it_is_refused(told, name):
    assert told[0][name] in REFUSED


def test_what_cannot_be_written_to_is_mounted_so(told):
    writable = {place for place, options in told[0]["mounts"].items() if "ro" not in options.split(",")}
    devices = {place for place in writable if place.startswith("/dev/") and place != "/dev/shm"}
    assert writable - devices == {*enclosure.WRITABLE, "/proc"}


def test_of_the_home_directory_there_is_only_the_way_to_the_interpreter(told):
    home, ours = Path.home(), here().prefixes
    way = {Path(prefix).relative_to(home).parts[0] for prefix in ours if Path(prefix).is_relative_to(home)}
    assert told[0]["home"] == sorted(way) if way else told[0]["home"] in REFUSED


@pytest.mark.skipif(_landlock().state != "ok", reason="this kernel has no Landlock")
@pytest.mark.parametrize("name", ["environment of 1", "memory of 1", "own name"])
def test_landlock_lies_beneath(told, name):
    assert told[0][name] in REFUSED


def test_there_is_no_network_and_nobody_out_here_hears_anything(told):
    said, heard = told
    families = ("loopback", "loopback 6", "outside", "udp", "packets", "netlink")
    assert [said[name] for name in families] == ["refused: EAFNOSUPPORT"] * len(families)
    assert said["abstract socket"] in {"refused: ECONNREFUSED", *REFUSED}
    assert set(said["interfaces"]) <= {"lo"}
    assert heard == []


def test_code_sees_a_small_world_of_its_own(told):
    said, _ = told
    assert said["processes seen"] == 2
    assert set(said["environment"]) - {"PWD", "LC_CTYPE"} == set(enclosure.ENVIRONMENT)
    assert said["descriptors"] == [0, 1, 2]
    assert said["host name"] == "sandbox"
    assert said["user"] not in {0, os.getuid()}


def test_limits_cannot_be_raised_nor_root_be_regained(told):
    said, _ = told
    assert said["become root"] == "refused: EPERM" or said["become root"] == "refused: EINVAL"
    assert said["more memory"].startswith("ValueError: not allowed to raise")


def test_calls_that_are_newer_than_the_filter_do_not_exist(told):
    assert (told[0]["newest"], told[0]["clone3"]) == ("refused: ENOSYS", "refused: ENOSYS")


# ---- what cannot be used up --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        (hostile_code.FORK_BOMB, Limits(processes=32, wall_s=0.2), "timeout"),
        (hostile_code.SHARED_MEMORY_BOMB, Limits(memory_mb=64, wall_s=8.0), "memory"),
        (hostile_code.EMPTY_FILES, Limits(memory_mb=32, wall_s=8.0), "memory"),
        (hostile_code.LOOP, Limits(cpu_s=1, wall_s=0.15), "timeout"),
        (hostile_code.LOOPS, Limits(cpu_s=1), "cpu"),
        (hostile_code.DEAF, Limits(wall_s=0.2), "timeout"),
        (hostile_code.FLOOD, Limits(output_bytes=1000), "output"),
    ],
)
def test_a_limit_ends_it_and_everything_it_started(sandbox, code, limits, reason):
    done = play(sandbox, code, limits=limits)
    assert (done.reason, done.exit_code) == (reason, 128 + signal.SIGKILL)
    assert len(done.stdout) <= limits.output_bytes
    assert done.truncated is (reason == "output")


def test_what_the_machine_has_on_its_disk_does_not_count_while_a_command_is_still_being_enclosed():
    with subprocess.Popen(["/bin/sh", "-c", "echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outside:
        assert outside.stdout is not None
        assert outside.stdout.readline() == b"\n"
        assert excess(outside.pid, Limits(memory_mb=32)) is None
        outside.communicate(b"\n")


def test_a_single_process_gets_no_more_memory_than_the_limit(sandbox):
    done = play(sandbox, hostile_code.MEMORY_BOMB, limits=Limits(memory_mb=64))
    assert done.reason == "exit"
    assert "MemoryError" in done.stderr


def test_a_daemon_ends_with_the_command_that_started_it(sandbox):
    done = play(sandbox, hostile_code.DAEMON, limits=Limits(wall_s=6.0))
    assert (done.reason, done.exit_code) == ("exit", 0)


def test_killing_everything_in_sight_ends_only_what_is_inside(sandbox):
    done = play(sandbox, hostile_code.KILL_ALL)
    assert done.stdout in ("alive\n", "")


def test_files_are_bounded_in_size_and_number(sandbox):
    done = play(sandbox, hostile_code.HUGE_FILE, limits=Limits(file_mb=4))
    numbers = [int(word) for word in done.stdout.split()]
    assert numbers[:2] == [errno.EFBIG, errno.ENOSPC] or numbers[:2] == [errno.ENOSPC, errno.ENOSPC]
    assert numbers[2] <= 4 << 20
    assert numbers[3] <= 4
    done = play(sandbox, hostile_code.MANY_FILES, limits=Limits(open_files=64))
    assert done.stdout.split() == [str(errno.EMFILE), "61"]


def test_output_that_is_no_text_is_made_text(sandbox):
    done = play(sandbox, hostile_code.NOISE)
    assert (done.stdout, done.stderr) == ("��\0ok�", "�\0")


def test_input_that_nobody_reads_does_not_hold_anything_up(sandbox):
    assert play(sandbox, "print('did not look')", stdin=b"x" * (1 << 20)).stdout == "did not look\n"


def test_input_is_read_to_its_end(sandbox):
    code = "import sys; data = sys.stdin.buffer.read(); print(len(data), data[:1], data[-1:])"
    assert play(sandbox, code, stdin=b"a" + b"x" * (1 << 20) + b"z").stdout == "1048578 b'a' b'z'\n"


def test_each_run_has_a_scratch_directory_of_its_own(sandbox):
    assert play(sandbox, "open('file', 'w').write('x')").exit_code == 0
    assert play(sandbox, "import os; print(os.listdir('.'), os.listdir('/tmp'), os.getcwd())").stdout == "[] [] /scratch\n"


# ---- the end from outside ----------------------------------------------------------------------------------------------
def test_cancelling_ends_it_at_once(sandbox):
    marker = marked()

    async def cancel() -> None:
        task = asyncio.create_task(sandbox.run([here().python, "-c", hostile_code.DEAF, marker]))
        await begun(task, marker)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left(marker) == []

    asyncio.run(cancel())


def test_closing_ends_what_is_running_and_nothing_runs_afterwards():
    sandbox, marker = Sandbox(), marked()

    async def close() -> None:
        task = asyncio.create_task(sandbox.run([here().python, "-c", hostile_code.DEAF, marker]))
        await begun(task, marker)
        await asyncio.to_thread(sandbox.close)
        assert (await task).reason == "killed"
        assert left(marker) == []
        with pytest.raises(CapabilityError, match="closed"):
            await sandbox.run(["/bin/true"])

    asyncio.run(close())


_PARENT = """
import asyncio, sys
from apxm.capability.isolation.sandbox import Sandbox, Limits
python, code, marker = sys.argv[1:]
asyncio.run(Sandbox().run([python, "-c", code, marker], roots=[marker], limits=Limits(wall_s=None)))
"""


def started(code: str, marker: str) -> subprocess.Popen[bytes]:
    """A process that runs code in a sandbox, with the apxm of these tests."""
    return subprocess.Popen([sys.executable, "-c", _PARENT, here().python, code, marker], env=with_apxm())


def with_apxm() -> dict[str, str]:
    """The environment of a process that imports the apxm of these tests."""
    return {**os.environ, "PYTHONPATH": str(Path(apxm.__file__).parents[1])}


def test_nothing_outlives_the_process_that_asked_for_it(tmp_path):
    marker = str(tmp_path / marked())
    os.mkdir(marker)
    parent = started(hostile_code.DEAF, marker)
    try:
        while not left(marker, "-c\0# deaf"):  # what runs inside
            assert parent.poll() is None
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()
    assert_gone(marker, GONE_S)


def test_when_the_guard_is_killed_everything_ends(sandbox):
    marker = marked()

    async def kill() -> None:
        task = asyncio.create_task(sandbox.run([here().python, "-c", hostile_code.DEAF, marker]))
        await begun(task, marker)
        for pid in descendants(os.getpid()):
            if b'"""Starts bubblewrap' in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                break
        done = await task
        assert (done.exit_code, done.reason) == (128 + signal.SIGKILL, "signal")

    asyncio.run(kill())
    assert_gone(marker, GONE_S)


_REAPER = """
import asyncio, ctypes, glob
from apxm.capability.isolation.sandbox import Sandbox
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans come here
asyncio.run(Sandbox().run(["/bin/sh", "-c", "sleep 60 & sleep 60 &"]))
print([open(path).read() for path in glob.glob("/proc/self/task/*/children") if open(path).read()])
"""


def test_nothing_is_left_for_others_to_collect():
    said = subprocess.run([sys.executable, "-c", _REAPER], capture_output=True, text=True, check=False, env=with_apxm())
    assert (said.stdout, said.stderr) == ("[]\n", "")


def test_at_whatever_moment_the_parent_is_killed(tmp_path, long_run):
    marker = str(tmp_path / marked())
    os.mkdir(marker)
    for at in range(200 if long_run else 1):
        parent = started(hostile_code.DAEMON, marker)
        time.sleep(0.1 + 0.005 * (at % 60))  # from before the sandbox to the middle of it
        parent.kill()
        parent.wait()
        assert_gone(marker, GONE_S)


def test_several_at_once_do_not_meet(sandbox):
    async def several() -> list[str]:
        code = "import os, time; open('/tmp/mine', 'x'); time.sleep(0.05); print(os.listdir('/tmp'))"
        runs = [sandbox.run([here().python, "-c", code]) for _ in range(3)]
        return [done.stdout for done in await asyncio.gather(*runs)]

    assert asyncio.run(several()) == ["['mine']\n"] * 3


# ---- granted directories -----------------------------------------------------------------------------------------------
@pytest.fixture
def granted(tmp_path: Path) -> Path:
    """A directory that anybody may look into, even the user that root makes of itself."""
    for each in (tmp_path, *list(tmp_path.parents)[:2]):
        each.chmod(0o755)
    (tmp_path / "file").write_text("granted")
    return tmp_path


def test_a_granted_directory_is_there_under_its_name_and_read_only(sandbox, granted):
    mounts = "print([line.split()[3][:2] for line in open('/proc/mounts') if sys.argv[2] in line])"
    code = f"import sys; print(open(sys.argv[2] + '/file').read()); {mounts}; open(sys.argv[2] + '/new', 'w')"
    done = play(sandbox, code, str(granted), roots=[str(granted)])
    assert done.stdout == "granted\n['ro']\n"
    assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr
    assert [each.name for each in granted.iterdir()] == ["file"]


def test_a_directory_granted_for_writing_keeps_what_was_written(sandbox, granted):
    granted.chmod(0o777)
    play(sandbox, f"open('{granted}/new', 'w').write('kept')", roots=[f"{granted}:rw"])
    assert (granted / "new").read_text() == "kept"


def test_a_link_in_a_granted_directory_leads_nowhere(sandbox, granted):
    (granted / "link").symlink_to("/etc/shadow")
    assert "No such file" in play(sandbox, f"open('{granted}/link')", roots=[str(granted)]).stderr


@pytest.mark.parametrize("drops", [True, False])
def test_whoever_listens_in_a_granted_directory_hears_nothing(granted, drops):
    made = here()
    if drops and not made.drops:
        pytest.skip("that is how root makes it")
    code = """
import errno, os, socket, sys
os.chdir(sys.argv[1])
def said(kind, send):
    try:
        with socket.socket(socket.AF_UNIX, kind) as link:
            send(link)
    except OSError as error:
        return errno.errorcode[error.errno]
print(said(socket.SOCK_STREAM, lambda link: link.connect("stream")))
print(said(socket.SOCK_DGRAM, lambda link: link.sendto(b"x", "post")))
first, second = socket.socketpair()
first.send(b"its own")
print(second.recv(9))
"""
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as post:
        for listener, name in ((stream, "stream"), (post, "post")):
            listener.bind(str(granted / name))
            (granted / name).chmod(0o777)
        stream.listen()
        argv = [made.python, "-c", code, str(granted)]
        done = Cell({"argv": argv, "cwd": SCRATCH}, Limits(), roots=[str(granted)]).run(replace(made, drops=drops))
    assert done.stdout == "EPERM\nEPERM\nb'its own'\n", done.stderr


@pytest.mark.parametrize("place", ["/", "/proc", "/dev", "/tmp", "/etc", "/scratch", "/proc/sys", "/no/such/directory"])
def test_what_would_replace_a_part_of_the_sandbox_cannot_be_granted(sandbox, place):
    with pytest.raises(InvalidError):
        asyncio.run(sandbox.run(["/bin/true"], roots=[place]))


# ---- code --------------------------------------------------------------------------------------------------------------
def evaluate(sandbox: Sandbox, code: str, names: dict[str, object] | None = None, **limits):
    return asyncio.run(sandbox.evaluate(code, names or {}, limits=Limits(**limits), name="it"))


def test_code_gets_variables_and_gives_what_it_assigns(sandbox):
    code = "print('said')\nresult = {'sum': sum(inputs), 'text': text[::-1], 'none': None, 'deep': [[1.5, True], (2,)]}"
    result, done = evaluate(sandbox, code, {"inputs": [1, 2, 3], "text": "äb"})
    assert result == {"sum": 6, "text": "bä", "none": None, "deep": [[1.5, True], [2]]}
    assert done.stdout == "said\n"


def test_code_that_assigns_nothing_gives_null(sandbox):
    assert evaluate(sandbox, "import sys; sys.exit()")[0] is None


WRONG = [
    ("x = 1\n1 / 0", ["ZeroDivisionError", "line 2", "division by zero"]),
    ("x = (", ["SyntaxError", "line 1", "never closed"]),
    ("result = {1, 2}", ["`result` is a set"]),
    ("result = {'a': [1, {2: 3}]}", ["`result['a'][1]` has the key 2"]),
    ("result = float('nan')", ["`result` is nan"]),
    ("result = 1 << 70", ["71 bits"]),
    ("import os; os.write(2, b'why'); os._exit(3)", ["exit code 3", "stderr: why"]),
    ("bytearray(1 << 30)", ["MemoryError", "64 MB"]),
    ("def f():\n    raise KeyError('k')\n\nf()", ["KeyError", "line 2"]),
    ("import sys; sys.exit('no')", ["SystemExit", "no"]),
    ("result = '\\ud800'", ["not Unicode"]),
    ("result = []; result.append(result)", ["nested more than 100 deep"]),
    ("result = 'x' * (17 << 20)", ["at most", "bytes as JSON"]),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", ["exit code 139"]),
    ("import numpy", ["ModuleNotFoundError"]),
    ("import subprocess; subprocess.run(['apxm'])", ["FileNotFoundError"]),
]


def test_what_goes_wrong_in_code_is_said(sandbox, long_run):
    for code, words in WRONG if long_run else WRONG[:8]:
        with pytest.raises(CapabilityError) as failure:
            evaluate(sandbox, code, memory_mb=64)
        assert [word for word in words if word not in str(failure.value)] == [], code


FORGED = [
    '{"result": 1, "error": 2}',
    '{"result": 1}{"result": 2}',
    '{"result": NaN}',
    '{"error": {"type": 1}}',
    "[" * 5000,
    "\\xff",
    '"result"',
    '{"result": 123456789012345678901234567890}',
]


def test_what_code_writes_in_place_of_a_result_is_no_result(sandbox, long_run):
    for frame in FORGED if long_run else FORGED[:2]:
        code = f"import os\nfor end in (3, 4, 5):\n    try: os.write(end, b'''{frame}''')\n    except OSError: pass\nos._exit(0)"
        with pytest.raises(CapabilityError, match=r"no result|bits"):
            evaluate(sandbox, code)


def test_a_value_that_json_cannot_say_is_not_sent(sandbox):
    with pytest.raises(InvalidError, match="`x` of `it` holds a bytes"):
        evaluate(sandbox, "result = x", {"x": [b"bytes"]})


# ---- in the sizes of a release -----------------------------------------------------------------------------------------
LARGE = [
    ("import os\nfor _ in range(9999): os.write(3, b'x' * 65536)", {}),
    ("result = 'x' * (100 << 20)", {"memory_mb": 1024}),
    (hostile_code.FORK_BOMB, {"wall_s": 5.0}),
    (hostile_code.MEMORY_BOMB, {"memory_mb": 512}),
    (hostile_code.SHARED_MEMORY_BOMB, {"memory_mb": 512, "processes": 128}),
    (hostile_code.FLOOD, {"output_bytes": 1 << 20}),
    ("import threading\nwhile True: threading.Thread(target=lambda: None).start()", {"cpu_s": 3}),
    ("import os\nwhile True:\n    if os.fork() == 0: os.setsid(); os.fork(); os._exit(0)", {"wall_s": 3.0}),
]


def test_a_large_attack_ends_like_a_small_one(sandbox, long_run):
    for code, limits in LARGE if long_run else LARGE[:1]:
        with pytest.raises(CapabilityError):
            evaluate(sandbox, code, **limits)


# ---- where there is none -----------------------------------------------------------------------------------------------
def test_without_bubblewrap_nothing_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code = (
        "import asyncio, sys; sys.path[:] = sys.argv[1:]\n"
        "from apxm.capability.isolation.sandbox import Sandbox\nfrom apxm.errors import DeniedError\n"
        "try: asyncio.run(Sandbox().run(['/bin/echo', 'bare']))\nexcept DeniedError as error: print(error.code, error)"
    )
    said = subprocess.run([sys.executable, "-c", code, *sys.path], capture_output=True, text=True, check=True).stdout
    assert said.startswith("sandbox code runs only in a sandbox, and there is none: bubblewrap (`bwrap`) is not installed")
    assert "apt-get install bubblewrap" in said


def test_a_bubblewrap_that_cannot_make_one_is_no_sandbox(sandbox, monkeypatch):
    broken = replace(here(), program="/bin/false")
    monkeypatch.setattr("apxm.capability.isolation.sandbox._looked", lambda: broken)
    with pytest.raises(DeniedError) as failure:
        asyncio.run(sandbox.run(["/bin/echo", "bare"]))
    assert failure.value.code == "sandbox"
