"""A worker in a process of its own, for a command that needs one beside it."""

import os
import subprocess
import sys
from collections.abc import Mapping

#: Seconds that it has to drain when it is no longer needed.
STOP_S = 30.0


class WorkerProcess:
    """A worker with this process's settings and those of `settings`; inside `with`, and gone
    afterwards. What it warns of is shown, on stderr."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._env = {**os.environ, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """It is starting; one that was there before is not waited for."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "worker", "-l", "warn"],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @property
    def exit_code(self) -> int | None:
        """Of the process, once it has ended."""
        return None if self._process is None else self._process.poll()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
