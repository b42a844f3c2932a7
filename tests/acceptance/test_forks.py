"""The programs that tests start are forks (`tests.fork_server`), and yet what users would start."""

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.forks import CAN_FORK, Fork
from tests.programs import Program, environment, start, wait_until

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="here all programs are new interpreters")

PROBE = """
import asyncio, json, locale, os, random, signal, sys, threading, warnings
import penstock.settings
import later
numbers = (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)
print("to standard error", file=sys.stderr)
json.dump({
    "argv": sys.argv,
    "orig_argv": sys.orig_argv,
    "path": sys.path,
    "flags": str(sys.flags),
    "name": [__name__, __spec__.name, __file__, sys.modules["__main__"].__dict__ is globals()],
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "files": [fd for fd in range(64) if os.path.exists(f"/proc/self/fd/{fd}")],
    "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))],
    "main": threading.current_thread() is threading.main_thread(),
    "signals": [str(signal.getsignal(number)) for number in numbers],
    "blocked": [number for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "group": [os.getpgid(0), os.getsid(0)],
    "umask": os.umask(0o22),
    "input": sys.stdin.read(),
    "streams": [
        [str(one.encoding), str(one.errors), one.line_buffering, one.isatty(), one.fileno()]
        for one in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "loop": str(asyncio.get_event_loop_policy()._local.__dict__),
    "root": str(penstock.settings.Settings.read().root),
    "data": str(penstock.settings.Settings.read().data),
    "later": later.VALUE,
}, sys.stdout)
sys.exit(7)
"""


@pytest.fixture
def env(tmp_path: pathlib.Path) -> dict[str, str]:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "later.py").write_text("VALUE = 'of this folder'\n")
    return environment(tmp_path, OF_ITS_OWN="1")


def shown(tmp_path: pathlib.Path, env: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What the probe finds, when it is started as tests start programs."""
    command = [sys.executable, "-m", "probe", *arguments]
    done = Program(command, env=env, cwd=tmp_path, stdin="given\n").finish()
    assert (done.returncode, done.stderr) == (7, "to standard error\n")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_fork_finds_what_a_new_interpreter_finds(
    tmp_path: pathlib.Path, env: dict[str, str]
) -> None:
    new = subprocess.run(
        [sys.executable, "-m", "probe", "--a", "b c"],
        env=env, cwd=tmp_path, input="given\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (new.returncode, new.stderr) == (7, "to standard error\n")
    assert shown(tmp_path, env, "--a", "b c") == json.loads(new.stdout)


def command_line(process: int) -> list[str]:
    return pathlib.Path(f"/proc/{process}/cmdline").read_text().split("\0")


@pytest.mark.parametrize("why", ["variable", "interpreter", "path", "module", "nothing"])
def test_what_an_import_would_have_found_otherwise_is_found(
    why: str, tmp_path: pathlib.Path, env: dict[str, str]
) -> None:
    (tmp_path / "probe.py").write_text("import sys\nprint('begun', flush=True)\nsys.stdin.read()\n")
    if why == "module":
        (tmp_path / "yaml").mkdir()
        (tmp_path / "yaml" / "__init__.py").write_text("")
    # What the Agents SDK reads as it is imported, and Python before that.
    env |= {
        "variable": {"OPENAI_AGENTS_DONT_LOG_MODEL_DATA": "0"},
        "interpreter": {"PYTHONWARNINGS": "error"},
        "path": {"PYTHONPATH": f"{tmp_path}:{env['PYTHONPATH']}"},
    }.get(why, {})
    said = tmp_path / "said"
    read, write = os.pipe()
    with said.open("wb") as out, os.fdopen(read, "rb") as stdin, os.fdopen(write, "wb"):
        command = [sys.executable, "-m", "probe"]
        process = start(command, env=env, cwd=tmp_path, stdin=stdin, out=out, err=out)
        wait_until(lambda: said.read_text() == "begun\n", "the program")
        is_new = "fork_server.py" not in " ".join(command_line(process.pid))
    assert process.wait(60) == 0
    assert is_new == (why != "nothing")


def test_forks_draw_other_numbers_and_end_by_the_signal_that_is_sent(
    tmp_path: pathlib.Path, env: dict[str, str]
) -> None:
    program = "import random, time\nprint(random.random(), flush=True)\ntime.sleep(60)\n"
    (tmp_path / "probe.py").write_text(program)
    said = tmp_path / "said"
    numbers = set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with said.open("wb") as out:
            command = [sys.executable, "-m", "probe"]
            process = start(command, env=env, cwd=tmp_path, out=out, err=out)
        assert isinstance(process, Fork)
        wait_until(lambda: said.read_text().endswith("\n"), "a number")
        numbers.add(said.read_text())
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(60) == process.poll() == process.returncode == -number
        process.kill()  # of one that has ended is nothing
    assert len(numbers) == 2
