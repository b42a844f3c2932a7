"""The real programs, as processes: what a person would start, kill and read the output of."""

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from tests.forks import CAN_FORK, Fork, ForkServer

ROOT = pathlib.Path(__file__).parent.parent
#: `penstock`, which a checkout has not on its PATH.
PENSTOCK = (sys.executable, "-m", "penstock")
#: `faust -A app`, Faust's own script: it says otherwise than `-m` where modules are looked for.
FAUST = (sys.executable, str(pathlib.Path(sys.executable).with_name("faust")), "-A", "app")
#: Seconds that a condition may take on a machine that is busy with other things.
PATIENCE_S = 60.0


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    """What `condition` gives, once it is true. Fails with `what` when that does not come."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:g} s for {what}")
        time.sleep(0.02)


def environment(folder: pathlib.Path, **settings: str) -> dict[str, str]:
    """The environment of a program whose data, logs and settings are all under `folder`."""
    read_by_us = ("PENSTOCK_", "OPENAI_", "MISTRAL_", "OLLAMA_", "QDRANT_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(read_by_us)}
    return kept | {
        "PENSTOCK_DATA": str(folder / "data"),
        "PENSTOCK_LOGS": str(folder / "logs"),
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "COLUMNS": "160",
        **settings,
    }


Process = Fork | subprocess.Popen[bytes]


def start(
    command: Sequence[str],
    *,
    env: dict[str, str],
    cwd: pathlib.Path = ROOT,
    stdin: IO[bytes] | None = None,
    out: IO[bytes],
    err: IO[bytes],
) -> Process:
    """`command` is under way. A module of this Python is a fork of a process that has imported."""
    with contextlib.ExitStack() as stack:
        stdin = stdin or stack.enter_context(open(os.devnull, "rb"))
        if CAN_FORK and command[0] == sys.executable and command[1] == "-m":
            streams = [stdin.fileno(), out.fileno(), err.fileno()]
            return fork_server().start(command[1:], env, cwd, streams)
        return subprocess.Popen(command, env=env, cwd=cwd, stdin=stdin, stdout=out, stderr=err)


@functools.cache
def fork_server() -> ForkServer:
    """One for all programs. Its environment is the one that nearly all of them have."""
    return ForkServer(environment(ROOT))


class Program:
    """`command`, under way to its end. What it shows is read then."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: dict[str, str],
        cwd: pathlib.Path = ROOT,
        stdin: str = "",
    ) -> None:
        self.command = command
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-program-")
        said = pathlib.Path(self._folder.name)
        self._out, self._err = said / "out", said / "err"
        with (
            tempfile.TemporaryFile() as given,
            self._out.open("wb") as out,
            self._err.open("wb") as err,
        ):
            given.write(stdin.encode())
            given.seek(0)
            self.process = start(command, env=env, cwd=cwd, stdin=given, out=out, err=err)

    def has_said(self, text: str) -> bool:
        """Whether its complaints hold `text` by now."""
        return text in self._err.read_text(errors="replace")

    def finish(self, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """What it has shown, and its exit code. It is killed when it has not ended in time."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            print(*self._shown(), sep="\n")
            raise
        return subprocess.CompletedProcess(self.command, code, *self._shown())

    def _shown(self) -> list[str]:
        with self._folder:
            return [file.read_bytes().decode() for file in (self._out, self._err)]


def penstock(
    *arguments: str,
    env: dict[str, str],
    cwd: pathlib.Path = ROOT,
    timeout_s: float = PATIENCE_S,
    program: Sequence[str] = PENSTOCK,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """`penstock ARGUMENTS`, run to its end."""
    return Program([*program, *arguments], env=env, cwd=cwd, stdin=stdin).finish(timeout_s)


class Worker:
    """A worker as a process of its own. Its output is in `output`, a file."""

    def __init__(
        self,
        env: dict[str, str],
        folder: pathlib.Path,
        *,
        cwd: pathlib.Path = ROOT,
        command: tuple[str, ...] = ("-m", "penstock", "worker", "-l", "info"),
        python: str = sys.executable,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / f"worker-{time.time_ns()}.log"
        with self.output.open("wb") as out:
            self.process = start([python, *command], env=env, cwd=cwd, out=out, err=out)

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, text: str, limit_s: float = PATIENCE_S) -> None:
        """The output holds `text`. Fails with the whole output when the process ends first."""

        def there() -> bool:
            if text in self.text():
                return True
            assert self.process.poll() is None, f"the worker ended:\n{self.text()}"
            return False

        wait_until(there, f"{text!r} in:\n{self.text()[-3000:]}", limit_s)

    def ready(self) -> "Worker":
        self.wait_for("Worker ready")
        return self

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self, limit_s: float = PATIENCE_S) -> int:
        """SIGTERM; the exit code. Where it is not 0, pytest reports the end of the output."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            print(f"not stopped in {limit_s:g} s:\n{self.text()[-4000:]}")
            raise
        if code:
            print(f"exit code {code}:\n{self.text()[-8000:]}")
        return code


@contextlib.contextmanager
def worker(env: dict[str, str], folder: pathlib.Path, **options: Any) -> Iterator[Worker]:
    """A worker that is ready, and gone afterwards whatever happens."""
    running = Worker(env, folder, **options)
    try:
        yield running.ready()
    finally:
        running.kill()


def read_json_lines(file: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
