"""The system calls that a script may make, as a program for the kernel's seccomp filter.

What is not listed fails with EPERM. The list lets through what the standard library needs and what
touches only the process itself and files that Landlock has let it open. Everything that makes a
process, a socket or a signal for somebody else is absent, so a new kind of call is absent too.

The numbers are those of <asm/unistd.h>, on the two architectures with `native`.
"""

import errno
import platform
import struct
from collections.abc import Iterator, Sequence

#: By `platform.machine()`: the kernel's AUDIT_ARCH_* and the column of the tables below.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
#: Stands in the program where the process's own id goes, which only the process knows.
OWN_PID = 0x7E57_1D00


def _table(text: str) -> dict[str, tuple[int | None, int | None]]:
    rows = {}
    for line in text.strip().splitlines():
        if not line.startswith("#"):
            for entry in line.strip(" ,").split(","):
                name, *numbers = entry.split()
                x86_64, aarch64 = (None if n == "-" else int(n) for n in numbers)
                rows[name] = (x86_64, aarch64)
    return rows


#: Calls that are let through whatever their arguments.
ALLOWED = _table("""
# bytes of open files
read 0 63, write 1 64, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69,
pwritev 296 70, preadv2 327 286, pwritev2 328 287, lseek 8 62, close 3 57, close_range 436 436,
dup 32 23, dup2 33 -, dup3 292 24, fsync 74 82, fdatasync 75 83, sync_file_range 277 84,
fadvise64 221 223, ftruncate 77 46, flock 73 32, sendfile 40 71,
copy_file_range 326 285, pipe 22 -, pipe2 293 59
# names and metadata; Landlock says which files may be opened
stat 4 -, lstat 6 -, fstat 5 80, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44,
access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78,
getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, umask 95 166
# files and folders of the scratch folder, as Landlock says
mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -,
renameat 264 38, renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36
# memory
munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, msync 26 227,
mincore 27 232, brk 12 214
# signals and timers of its own
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
rt_sigsuspend 130 133, rt_sigtimedwait 128 137, sigaltstack 131 132, restart_syscall 219 128,
pause 34 -, alarm 37 -, setitimer 38 103, getitimer 36 102, signalfd4 289 74
# waiting
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20,
epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd2 290 19,
timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87
# the ends of a socket pair, which asyncio wakes itself with
recvfrom 45 207, getsockname 51 204, getpeername 52 205, getsockopt 55 209, shutdown 48 210
# threads and clocks
futex 202 98, set_robust_list 273 99, set_tid_address 218 96, rseq 334 293, sched_yield 24 124,
sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120,
sched_get_priority_max 146 125, sched_get_priority_min 147 126, getpriority 140 141,
getcpu 309 168
nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114,
gettimeofday 96 169, time 201 -, times 100 153, getrandom 318 278, getrusage 98 165,
sysinfo 99 179, uname 63 160
# itself
getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176,
getegid 108 177, getgroups 115 158, getresuid 118 148, getresgid 120 150, getpgrp 111 -,
getpgid 121 155, getsid 124 156, getrlimit 97 163, wait4 61 260, waitid 247 95, exit 60 93,
exit_group 231 94
""")

#: Calls that depend on their arguments, see `_rules`.
FILTERED = _table("""
mmap 9 222, open 2 -, openat 257 56, truncate 76 45, fallocate 285 47, clone 56 220, clone3 435 435,
fcntl 72 25, ioctl 16 29, prctl 157 167, prlimit64 302 261, socketpair 53 199, sendto 44 206,
kill 62 129, tgkill 234 131
""")

#: Answered "done" and not done: Landlock does not govern them, and `shutil` and `tempfile` call
#: them.
DONE = _table("""
chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, utime 132 -, utimes 235 -,
utimensat 280 88, futimesat 261 -
""")

#: Answered as by a file system that has none, which is what `shutil.copy2` is prepared for.
UNSUPPORTED = _table("""
setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, getxattr 191 8, lgetxattr 192 9,
fgetxattr 193 10, listxattr 194 11, llistxattr 195 12, flistxattr 196 13, removexattr 197 14,
lremovexattr 198 15, fremovexattr 199 16
""")

# What the kernel does with a call.
KILL = 0x8000_0000
ALLOW = 0x7FFF_0000
ERRNO = 0x0005_0000
DENY = ERRNO | errno.EPERM

# Instructions of the classic BPF: operation, jump if true, jump if false, operand.
Instruction = tuple[int, int, int, int]
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
#: Calls of the x32 ABI carry this bit on x86_64. Their numbers mean other calls.
_X32 = 0x4000_0000

# CLONE_*: what makes a thread, and what libraries add to it. Anything else is a process or a
# namespace.
_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000  # VM, FS, FILES, SIGHAND, THREAD
_THREAD_EXTRAS = 0x4_0000 | 0x8_0000 | 0x10_0000 | 0x20_0000 | 0x40_0000 | 0x100_0000
#: Commands of fcntl. Absent: F_SETOWN, F_SETSIG and F_SETOWN_EX, with which the kernel sends any
#: signal to the parent for one, leases, notifications and sizes of pipes.
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
#: FIONBIO, FIOCLEX, FIONCLEX, FIONREAD, TCGETS: blocking, closing, counting and "is it a terminal".
_IOCTL = (0x5421, 0x5451, 0x5450, 0x541B, 0x5401)
#: PR_SET_NAME, PR_GET_NAME and PR_SET_VMA: names of threads and of stretches of memory.
_PRCTL = (15, 16, 0x53564D41)
_ACCESS_MODE, _TRUNCATE = 0o3, 0o1000
#: MAP_ANONYMOUS
_ANONYMOUS = 0x20


