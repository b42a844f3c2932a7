"""A process that has imported what Penstock's programs import, and forks once for each of them.

`python tests/fork_server.py` with a socket as its standard input: a message is one program to
start, with its standard streams and a pipe on which its process id is told, and its exit code.
`tests.forks` is the other end, and ends this process and all that it has started by closing the
socket.

A fork is the program that a new interpreter would be. Its arguments, environment, folder, path and
streams are its own; no descriptor of this process is open in it; nothing here has begun a thread or
an event loop; `__main__` runs anew. Only what an import has read of the environment, and what it
has found, cannot be had again: where that would be different, the fork becomes a new interpreter
(`Server.differs`).
"""

import contextlib
import gc
import importlib
import importlib.machinery
import inspect
import json
import os
import pathlib
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: Beyond Penstock's own modules: what they import when they need it.
LATER = """
    agents aiokafka.admin faust.cli.faust faust.fixups.django faust.tables.sets
    faust.web.apps.production_index faust.web.apps.router faust.web.apps.tables
    faust.web.drivers.aiohttp h2.connection httpcore2 openai qdrant_client truststore
""".split()
#: How variables begin that the interpreter or the C library reads before any module does.
READ_BEFORE = ("PYTHON", "LC_", "TZ")
#: Bytes that a message may have. The environment is nearly all of it.
LARGEST = 200_000


class Watched(type(os.environ)):  # type: ignore[misc]
    """The environment, that remembers what was read of it."""

    read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        value: str = super().__getitem__(name)
        return value


def import_all() -> set[str]:
    """What Penstock's programs import is imported; which variables that has read."""
    plain = type(os.environ)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's library, which else begins threads
    os.environ.__class__ = Watched
    penstock = importlib.import_module("penstock")
    for module in pkgutil.walk_packages(penstock.__path__, "penstock."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LATER:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    os.environ.__class__ = plain
    del os.environ["OPENBLAS_NUM_THREADS"]
    assert len(os.listdir("/proc/self/task")) == 1, "an import has begun a thread"
    return Watched.read - {"OPENBLAS_NUM_THREADS"}


class Server:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        del sys.path[0]  # this file's folder; a program has its own folder there
        self.read = import_all()
        inspect.getmodule(sys._getframe())  # fills its table of modules and files, for venusian
        gc.collect()
        gc.freeze()  # no fork need look through all this for garbage, at its end above all
        self.modules = {name.partition(".")[0] for name in sys.modules}
        #: By its descriptor: a process, and the pipe that is told of its end.
        self.running: dict[int, tuple[int, int]] = {}

    def serve(self) -> str:
        """Starts programs and tells of their ends. Returns in a fork only: the module that it has
        to run."""
        waiting = selectors.PollSelector()  # of which a fork has nothing to close
        waiting.register(self.control, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fd in self.running:
                    waiting.unregister(key.fd)
                    self.report_end(key.fd)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self.control, LARGEST, 4)
                if not message:
                    self.end()
                *streams, pipe = descriptors
                pid = os.fork()
                if pid == 0:
                    return self.become(streams, **json.loads(message))
                for stream in streams:
                    os.close(stream)
                fd = os.pidfd_open(pid)
                self.running[fd] = pid, pipe
                waiting.register(fd, selectors.EVENT_READ)
                send(pipe, pid)

    def report_end(self, fd: int) -> None:
        pid, pipe = self.running.pop(fd)
        # First told and then reaped: until then its number is nobody else's.
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        send(pipe, code)
        os.waitpid(pid, 0)
        os.close(pipe)
        os.close(fd)

    def become(self, streams: list[int], command: list[str], env: dict[str, str], cwd: str) -> str:
        """In a fork: it has all that a new process has of its own. The module that it has to run,
        unless it is a new interpreter now."""
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        self.control.detach()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        if self.differs(env):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execve(sys.executable, [sys.executable, *command], env)
        os.environ.clear()
        os.environ.update(env)
        sys.path.insert(0, os.getcwd())
        # In place: Faust's command line has this very list as a default.
        sys.argv[:] = command[1:]
        sys.orig_argv[:] = [sys.executable, *command]
        return command[1]

    def differs(self, env: Mapping[str, str]) -> bool:
        """Whether a new interpreter would have imported other things, or others than these would
        have come of it."""
        names = {name for name in {*env, *os.environ} if name.startswith(READ_BEFORE)} | self.read
        return (
            any(env.get(name) != os.environ.get(name) for name in names)
            or any(os.isatty(number) for number in range(3))
            or (pathlib.Path.cwd() != ROOT and any(map(self.hides, os.scandir())))
        )

    def hides(self, entry: "os.DirEntry[str]") -> bool:
        """Whether a new interpreter in this folder would import this, and not what is imported."""
        if entry.name.partition(".")[0] not in self.modules:
            return False
        if entry.is_dir():
            return os.path.exists(os.path.join(entry, "__init__.py"))
        return entry.name.endswith(tuple(importlib.machinery.all_suffixes()))

    def end(self) -> NoReturn:
        for pid, _ in self.running.values():
            os.kill(pid, signal.SIGKILL)
        sys.exit()


def send(pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know it any more
        os.write(pipe, f"{number}\n".encode())


def main() -> str:
    # Ctrl-C is for the programs. This process ends with its socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Server(socket.socket(fileno=os.dup(0))).serve()


if __name__ == "__main__":
    runpy.run_module(main(), run_name="__main__", alter_sys=True)
