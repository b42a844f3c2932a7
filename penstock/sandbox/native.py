"""The tier `native`: a process of this machine's own Python, behind Landlock and seccomp."""

import asyncio
import contextlib
import ctypes
import dataclasses
import errno
import functools
import marshal
import math
import os
import pathlib
import platform
import secrets
import sys
from collections.abc import Iterator

from penstock.errors import SandboxUnavailable
from penstock.sandbox import landlock, scratch, seccomp
from penstock.sandbox.outcomes import Limit, Limits, Outcome
from penstock.sandbox.processes import read_report, report_pipe, run_process, to_the_end

_HERE = pathlib.Path(__file__).parent
_OTHERWISE = 'Use the tier "docker" or "wasm", or a Linux with kernel 5.19 or newer.'
#: Open files at once. Each can hold the whole of `disk_mb` after its name is gone.
_MAX_FILES = 64
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


@dataclasses.dataclass(frozen=True)
class Isolation:
    """What a script is kept from, ready for the launcher."""

    landlock_abi: int
    ruleset: bytes
    rules: tuple[landlock.Rule, ...]
    program: bytes


@functools.cache
def isolation() -> Isolation:
    """All of it, as this kernel can. Blocks for about 0.1 s, the first time.

    Raises `SandboxUnavailable` when the kernel cannot.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux":
        raise SandboxUnavailable(
            f'The sandbox "native" needs Linux; this is {system}. {_OTHERWISE}'
        )
    if machine not in seccomp.ARCHITECTURES or sys.maxsize < 2**32:
        known = " and ".join(seccomp.ARCHITECTURES)
        raise SandboxUnavailable(
            f'The sandbox "native" knows {known} of 64 bits; this is {machine}. {_OTHERWISE}'
        )
    abi = landlock.abi()
    if abi < landlock.OLDEST_ABI:
        found = f"has version {abi} of it" if abi else "has none, or it is switched off"
        raise SandboxUnavailable(
            f'The sandbox "native" needs Landlock; this kernel ({platform.release()}) {found}. '
            f"Add \"landlock\" to the kernel's lsm= parameter, and let a container's seccomp "
            f"profile pass its system calls. {_OTHERWISE}"
        )
    _probe_seccomp()
    return for_abi(abi)


def for_abi(abi: int) -> Isolation:
    """As a kernel with this version of Landlock would have it."""
    rules = tuple(landlock.read_rules(abi))
    return Isolation(abi, landlock.ruleset(abi), rules, seccomp.program(abi))


def _probe_seccomp() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # A filter at no address: a kernel that knows filters says so, and installs none.
    libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), None)
    if ctypes.get_errno() != errno.EFAULT:
        raise SandboxUnavailable(
            'The sandbox "native" needs seccomp filters, and this kernel has none '
            f"(CONFIG_SECCOMP_FILTER). {_OTHERWISE}"
        )


async def run(
    code: str, stdin: str, limits: Limits, isolated_by: Isolation | None = None
) -> Outcome:
    """As `penstock.sandbox.run_code`."""
    if isolated_by is None:
        isolated_by = await asyncio.to_thread(isolation)
    folder = scratch.new_folder()
    key = secrets.token_hex(16).encode()
    try:
        await to_the_end(asyncio.to_thread(scratch.make, folder, code))
        with (
            _orders(isolated_by, folder, limits, key) as orders,
            report_pipe() as (reading, writing),
        ):
            outcome = await run_process(
                [
                    *(sys.executable, "-I", "-S", "-B", "-X", "utf8"),
                    *(str(_HERE / "launcher.py"), str(orders), str(writing)),
                ],
                environment={
                    "HOME": str(folder),
                    "TMPDIR": str(folder),
                    "LC_ALL": "C.UTF-8",
                    "PATH": "",
                    # Else every thread takes 64 MB of the address space.
                    "MALLOC_ARENA_MAX": "1",
                },
                folder=folder,
                stdin=stdin.encode("utf-8", "surrogatepass"),
                limits=limits,
                inherited=(orders, writing),
            )
            report = read_report(reading)
        limit = outcome.limit
        if limit is None:
            limit = await asyncio.to_thread(_limit_met, folder, limits, report)
    finally:
        await to_the_end(asyncio.to_thread(scratch.remove, folder))
    if not report.startswith(b"ready\n") and limit is None:
        reason = report.decode("utf-8", "replace").strip() or outcome.stderr.strip()[-500:]
        raise SandboxUnavailable(
            f'The sandbox "native" could not be closed: {reason}. {_OTHERWISE}'
        )
    return dataclasses.replace(
        outcome,
        limit=limit,
        exit_code=None if limit else outcome.exit_code,
        finished=not limit and report == b"ready\nend " + key + b"\n",
    )


@contextlib.contextmanager
def _orders(given: Isolation, folder: pathlib.Path, limits: Limits, key: bytes) -> Iterator[int]:
    """A file descriptor from which the launcher reads what to do."""
    import resource

    disk, memory = limits.disk_mb * 2**20, limits.memory_mb * 2**20
    # Only for a worker that does not look at its clock; several threads use several seconds in one.
    cpu = math.ceil(limits.seconds) * (os.cpu_count() or 1) + 1
    content = {
        "worker": os.getpid(),
        "script": str(folder / "script.py"),
        "inside": _inside(),
        "rlimits": [
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CPU, cpu),
            (resource.RLIMIT_FSIZE, disk),
            (resource.RLIMIT_NOFILE, _MAX_FILES),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ],
        "ruleset": given.ruleset,
        "rules": [*given.rules, landlock.scratch_rule(str(folder), given.landlock_abi)],
        "program": given.program,
        "own_pid": seccomp.OWN_PID,
        "modules": landlock.modules(),
        "key": key,
    }
    # In memory: a pipe could be too small for it.
    orders = os.memfd_create("orders")
    try:
        os.write(orders, marshal.dumps(content))
        os.lseek(orders, 0, os.SEEK_SET)
        yield orders
    finally:
        os.close(orders)


@functools.cache
def _inside() -> object:
    source = _HERE / "inside.py"
    return compile(source.read_bytes(), str(source), "exec")


def _limit_met(folder: pathlib.Path, limits: Limits, report: bytes) -> Limit | None:
    """The limit that the kernel enforced, and that the script noticed as an error of its own."""
    if report.startswith(b"ready\nmemory "):
        return "memory"
    enough = limits.disk_mb * 2**20
    return "disk" if scratch.measure(folder, enough) >= enough else None
