"""Servers that tests talk to over HTTP: `scripted` fails on demand, and `qdrant` stands in for
Qdrant's."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

#: Seconds until a server that has not said its port is given up. It takes a quarter of one.
START_LIMIT_S = 20.0


@dataclass(frozen=True)
class ScriptedServer:
    """A running `scripted.py`. Its methods block for milliseconds; it is another process."""

    port: int
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, faults: list[dict[str, Any]]) -> None:
        """The next requests meet `faults`, after those that still wait.

        `scripted.Fault` has the keys, and `scripted.FAULTS` says what each fault does.

        Raises `ValueError` with the server's words when one of them cannot be played.
        """
        self._send("/script", faults)

    def calls(self) -> list[dict[str, Any]]:
        """The last 1,000 calls in the order they were asked; `scripted.Call` has their fields."""
        calls: list[dict[str, Any]] = self._send("/calls")
        return calls

    def release(self) -> None:
        """The calls that met a `timeout` are answered, and no faults wait."""
        self._send("/release", {})

    def reset(self) -> None:
        """No faults wait, no call is remembered, and the log is empty."""
        self._send("/reset", {})

    def logged(self, phase: str | None = None) -> list[dict[str, Any]]:
        """The lines of the log, of one phase or all. Works when the server is dead."""
        whole, _, _ = self.log_path.read_text().rpartition("\n")  # the last may be half written
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if phase is None or line["phase"] == phase]

    def kill(self) -> None:
        """Nothing answers on the port any more.

        `scripted_server(port=..., log_path=...)` brings it back, and goes on counting.
        """
        self.process.kill()
        self.process.wait()

    def _send(self, path: str, body: Any = None) -> Any:
        # Not urllib, which would ask a laptop's http_proxy for a loopback address.
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as http:
            if body is None:
                http.request("GET", path)
            else:
                http.request("POST", path, json.dumps(body))
            answer = http.getresponse()
            said = json.load(answer)
        if answer.status != 200:
            raise ValueError(said["error"]["message"])
        return said


@contextlib.contextmanager
def scripted_server(
    *, delay_s: float = 0.0, jitter: float = 0.0, port: int = 0, log_path: Path | None = None
) -> Iterator[ScriptedServer]:
    """A scripted server that listens inside the block, and is dead after it.

    It dies with this process too, however that ends. Without `log_path` the log goes with the
    block. Raises `RuntimeError` with what the server printed when it ended or did not listen in
    time.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-scripted-")))
        log_path = log_path or folder / "calls.jsonl"
        errors = stack.enter_context((folder / "errors.txt").open("w+b"))
        command = [sys.executable, str(Path(__file__).with_name("scripted.py"))]
        command += ["--port", str(port), "--log", str(log_path), "--until-stdin-closes"]
        command += ["--delay", str(delay_s), "--jitter", str(jitter)]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        )
        stack.callback(process.kill)
        line = _first_line(process)
        if not line:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-4000:]
            raise RuntimeError(f"the scripted server did not start:\n{said}")
        yield ScriptedServer(json.loads(line)["port"], log_path, process)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """What the server printed first; nothing when it ended, or START_LIMIT_S is over."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    # The line is shorter than a pipe's atomic write, so what is readable is the whole of it.
    return process.stdout.readline() if readable else b""


class QdrantServer:
    """A Qdrant (`qdrant.py`) that can be started, killed and suspended; its points outlive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, key: str = "") -> None:
        command = [sys.executable, str(Path(__file__).with_name("qdrant.py"))]
        command += ["--port", str(self.port), "--folder", str(self.folder), "--key", key]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == {"port": self.port}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def suspend(self) -> None:
        """It takes connections and answers nothing, as a machine that swaps does."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
