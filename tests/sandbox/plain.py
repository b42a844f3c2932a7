"""A plain subprocess: the same interpreter, limits and empty environment, and no isolation.

What gets through in it and not in the sandbox was kept in by the sandbox, not by luck.
"""

import asyncio
import math
import sys

from penstock.sandbox import Limits, Outcome, scratch
from penstock.sandbox.processes import run_process, to_the_end

_LAUNCHER = """\
import os, resource, sys
memory, seconds, size, files = map(int, sys.argv.pop(1).split(","))
for limit, value in (
    (resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, size),
    (resource.RLIMIT_NOFILE, files), (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (value, value))
os.execv(sys.executable, [sys.executable, "-B", "-X", "utf8", "script.py"])
"""


async def run_plainly(code: str, stdin: str = "", limits: Limits | None = None) -> Outcome:
    limits = limits or Limits()
    folder = scratch.new_folder()
    memory, disk = limits.memory_mb * 2**20, limits.disk_mb * 2**20
    values = f"{memory},{math.ceil(limits.seconds) + 1},{disk},64"
    try:
        await to_the_end(asyncio.to_thread(scratch.make, folder, code))
        return await run_process(
            [*(sys.executable, "-I", "-S", "-B", "-c", _LAUNCHER), values],
            environment={"HOME": str(folder), "TMPDIR": str(folder), "MALLOC_ARENA_MAX": "1"},
            folder=folder,
            stdin=stdin.encode(),
            limits=limits,
        )
    finally:
        await to_the_end(asyncio.to_thread(scratch.remove, folder))
