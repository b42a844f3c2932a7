"""Runs Python that a model wrote, where it can do no harm, or does not run it at all.

    outcome = await run_code(code, stdin="3 4\\n")
    verdict(outcome, expected="7\\n")

A tier says what keeps the script in: `native` (Linux: Landlock and seccomp), `docker` or `wasm` (a
Python that is WebAssembly). There is no falling back from one to the other: a tier that cannot
isolate raises `SandboxUnavailable`.
docs/sandbox.md says what a script can do, and what is not promised.
"""

import os
import time
from typing import Literal

from penstock.errors import SandboxUnavailable
from penstock.sandbox import docker, native, selftest, wasm, wasm_module
from penstock.sandbox.outcomes import Cause, Limit, Limits, Outcome, Verdict, verdict

__all__ = [
    "TIERS",
    "Cause",
    "Limit",
    "Limits",
    "Outcome",
    "Tier",
    "Verdict",
    "run_code",
    "self_test",
    "verdict",
    "warm_up",
]

Tier = Literal["native", "docker", "wasm"]
TIERS: tuple[Tier, ...] = ("native", "docker", "wasm")

_DEFAULT_LIMITS = Limits()
_tested: set[str] = set()


async def run_code(
    code: str, stdin: str = "", limits: Limits = _DEFAULT_LIMITS, tier: Tier = "native"
) -> Outcome:
    """`code` has run as a script of its own, given `stdin`, and nothing of it is left.

    The first run of a process is preceded by `self_test`. When the waiting task is cancelled the
    script is killed. Raises `SandboxUnavailable` when the tier cannot isolate it here.
    """
    if tier not in _tested:
        await self_test(tier)
    return await _run(tier)(code, stdin, limits)


async def self_test(tier: Tier = "native") -> None:
    """Scripts in this tier were seen to fail at reaching files, sockets and other processes.

    Raises `SandboxUnavailable`, with what to do.
    """
    _tested.discard(tier)
    run = _run(tier)
    try:
        if tier == "docker":
            await docker.prepared()
            await selftest.check(run, selftest.ELSEWHERE, denied=False)
        elif tier == "wasm":
            # Most of what is tried has no name there, and so is not forbidden but missing.
            await selftest.check(run, selftest.ELSEWHERE + selftest.ITSELF, denied=False)
        else:
            await selftest.check(run, selftest.ELSEWHERE + selftest.ITSELF)
    except OSError as exc:
        raise SandboxUnavailable(
            f"The sandbox's self-test could not run: {exc.strerror or exc}. It needs a temporary"
            " folder that can be written (TMPDIR)."
        ) from exc
    _tested.add(tier)


async def warm_up(tier: Tier = "native") -> str:
    """All that a first run would wait for is done; what that was, in words.

    Raises `SandboxUnavailable`, with what to do.
    """
    said = ""
    if tier == "wasm":
        started = time.monotonic()
        file, made = await wasm_module.compiled_file()
        os.close(file)
        path = wasm_module.interpreter().compiled
        took = f"Compiled the interpreter in {time.monotonic() - started:.1f} s into"
        said = f"{took} {path}.\n" if made else f"The compiled interpreter was there: {path}.\n"
    started = time.monotonic()
    await self_test(tier)
    took = f"{time.monotonic() - started:.2f} s"
    return f'{said}The sandbox "{tier}" holds: its self-test took {took}.'


def _run(tier: Tier) -> selftest.Run:
    if tier == "native":
        return native.run
    if tier == "docker":
        return docker.run
    if tier == "wasm":
        return wasm.run
    raise SandboxUnavailable(f'There is no sandbox "{tier}". Choose one of: {", ".join(TIERS)}')
