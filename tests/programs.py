"""The real programs, as processes: what a person would start, kill and read the output of."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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


def penstock(
    *arguments: str,
    env: dict[str, str],
    cwd: pathlib.Path = ROOT,
    timeout_s: float = PATIENCE_S,
    program: Sequence[str] = PENSTOCK,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """`penstock ARGUMENTS`, run to its end."""
    return subprocess.run(
        [*program, *arguments],
        env=env,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


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
            self.process = subprocess.Popen(
                [python, *command],
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

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
