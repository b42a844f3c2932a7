"""The filter's program, read as the kernel reads it, for both architectures."""

import errno
import struct

import pytest

from penstock.sandbox import seccomp

DENIED = seccomp.ERRNO | errno.EPERM
THREAD = 0x3D0F00  # as glibc makes one
POINTER = 0x7F00_0000_0000


def answer(machine, number, *arguments, arch=None, abi=7):
    """What the program says to a call: an interpreter of the instructions that it uses."""
    code = seccomp.program(abi, machine)
    lines = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    given = [*arguments, *[0] * (6 - len(arguments))]
    arch = seccomp.ARCHITECTURES[machine][0] if arch is None else arch
    data = struct.pack("=IIQ6Q", number, arch, 0, *(value % 2**64 for value in given))
    at, value = 0, 0
    while True:
        operation, if_true, if_false, operand = lines[at]
        at += 1
        if operation == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif operation == 0x54:
            value &= operand
        elif operation == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand}[operation]
            at += if_true if holds else if_false


#: name: (number on x86_64, on aarch64), arguments, answer
CALLS = [
    ("read", (0, 63), (), seccomp.ALLOW),
    ("map memory", (9, 222), (0, 4096, 3, 0x22, -1, 0), seccomp.ALLOW),
    ("map a file", (9, 222), (0, 4096, 1, 0x1, 3, 0), seccomp.ERRNO | errno.ENOSYS),
    ("map a file privately", (9, 222), (0, 4096, 1, 0x2, 3, 0), seccomp.ERRNO | errno.ENOSYS),
    ("exit_group", (231, 94), (), seccomp.ALLOW),
    ("execve", (59, 221), (), DENIED),
    ("execveat", (322, 281), (), DENIED),
    ("ptrace", (101, 117), (), DENIED),
    ("process_vm_readv", (310, 270), (), DENIED),
    ("socket", (41, 198), (2, 1), DENIED),
    ("connect", (42, 203), (), DENIED),
    ("sendmsg", (46, 211), (), DENIED),
    ("io_uring_setup", (425, 425), (), DENIED),
    ("setsid", (112, 157), (), DENIED),
    ("unknown", (9999, 9999), (), DENIED),
    ("a thread", (56, 220), (THREAD,), seccomp.ALLOW),
    ("a fork", (56, 220), (17,), DENIED),
    ("a thread in a namespace", (56, 220), (THREAD | 0x1000_0000,), DENIED),
    ("clone3", (435, 435), (), seccomp.ERRNO | errno.ENOSYS),
    ("F_GETFL", (72, 25), (3, 3), seccomp.ALLOW),
    ("F_SETOWN", (72, 25), (3, 8), DENIED),
    ("F_SETOWN_EX", (72, 25), (3, 15), DENIED),
    ("FIONBIO", (16, 29), (3, 0x5421), seccomp.ALLOW),
    ("TIOCSTI", (16, 29), (0, 0x5412), DENIED),
    ("PR_SET_DUMPABLE", (157, 167), (4, 1), DENIED),
    ("kill itself", (62, 129), (seccomp.OWN_PID, 9), seccomp.ALLOW),
    ("kill all", (62, 129), (-1, 9), DENIED),
    ("kill its group", (62, 129), (0, 9), DENIED),
    ("read its limits", (302, 261), (0, 7, 0, POINTER), seccomp.ALLOW),
    ("set its limits", (302, 261), (0, 7, POINTER, 0), DENIED),
    ("read another's limits", (302, 261), (1, 7, 0, POINTER), DENIED),
    ("a pair of streams", (53, 199), (1, 1 | 0o2000000), seccomp.ALLOW),
    ("a pair for datagrams", (53, 199), (1, 2), DENIED),
    ("a pair of another family", (53, 199), (2, 1), DENIED),
    ("send", (44, 206), (3, POINTER, 1, 0, 0, 0), seccomp.ALLOW),
    ("send to", (44, 206), (3, POINTER, 1, 0, POINTER, 16), DENIED),
    ("send to a high address", (44, 206), (3, POINTER, 1, 0, 1 << 40, 16), DENIED),
    ("open", (257, 56), (-100, POINTER, 0), seccomp.ALLOW),
    ("open to write anew", (257, 56), (-100, POINTER, 0o1101), seccomp.ALLOW),
    ("open to read and cut", (257, 56), (-100, POINTER, 0o1000), DENIED),
    ("open for nothing", (257, 56), (-100, POINTER, 3), DENIED),
    ("truncate", (76, 45), (), seccomp.ALLOW),
    ("fallocate", (285, 47), (3, 0), seccomp.ALLOW),
    ("fallocate beyond the size", (285, 47), (3, 1), DENIED),
    ("fchmod", (91, 52), (), seccomp.ERRNO),
    ("fchown", (93, 55), (), DENIED),
    ("setxattr", (188, 5), (), seccomp.ERRNO | errno.ENOTSUP),
]  # fmt: skip


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
@pytest.mark.parametrize("call", CALLS, ids=[call[0] for call in CALLS])
def test_a_call_is_answered(call, machine):
    _, numbers, arguments, expected = call
    assert answer(machine, numbers[machine == "aarch64"], *arguments) == expected


def test_a_path_is_not_cut_short_where_landlock_does_not_govern_it():
    assert answer("x86_64", 76, abi=2) == answer("aarch64", 45, abi=2) == DENIED


def test_calls_of_another_numbering_kill():
    assert answer("x86_64", 20, arch=0x40000003) == seccomp.KILL  # i386
    assert answer("aarch64", 20, arch=0x40000028) == seccomp.KILL  # arm
    assert answer("x86_64", 0x4000_0000) == seccomp.KILL  # x32


def test_no_call_is_in_two_tables():
    tables = (seccomp.ALLOWED, seccomp.FILTERED, seccomp.DONE, seccomp.UNSUPPORTED)
    for column in (0, 1):
        numbers = [row[column] for table in tables for row in table.values()]
        known = [number for number in numbers if number is not None]
        assert len(known) == len(set(known))
