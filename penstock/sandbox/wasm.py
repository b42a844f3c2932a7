"""The tier `wasm`: a Python that is WebAssembly, where there is neither Landlock nor Docker."""

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import secrets
import sys

from penstock.errors import SandboxUnavailable
from penstock.sandbox import scratch, wasm_module
from penstock.sandbox.outcomes import Limit, Limits, Outcome
from penstock.sandbox.processes import read_report, report_pipe, run_process, to_the_end

#: Of the process, so a few of them are not the script's.
_MAX_FILES = 64
#: The most that 32 bits can address.
_MOST_MEMORY = 2**32
_REPORT_BYTES = 100


async def run(code: str, stdin: str, limits: Limits) -> Outcome:
    """As `penstock.sandbox.run_code`. The first run of all compiles the interpreter."""
    outcome, report = await _run(code, stdin, limits)
    if report.startswith(b"stale "):
        # Of another build of wasmtime, or of a processor that can do other things.
        wasm_module.interpreter().compiled.unlink(missing_ok=True)
        outcome, report = await _run(code, stdin, limits)
    if not report.startswith(b"ready\n") and outcome.limit is None:
        reason = report.decode("utf-8", "replace").strip() or outcome.stderr.strip()[-500:]
        raise SandboxUnavailable(
            f'The sandbox "wasm" could not be closed: {reason or outcome.exit_code}. If it stays '
            f"so, remove {wasm_module.interpreter().compiled} and run: {wasm_module.WARM_UP}"
        )
    return outcome


async def _run(code: str, stdin: str, limits: Limits) -> tuple[Outcome, bytes]:
    """What came of it, and what the launcher said."""
    key = secrets.token_hex(16).encode()
    given = b"%d\n%s" % (len(key), key) + stdin.encode("utf-8", "surrogatepass")
    compiled, _ = await wasm_module.compiled_file()
    folder = scratch.new_folder()
    try:
        await to_the_end(asyncio.to_thread(scratch.make, folder, code))
        with report_pipe() as (reading, writing):
            orders = json.dumps(_orders(limits, folder, compiled, writing))
            outcome = await run_process(
                [
                    *(sys.executable, "-I", "-S", "-B", "-X", "utf8"),
                    *(str(wasm_module.LAUNCHER), orders),
                ],
                environment={"PATH": ""},
                folder=folder,
                stdin=given,
                limits=limits,
                inherited=(compiled, writing),
            )
            report = read_report(reading)
        limit, finished = outcome.limit, False
        if limit is None:
            limit, finished = await asyncio.to_thread(_end, folder, limits, report, key)
    finally:
        os.close(compiled)
        await to_the_end(asyncio.to_thread(scratch.remove, folder))
    code_ = None if limit else outcome.exit_code
    ended = dataclasses.replace(
        outcome, limit=limit, exit_code=code_, finished=finished and not limit
    )
    return ended, report


def _orders(limits: Limits, folder: pathlib.Path, compiled: int, report: int) -> dict[str, object]:
    import resource

    disk, seconds = limits.disk_mb * 2**20, math.ceil(limits.seconds)
    return {
        "packages": str(wasm_module.interpreter().packages),
        "worker": os.getpid(),
        "folder": str(folder),
        "compiled": compiled,
        "report": report,
        "seconds": limits.seconds,
        "memory": min(limits.memory_mb * 2**20, _MOST_MEMORY),
        "rlimits": [
            # Only for a worker that does not look at its clock.
            (resource.RLIMIT_CPU, seconds + 2),
            (resource.RLIMIT_FSIZE, disk),
            (resource.RLIMIT_NOFILE, _MAX_FILES),
            (resource.RLIMIT_CORE, 0),
        ],
    }


def _end(
    folder: pathlib.Path, limits: Limits, report: bytes, key: bytes
) -> tuple[Limit | None, bool]:
    """The limit that the script noticed as an error of its own, and whether it came to its end."""
    report = b""
    with contextlib.suppress(OSError):
        file = os.open(folder / ".report", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            report = os.read(file, _REPORT_BYTES)
        finally:
            os.close(file)
        (folder / ".report").unlink()
    if report.endswith(b"timeout\n"):
        return "timeout", False
    if report == b"memory " + key:
        return "memory", False
    enough = limits.disk_mb * 2**20
    if scratch.measure(folder, enough) >= enough:
        return "disk", False
    return None, report == b"end " + key
