"""Attacks: each works in a plain subprocess with the same limits, and none in the sandbox."""

import asyncio
import contextlib
import functools
import os
import platform
import signal

import pytest

from penstock.sandbox import Limits, Outcome, landlock, native
from tests.sandbox.attacks import ATTACKS, OLD_CALLS, PRELUDE
from tests.sandbox.plain import run_plainly

pytestmark = pytest.mark.usefixtures("native")

LIMITS = Limits(seconds=20, disk_mb=1)
X86 = platform.machine() == "x86_64"


def run_in_sandbox(code: str, stdin: str, abi: int | None = None) -> Outcome:
    isolation = native.for_abi(abi) if abi else None
    return asyncio.run(native.run(PRELUDE + code, stdin, LIMITS, isolation))


def run_without(code: str, stdin: str) -> Outcome:
    return asyncio.run(run_plainly(PRELUDE + code, stdin, LIMITS))


def has_got(outcome: Outcome) -> bool:
    return "GOT" in outcome.stdout


def end_what_is_left(outcome: Outcome) -> None:
    """The process that a plain run has left behind, if that was the attack."""
    words = outcome.stdout.split()
    if has_got(outcome) and len(words) == 2 and words[1].isdecimal():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(words[1]), signal.SIGKILL)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_works_without_the_sandbox_and_not_in_it(name, target):
    code = ATTACKS[name]
    make = functools.partial(target, victim="victim" in code, disk_bytes=LIMITS.disk_mb * 2**20)

    plain = make()
    outcome = run_without(code, plain.stdin())
    end_what_is_left(outcome)
    assert has_got(outcome) or plain.touched(), f"no real attack here: {outcome}"

    # As on this kernel, and as on the oldest that is accepted, where seccomp has more to keep in.
    for abi in (None, landlock.OLDEST_ABI):
        kept = make()
        outcome = run_in_sandbox(code, kept.stdin(), abi)
        assert not has_got(outcome), outcome
        assert not kept.touched(), outcome


@pytest.mark.skipif(not X86, reason="this processor has no 32-bit calls of another numbering")
def test_a_call_of_another_numbering_ends_the_script():
    if not has_got(run_without(OLD_CALLS, "{}")):
        pytest.skip("this kernel has no 32-bit calls")
    outcome = run_in_sandbox(OLD_CALLS, "{}")
    assert outcome.exit_code == -signal.SIGSYS, outcome


@pytest.mark.skipif(not X86, reason="x32 is a numbering of x86_64")
def test_a_call_of_the_x32_numbering_ends_the_script():
    outcome = run_in_sandbox("syscall(0x40000000 + 39)", "{}")
    assert outcome.exit_code == -signal.SIGSYS, outcome


@pytest.mark.parametrize("how", ["os.truncate(path, 0)", "os.open(path, os.O_RDONLY | os.O_TRUNC)"])
@pytest.mark.parametrize("abi", [None, landlock.OLDEST_ABI])
def test_a_file_that_may_be_read_cannot_be_cut_short(how, abi, target):
    # The standard library may be read, and may belong to the user.
    one = target()
    given = native.for_abi(abi) if abi else native.isolation()
    rules = (*given.rules, (one.at["canary"], landlock.READ_FILE))
    given = native.Isolation(given.landlock_abi, given.ruleset, rules, given.program)
    code = f"""
path = at["canary"]
assert open(path).read() == "a canary"
{how}
got()
"""
    outcome = asyncio.run(native.run(PRELUDE + code, one.stdin(), LIMITS, given))
    assert "PermissionError" in outcome.stderr and not has_got(outcome)
    assert not one.touched()


def test_installed_packages_are_closed_to_it():
    code = """
import sysconfig
base = sysconfig.get_path("stdlib") + "/site-packages"
try:
    found = [os.path.join(base, name) for name in os.listdir(base)]
except FileNotFoundError:
    found = []
for path in found:
    if os.path.isfile(path):
        open(path)
        got(path)
"""
    assert not has_got(run_in_sandbox(code, "{}"))


def test_nothing_of_the_workers_environment_is_in_it(monkeypatch):
    monkeypatch.setenv("PENSTOCK_OPENAI_KEY", "sk-open-sesame")
    outcome = run_in_sandbox("print(dict(os.environ)); got()", "{}")
    assert has_got(outcome)
    assert "sesame" not in outcome.stdout
    names = set(eval(outcome.stdout.splitlines()[0]))
    assert names == {"HOME", "TMPDIR", "LC_ALL", "PATH", "MALLOC_ARENA_MAX"}


def test_only_its_own_files_are_open_in_it():
    code = """
for number in range(1000):
    try:
        os.fstat(number)
    except OSError:
        continue
    print(number, end=" ")
"""
    # Its input, its two outputs and the report.
    assert len(run_in_sandbox(code, "{}").stdout.split()) == 4