def program(landlock_abi: int, machine: str | None = None) -> bytes:
    """The filter for a script on this machine, as an array of `struct sock_filter`.

    `OWN_PID` has to be replaced before it is installed. Landlock before ABI 3 lets a file be cut
    short that may only be read, so `truncate` is let through from there on only.
    """
    arch, column = ARCHITECTURES[machine or platform.machine()]
    lines: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, 0),
    ]
    if column == 0:
        lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, KILL)]
    for number, body in _calls(column, landlock_abi):
        lines += [(_EQUAL, 0, len(body), number), *body]
    lines.append((_RETURN, 0, 0, DENY))
    return assemble(lines)


def assemble(lines: Sequence[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _calls(column: int, landlock_abi: int) -> Iterator[tuple[int, list[Instruction]]]:
    """Each call's number, and the instructions that answer it."""
    answers: list[tuple[dict[str, tuple[int | None, int | None]], int]] = [
        (ALLOWED, ALLOW),
        (DONE, ERRNO),
        (UNSUPPORTED, ERRNO | errno.ENOTSUP),
    ]
    for table, answer in answers:
        for numbers in table.values():
            if (number := numbers[column]) is not None:
                yield number, [(_RETURN, 0, 0, answer)]
    rules = _rules(landlock_abi)
    for name, numbers in FILTERED.items():
        if (number := numbers[column]) is not None:
            yield number, rules[name]


def _rules(landlock_abi: int) -> dict[str, list[Instruction]]:
    deny, allow = (_RETURN, 0, 0, DENY), (_RETURN, 0, 0, ALLOW)
    return {
        # Threads; no processes, no namespaces.
        "clone": [*_masked(0, ~_THREAD_EXTRAS, _THREAD), deny],
        # Its flags are in memory, where a filter cannot look. Libraries fall back to clone.
        "clone3": [(_RETURN, 0, 0, ERRNO | errno.ENOSYS)],
        # Memory, and no file: it would keep its room on the disk when it has neither a name nor a
        # number any more. Whoever can do without reads the file after this answer.
        "mmap": [
            *_masked(3, _ANONYMOUS, _ANONYMOUS),
            (_RETURN, 0, 0, ERRNO | errno.ENOSYS),
        ],
        "fcntl": [*_one_of(1, _FCNTL), deny],
        # Other modes take room beyond the size of a file, which RLIMIT_FSIZE does not see.
        "fallocate": [*_one_of(1, [0]), deny],
        "ioctl": [*_one_of(1, _IOCTL), deny],
        "prctl": [*_one_of(0, _PRCTL), deny],
        "kill": [*_one_of(0, [OWN_PID]), deny],
        "tgkill": [*_one_of(0, [OWN_PID]), deny],
        # Reading limits; not setting them, and not those of others.
        "prlimit64": [(_LOAD, 0, 0, _low(0)), (_EQUAL, 1, 0, 0), deny, *_null(2), deny],
        # A stream is connected for good. A datagram socket could be sent from to any address.
        "socketpair": [
            *((_LOAD, 0, 0, _low(0)), (_EQUAL, 1, 0, 1), deny),
            *(*_masked(1, 0xF, 1), deny),
        ],
        "sendto": [*_null(4), deny],
        "open": _opening(1),
        "openat": _opening(2),
        "truncate": [allow if landlock_abi >= 3 else deny],
    }


def _low(argument: int) -> int:
    """Where the lower half of an argument stands in `struct seccomp_data`."""
    return 16 + 8 * argument


def _one_of(argument: int, values: Sequence[int]) -> list[Instruction]:
    lines: list[Instruction] = [(_LOAD, 0, 0, _low(argument))]
    for value in values:
        lines += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, ALLOW)]
    return lines


def _masked(argument: int, mask: int, value: int) -> list[Instruction]:
    return [
        (_LOAD, 0, 0, _low(argument)),
        (_AND, 0, 0, mask & 0xFFFF_FFFF),
        (_EQUAL, 0, 1, value),
        (_RETURN, 0, 0, ALLOW),
    ]


def _null(argument: int) -> list[Instruction]:
    """A pointer, so both halves of it."""
    return [
        (_LOAD, 0, 0, _low(argument)),
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _low(argument) + 4),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, ALLOW),
    ]


def _opening(argument: int) -> list[Instruction]:
    """Any way of opening but two: "for nothing", which has no access mode that Landlock knows, and
    "for reading and cut it short", which Landlock before ABI 3 takes for reading."""
    return [
        (_LOAD, 0, 0, _low(argument)),
        (_AND, 0, 0, _ACCESS_MODE | _TRUNCATE),
        (_EQUAL, 3, 0, _TRUNCATE),
        (_AND, 0, 0, _ACCESS_MODE),
        (_EQUAL, 1, 0, _ACCESS_MODE),
        (_RETURN, 0, 0, ALLOW),
        (_RETURN, 0, 0, DENY),
    ]
