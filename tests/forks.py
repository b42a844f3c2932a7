"""Programs that begin as forks of a process that has imported what they import, for a tenth of the
CPU. `tests.fork_server` is that process, and says in what a fork is like a new interpreter.
"""

import atexit
import io
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from tests.fork_server import LARGEST

#: How the variables begin that each program has its own of.
OWN = ("PENSTOCK_", "PYTEST_")
#: `pidfd_open`, and an import of everything that begins no thread.
CAN_FORK = sys.platform == "linux"


class Fork:
    """A program under way: as much of `subprocess.Popen` as tests use. It is no child of this
    process, so a pipe tells of it: its process id, and when it has ended its exit code."""

    def __init__(self, reports: int) -> None:
        self._reports = io.FileIO(reports)
        self._lock = threading.Lock()
        self.returncode: int | None = None
        pid = self._reports.readline()
        assert pid, "the fork server has ended; what it said is above"
        self.pid = int(pid)

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None and self._has_ended(0):
                with self._reports:
                    # Nothing: it was killed together with the server that would have told.
                    self.returncode = int(self._reports.readline() or -signal.SIGKILL)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        return bool(select.select([self._reports], [], [], timeout)[0])


class ForkServer:
    """The process that forks. It ends with this process, and so does all that it has started."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = pathlib.Path(__file__).with_name("fork_server.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(program)],
                env={name: env[name] for name in env if not name.startswith(OWN)},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: pathlib.Path,
        streams: Sequence[int],
    ) -> Fork:
        """`python COMMAND` is under way; the command begins with -m. `streams` are the descriptors
        of its standard input, output and error."""
        order = {"command": [*command], "env": {**env}, "cwd": str(cwd)}
        message = json.dumps(order).encode()
        assert len(message) < LARGEST
        reports, pipe = os.pipe()
        try:
            socket.send_fds(self._control, [message], [*streams, pipe])
        finally:
            os.close(pipe)
        return Fork(reports)

    def close(self) -> None:
        self._control.close()
        self._process.wait()
