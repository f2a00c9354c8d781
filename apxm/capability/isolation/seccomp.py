"""Which system calls sandboxed code may make: a classic BPF program for seccomp, made here from one table. Loads nothing.

What most programs need stays allowed. Refused is what changes the machine, other processes or name spaces, what has no
namespace of its own, what hides memory from the limits, and kinds of sockets other than those of Unix. Calls that this
table does not know, being newer, do not exist for the code (ENOSYS): a C library then takes an older one.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import NamedTuple

# What is refused with EPERM: name -> (number on x86_64, number on aarch64), None where the architecture has no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    # mounts and name spaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sysfs": (139, None),
    "ustat": (136, None),
    "uselib": (134, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    # keys: they belong to users, not to name spaces
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # large parts of the kernel that few programs need
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "vmsplice": (278, 75),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "query_module": (178, None),
    "get_kernel_syms": (177, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "_sysctl": (156, None),
    "vhangup": (153, 58),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory that belongs to no process, and so to no limit
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}


class _Machine(NamedTuple):
    """What differs between architectures; `column` is the one of REFUSED."""

    audit: int  # AUDIT_ARCH_* of <linux/audit.h>
    column: int
    clone: int
    socket: int
    socketpair: int
    ioctl: int
    connect: int


MACHINES = {"x86_64": _Machine(0xC000003E, 0, 56, 41, 53, 16, 42), "aarch64": _Machine(0xC00000B7, 1, 220, 198, 199, 29, 203)}
_CLONE3 = 435
_NEWEST = 466  # the last call that this table was made with
_X32 = 0x40000000  # x86_64 has a second set of calls with this bit
# Those flags of clone that make name spaces: mount, cgroup, uts, ipc, user, pid, net.
NEW_SPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPES = 1, 1, 0xF  # the types of sockets, without their flags
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # put text into a terminal, as if somebody had typed it

_LOAD, _AND, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06  # <linux/bpf_common.h>
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data; low halves of the arguments
KILL, ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000  # <linux/seccomp.h>
REFUSE, UNKNOWN, NO_SUCH_FAMILY = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS, _ERRNO | errno.EAFNOSUPPORT


def program(machine: str | None = None, *, alone: bool = False) -> bytes | None:
    """The filter as an array of struct sock_filter for this or that machine; None for one that the table does not have.

    `alone`: no socket reaches another one by its name. That is for code which sees directories where others may listen: a
    mount that is read-only does not keep anybody from connecting.
    """
    found = MACHINES.get(machine or platform.machine())
    return None if found is None else b"".join(struct.pack("=HBBI", *step) for step in _steps(found, alone))


def _steps(machine: _Machine, alone: bool) -> list[tuple[int, int, int, int]]:
    """(code, jump if true, jump if false, constant) of each instruction. Every call of another architecture is the last."""
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), *_unless(_EQUAL, machine.audit, KILL), (_LOAD, 0, 0, _NUMBER)]
    if machine.column == 0:
        steps += _when(_GREATER, _X32 - 1, KILL)
    steps += _when(_GREATER, _NEWEST, UNKNOWN)
    steps += _when(_EQUAL, _CLONE3, UNKNOWN)  # its flags lie in memory, where no filter can look
    for numbers in REFUSED.values():
        number = numbers[machine.column]
        if number is not None:
            steps += _when(_EQUAL, number, REFUSE)
    steps += _argument(machine.clone, _FIRST, [*_when(_ANY_BIT, NEW_SPACES, REFUSE)])
    kinds = _unless(_EQUAL, _AF_UNIX, NO_SUCH_FAMILY)
    if alone:
        steps += _when(_EQUAL, machine.connect, REFUSE)
        kinds += [(_LOAD, 0, 0, _SECOND), (_AND, 0, 0, _SOCK_TYPES), *_unless(_EQUAL, _SOCK_STREAM, REFUSE)]  # others name whom
    for call in (machine.socket, machine.socketpair):
        steps += _argument(call, _FIRST, kinds)
    steps += _argument(machine.ioctl, _SECOND, [*_when(_EQUAL, _TIOCSTI, REFUSE), *_when(_EQUAL, _TIOCLINUX, REFUSE)])
    return [*steps, (_RETURN, 0, 0, ALLOW)]


def _when(test: int, constant: int, verdict: int) -> list[tuple[int, int, int, int]]:
    return [(test, 0, 1, constant), (_RETURN, 0, 0, verdict)]


def _unless(test: int, constant: int, verdict: int) -> list[tuple[int, int, int, int]]:
    return [(test, 1, 0, constant), (_RETURN, 0, 0, verdict)]


def _argument(call: int, offset: int, tests: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """For one call: load an argument, test it, and else allow the call."""
    inside = [(_LOAD, 0, 0, offset), *tests, (_RETURN, 0, 0, ALLOW)]
    return [(_EQUAL, 0, len(inside), call), *inside]
