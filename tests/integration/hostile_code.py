"""Programs that try to leave a sandbox or to use up the machine. Each runs inside, and is only text out here."""

from __future__ import annotations

# Tries one thing after the other and prints {name: what happened} as JSON: "done", "refused: ERRNO", or what it found.
ATTEMPTS = r"""
import ctypes, errno, json, os, resource, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
canary, abstract = int(sys.argv[2]), sys.argv[3]
told = {}

def attempt(name):
    def run(function):
        try:
            value = function()
            told[name] = "done" if value is None else value
        except OSError as error:
            told[name] = "refused: " + errno.errorcode.get(error.errno, str(error.errno))
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
    return run

def call(name, x86, arm, *arguments):
    @attempt(name)
    def _():
        if libc.syscall(x86 if X86 else arm, *arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

def read(path, size=1):
    with open(path, "rb") as file:
        file.read(size)

def write(path, flags="w"):
    with open(path, flags) as file:
        file.write("x")

attempt("read shadow")(lambda: read("/etc/shadow"))
attempt("read through a link")(lambda: (os.symlink("/etc/shadow", "link"), read("link"))[1])
attempt("home")(lambda: os.listdir(sys.argv[4]))
attempt("list /home")(lambda: os.listdir("/home") and None)
attempt("list /var")(lambda: os.listdir("/var") and None)
attempt("list /sys")(lambda: os.listdir("/sys") and None)
attempt("read the test")(lambda: read(sys.argv[5]))
attempt("write /usr")(lambda: write("/usr/x"))
attempt("write /etc")(lambda: write("/etc/x"))
attempt("write /")(lambda: write("/x"))
attempt("write /dev")(lambda: write("/dev/x"))
attempt("write the interpreter")(lambda: write(sys.prefix + "/x"))
attempt("write core_pattern")(lambda: write("/proc/sys/kernel/core_pattern"))
attempt("write sysrq")(lambda: write("/proc/sysrq-trigger"))
attempt("remount")(lambda: os.chmod("/usr", 0o777))
attempt("environment of 1")(lambda: read("/proc/1/environ"))
attempt("memory of 1")(lambda: write("/proc/1/mem", "r+"))
attempt("own name")(lambda: write("/proc/self/comm"))
attempt("kernel memory")(lambda: read("/proc/kcore"))
attempt("device node")(lambda: os.mknod("disk", 0o60666, os.makedev(8, 0)))
attempt("become root")(lambda: os.setuid(0))
attempt("more memory")(lambda: resource.setrlimit(resource.RLIMIT_DATA, (-1, -1)))
attempt("scratch")(lambda: write("file"))
attempt("tmp")(lambda: write("/tmp/file"))
attempt("shm")(lambda: write("/dev/shm/file"))
attempt("null")(lambda: write("/dev/null"))
attempt("processes seen")(lambda: sum(name.isdigit() for name in os.listdir("/proc")))
attempt("environment")(lambda: sorted(os.environ))
attempt("descriptors")(lambda: sorted(map(int, os.listdir("/proc/self/fd")))[:-1])
attempt("host name")(lambda: os.uname().nodename)
attempt("user")(lambda: os.getuid())
attempt("mounts")(lambda: {line.split()[1]: line.split()[3] for line in open("/proc/mounts")})
attempt("interfaces")(lambda: [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line])

for name, family, address in (
    ("loopback", socket.AF_INET, ("127.0.0.1", canary)),
    ("loopback 6", socket.AF_INET6, ("::1", canary)),
    ("outside", socket.AF_INET, ("192.0.2.1", 80)),
    ("abstract socket", socket.AF_UNIX, "\0" + abstract),
):
    attempt(name)(lambda: socket.socket(family).connect(address))
attempt("udp")(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", canary)) and None)
attempt("packets")(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
attempt("netlink")(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close())
attempt("own sockets")(lambda: [end.close() for end in socket.socketpair()] and None)

call("ptrace", 101, 117, 0, 0, 0, 0)
call("mount", 165, 40, b"x", b"/scratch", b"tmpfs", 0, 0)
call("umount", 166, 39, b"/usr", 2)
call("pivot_root", 155, 41, b"/scratch", b"/scratch")
call("chroot", 161, 51, b"/scratch")
call("unshare user", 272, 97, 0x10000000)
call("unshare net", 272, 97, 0x40000000)
call("setns", 308, 268, 0, 0)
call("clone user", 56, 220, 0x10000011, 0, 0, 0, 0)
call("clone3", 435, 435, 0, 0)
call("process_vm_readv", 310, 270, 1, 0, 0, 0, 0, 0)
call("keyctl", 250, 219, 0, -3, 1)
call("add_key", 248, 217, b"user", b"x", b"y", 1, -3)
call("bpf", 321, 280, 0, 0, 0)
call("perf_event_open", 298, 241, 0, 0, -1, -1, 0)
call("userfaultfd", 323, 282, 1)
call("io_uring", 425, 425, 8, 0)
call("personality", 135, 92, 0x0040000)
call("open_by_handle_at", 304, 265, -1, 0, 0)
call("init_module", 175, 105, 0, 0, b"")
call("kexec_load", 246, 104, 0, 0, 0, 0)
call("swapon", 167, 224, b"/scratch/file", 0)
call("sethostname", 170, 161, b"x", 1)
call("memfd_create", 319, 279, b"x", 0)
call("shmget", 29, 194, 0, 4096, 0o1600)
call("newest", 9999, 9999)
print(json.dumps(told))
"""

FORK_BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
MEMORY_BOMB = "held = []\nwhile True: held.append(bytearray(8 << 20))\n"
SHARED_MEMORY_BOMB = """
import mmap, os, time
for _ in range(3): os.fork()
held = []
while len(held) < 64:  # of 4 MiB, in 8 processes: bounded, should nobody stop it
    piece = mmap.mmap(-1, 4 << 20)
    held.append(piece)
    for at in range(0, len(piece), 4096): piece[at] = 1
time.sleep(60)
"""
LOOP = "while True: pass\n"
LOOPS = "import os, signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nfor _ in range(2): os.fork()\nwhile True: pass\n"
DEAF = """# deaf to all signals
import signal, sys, time
for number in signal.valid_signals() - {9, 19}:
    try: signal.signal(number, signal.SIG_IGN)
    except OSError: pass
time.sleep(60)
"""
DAEMON = """
import os, signal, time
for _ in range(2):
    if os.fork():
        time.sleep(0.05)
        os._exit(0)
    os.setsid()
for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
time.sleep(60)
"""
FLOOD = "import os\nwhile True: os.write(1, b'x' * 65536)\n"
KILL_ALL = """
import os, signal, time
if os.fork() == 0: time.sleep(60)
os.kill(-1, signal.SIGKILL)
print("alive")
"""
HUGE_FILE = """
import os
try:
    with open("file", "wb") as file:
        while True: file.write(bytes(1 << 20))
except OSError as error: print(error.errno)
size = os.path.getsize("file")
try:
    for at in range(99):
        with open(f"/tmp/{at}", "wb") as file: file.write(bytes(1 << 20))
except OSError as error: print(error.errno)
print(size, at)
"""
EMPTY_FILES = "import time\nfor at in range(60_000): open(f'/tmp/{at}', 'x').close()\ntime.sleep(60)\n"
MANY_FILES = """
held = []
try:
    while len(held) < 10_000: held.append(open("/dev/null"))
except OSError as error: print(error.errno, len(held))
"""
NOISE = r"import os; os.write(1, b'\xff\xfe\x00ok\xc3'); os.write(2, b'\x80\0')"
