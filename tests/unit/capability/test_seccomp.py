"""What the filter of system calls decides, on both architectures: its instructions carried out one by one."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from apxm.capability.isolation import seccomp
from apxm.capability.isolation.seccomp import ALLOW, KILL, MACHINES, NO_SUCH_FAMILY, REFUSE, REFUSED, UNKNOWN, program

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NAMES = {"x86_64": 0, "aarch64": 1}
READ = {"x86_64": 0, "aarch64": 63}
CLONE, SOCKET, IOCTL = {"x86_64": 56, "aarch64": 220}, {"x86_64": 41, "aarch64": 198}, {"x86_64": 16, "aarch64": 29}


def verdict(machine: str, call: int, *arguments: int, audit: int | None = None, alone: bool = False) -> int:
    """What the kernel would do: load, compare, jump and return, as classic BPF says."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", call, AUDIT[machine] if audit is None else audit, 0, *values)
    text = program(machine, alone=alone)
    assert text is not None
    steps = list(struct.iter_unpack("=HBBI", text))
    at = held = 0
    while True:
        code, then, otherwise, constant = steps[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                held &= constant
            case 0x06:
                return constant
            case 0x15 | 0x25 | 0x45:
                true = {0x15: held == constant, 0x25: held > constant, 0x45: bool(held & constant)}[code]
                at += then if true else otherwise
            case _:
                raise AssertionError(f"instruction {code:#x} is none of those that are used")


@pytest.mark.parametrize("machine", MACHINES)
def test_what_most_programs_do_is_allowed(machine):
    assert verdict(machine, READ[machine]) == ALLOW
    assert verdict(machine, CLONE[machine], 0x01200011) == ALLOW  # fork
    assert verdict(machine, SOCKET[machine], 1) == ALLOW
    assert verdict(machine, IOCTL[machine], 1, 0x5401) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_of_the_table_is_refused(machine):
    for name, numbers in REFUSED.items():
        number = numbers[NAMES[machine]]
        if number is not None:
            assert verdict(machine, number) == REFUSE, name
    assert REFUSE & 0xFFFF == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("space", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_a_process_with_a_name_space_of_its_own_is_refused(machine, space):
    assert verdict(machine, CLONE[machine], 17 | space) == REFUSE
    assert verdict(machine, 435) == UNKNOWN  # clone3: the C library takes clone instead


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", [2, 10, 16, 17, 38, 40, 0])
def test_only_sockets_of_unix_exist(machine, family):
    assert verdict(machine, SOCKET[machine], family) == NO_SUCH_FAMILY


@pytest.mark.parametrize("machine", MACHINES)
def test_code_that_sees_directories_of_others_reaches_no_socket_by_its_name(machine):
    connect, pair = MACHINES[machine].connect, MACHINES[machine].socketpair
    assert verdict(machine, connect) == ALLOW
    assert verdict(machine, connect, alone=True) == REFUSE
    for call in (SOCKET[machine], pair):
        assert verdict(machine, call, 1, 0x80801, alone=True) == ALLOW
        assert [verdict(machine, call, 1, kind, alone=True) for kind in (2, 3, 5, 0x80802)] == [REFUSE] * 4
        assert verdict(machine, call, 2, 1, alone=True) == NO_SUCH_FAMILY


@pytest.mark.parametrize("machine", MACHINES)
def test_nobody_types_into_a_terminal(machine):
    assert verdict(machine, IOCTL[machine], 0, 0x5412) == REFUSE
    assert verdict(machine, IOCTL[machine], 0, (1 << 32) | 0x5412) == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_ends_the_process(machine):
    assert verdict(machine, READ[machine], audit=0x40000003) == KILL
    assert verdict("x86_64", 0x40000000 | READ["x86_64"]) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_are_newer_than_the_table_do_not_exist(machine):
    assert verdict(machine, 467) == UNKNOWN
    assert verdict(machine, 5000) == UNKNOWN


def test_an_unknown_machine_has_no_filter():
    assert program("riscv64") is None


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_those_of_the_kernel(machine, header):
    """Against the headers of this machine, where there are any."""
    if not Path(header).exists():
        pytest.skip(f"{header} is not there")
    known: dict[str, int] = {}
    for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()):
        known.setdefault(name, int(number))
    column = NAMES[machine]
    ours = {name: numbers[column] for name, numbers in REFUSED.items()}
    assert {name: number for name, number in ours.items() if number != known.get(name)} == {}
    its = seccomp.MACHINES[machine]
    assert (its.clone, its.socket, its.socketpair, its.ioctl) == tuple(
        known[name] for name in ("clone", "socket", "socketpair", "ioctl")
    )
