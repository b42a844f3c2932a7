"""Where it cannot isolate it refuses, and says what to do."""

import asyncio
import dataclasses
import platform
import subprocess
import sys

import pytest

from penstock.errors import OperatorError, SandboxUnavailable
from penstock.sandbox import Limits, landlock, native, run_code, seccomp, self_test, selftest
from tests.programs import ROOT
from tests.sandbox.plain import run_plainly

ALL = selftest.ELSEWHERE + selftest.ITSELF


def refusal(run, attempts=ALL):
    with pytest.raises(SandboxUnavailable) as caught:
        asyncio.run(selftest.check(run, attempts))
    return caught.value.message


def test_the_self_test_sees_that_a_plain_subprocess_isolates_nothing():
    message = refusal(run_plainly)
    assert [name for name in ALL if name not in message] == []
    assert "nothing is run in it" in message


@pytest.mark.usefixtures("native")
def test_the_self_test_passes_here():
    asyncio.run(self_test("native"))


@pytest.mark.usefixtures("native")
def test_the_self_test_sees_that_seccomp_is_missing():
    everything = seccomp.assemble([(0x06, 0, 0, seccomp.ALLOW)])
    isolation = dataclasses.replace(native.isolation(), program=everything)

    async def run(code, stdin, limits):
        return await native.run(code, stdin, limits, isolation)

    message = refusal(run)
    assert "sends by UDP" in message and "starts processes" in message
    assert "reads files" not in message


@pytest.mark.usefixtures("native")
def test_the_self_test_sees_that_landlock_is_missing():
    rule = ("/", landlock.scratch_rule("/", native.isolation().landlock_abi)[1])
    isolation = dataclasses.replace(native.isolation(), rules=(rule,))

    async def run(code, stdin, limits):
        return await native.run(code, stdin, limits, isolation)

    message = refusal(run)
    assert "reads files" in message and "writes files" in message
    assert "sends by UDP" not in message and "starts processes" not in message


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "broken",
    [
        {"rules": (("/there/is/no/such/file", landlock.READ_FILE),)},
        {"ruleset": b"\xff" * 24},
        {"program": b"\0" * 8},
        {"program": b""},
    ],
)
def test_a_sandbox_that_cannot_be_closed_runs_nothing(broken, tmp_path):
    isolation = dataclasses.replace(native.isolation(), **broken)
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    with pytest.raises(SandboxUnavailable, match="could not be closed"):
        asyncio.run(native.run(code, "", Limits(), isolation))
    assert not (tmp_path / "ran").exists()


#: A process in which one system call fails, as on a kernel that has it not or has it switched off.
WITHOUT = """\
import asyncio, ctypes, sys
from penstock.errors import SandboxUnavailable
from penstock.sandbox import run_code, seccomp
number, argument, error = map(int, sys.argv[1:])
deny = (0x06, 0, 0, seccomp.ERRNO | error)
lines = [(0x20, 0, 0, 0), (0x15, 0, 3, number)]
lines += [(0x20, 0, 0, 16), (0x15, 0, 1, argument)] if argument else [(0x20, 0, 0, 0)] * 2
lines += [deny, (0x06, 0, 0, seccomp.ALLOW)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc, program = ctypes.CDLL(None), seccomp.assemble(lines)
zero = ctypes.c_ulong(0)
assert libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) == 0
filter = ctypes.byref(Program(len(lines), program))
assert libc.prctl(22, ctypes.c_ulong(2), filter, zero, zero) == 0
try:
    print("ran", asyncio.run(run_code("print('hello')")))
except SandboxUnavailable as refused:
    print("refused", refused.message)
"""


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("call", "argument", "error", "said"),
    [
        (landlock.CREATE_RULESET, 0, 38, "needs Landlock"),
        (landlock.CREATE_RULESET, 0, 95, "needs Landlock"),
        (landlock.CREATE_RULESET, 0, 1, "needs Landlock"),
        ({"x86_64": 157, "aarch64": 167}, 22, 22, "needs seccomp filters"),
        (446, 0, 1, "could not be closed"),
    ],
    ids=["no landlock", "landlock off", "landlock forbidden", "no seccomp", "no way in"],
)
def test_a_kernel_that_cannot_isolate_is_refused(call, argument, error, said):
    number = call if isinstance(call, int) else call[platform.machine()]
    given = [str(value) for value in (number, argument, error)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.startswith("refused "), done
    assert said in done.stdout and 'tier "docker"' in done.stdout


@pytest.mark.parametrize(
    ("name", "value"), [("machine", "riscv64"), ("machine", "i686"), ("system", "Darwin")]
)
def test_a_machine_that_is_not_known_is_refused(name, value, monkeypatch):
    native.isolation.cache_clear()
    monkeypatch.setattr(platform, name, lambda: value)
    with pytest.raises(SandboxUnavailable, match=value) as caught:
        asyncio.run(self_test("native"))
    assert 'tier "docker"' in caught.value.message
    assert isinstance(caught.value, OperatorError)


def test_a_tier_that_there_is_not_is_refused():
    with pytest.raises(SandboxUnavailable, match="native, docker, wasm"):
        asyncio.run(run_code("print('hello')", tier="none"))  # type: ignore[arg-type]
