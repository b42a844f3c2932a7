"""What the tests of the sandbox share: it works here, it leaves nothing, and what to attack."""

import asyncio
import contextlib
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.errors import SandboxUnavailable
from penstock.sandbox import scratch, self_test, wasm_module
from tests.missing import skip_without

#: Says where its canary is in memory, holds a file open, and waits. Some systems let only those
#: trace a process whom it has named; this one names everybody (PR_SET_PTRACER_ANY).
_VICTIM = """\
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
canary = ctypes.create_string_buffer(b"a canary..")
file = os.open(sys.argv[1], os.O_RDONLY)
print(ctypes.addressof(canary), file, flush=True)
time.sleep(60)
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process compiles the interpreter for wasm, which takes many seconds."""
    for item in items:
        _, _, case = item.name.partition("[")
        if "wasm" in case or {"wasm", "wasm_cache"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.xdist_group("wasm"))


@pytest.fixture(scope="session")
def native() -> None:
    """This machine can isolate."""
    try:
        asyncio.run(self_test("native"))
    except SandboxUnavailable as missing:
        skip_without(missing)


@pytest.fixture(scope="session")
def wasm_cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A user's cache in which the interpreter was compiled by the first run, in the place of a file
    that no wasmtime can load."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        try:
            compiled = wasm_module.interpreter().compiled
        except SandboxUnavailable as missing:
            skip_without(missing)
        compiled.parent.mkdir(mode=0o700)
        compiled.touch(mode=0o600)
        compiled.write_bytes(b"of another wasmtime")
        asyncio.run(self_test("wasm"))
    return folder


@pytest.fixture
def wasm(wasm_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The tier `wasm` works, and its compiled interpreter is under this folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(wasm_cache))
    return wasm_cache


@pytest.fixture(params=["native", "wasm"])
def tier(request: pytest.FixtureRequest) -> str:
    """Each tier that runs scripts on this machine without a server."""
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After every test: no scratch folder, no process, no open file more than before."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    children, files = _children(), len(os.listdir("/proc/self/fd"))
    yield
    assert not list(folder.glob(f"{scratch.PREFIX}*"))
    assert _children() <= children
    assert len(os.listdir("/proc/self/fd")) <= files


def _children() -> set[str]:
    found: set[str] = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended
            found |= set((task / "children").read_text().split())
    return found


class Target:
    """Something of the test's own for one attack, and whether it was touched."""

    def __init__(self, folder: pathlib.Path, stack: contextlib.ExitStack, disk_bytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "canary").write_text("a canary")
        (folder / "canary").chmod(0o644)
        self.before = self._files()
        name = f"penstock-{secrets.token_hex(8)}"
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        # The path of a unix socket has to be short, and that of a test's folder may not be.
        short = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix=f"{name}-"))
        for one, where in (
            (unix, f"{short}/stream"),
            (abstract, f"\0{name}"),
            (datagrams, f"{short}/datagrams"),
        ):
            one.bind(where)
        for one in (unix, abstract):
            one.listen()
        self.listeners = [tcp, udp, unix, abstract, datagrams]
        self.at: dict[str, Any] = {
            "folder": str(folder),
            "canary": str(folder / "canary"),
            "name": name,
            "disk": disk_bytes,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": f"{short}/stream",
            "datagrams": f"{short}/datagrams",
        }
        self.victim: subprocess.Popen[str] | None = None

    def add_victim(self) -> None:
        self.victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _VICTIM, self.at["canary"]],
            env={"SECRET": "a canary"},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.victim.stdout is not None
        address, file = map(int, self.victim.stdout.readline().split())
        self.at |= {"victim": self.victim.pid, "address": address, "victim_file": file}
        self.victim_state = self._state()

    def touched(self) -> bool:
        """A file was changed, a listener heard something, or the victim is not as it was."""
        for listener in self.listeners:
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(10)
                return True
        if self._files() != self.before:
            return True
        return self.victim is not None and (
            self.victim.poll() is not None or self._state() != self.victim_state
        )

    def _files(self) -> list[tuple[str, int, int, float, int]]:
        found = []
        for path in sorted(self.folder.iterdir()):
            stat = path.stat()
            found.append((path.name, stat.st_size, stat.st_mode, stat.st_mtime, stat.st_nlink))
        return found

    def _state(self) -> tuple[object, ...]:
        import resource

        assert self.victim is not None
        pid = self.victim.pid
        limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return limit, os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid)

    def close(self) -> None:
        if self.victim is not None:
            self.victim.kill()
            self.victim.communicate()

    def stdin(self) -> str:
        return json.dumps(self.at)


@pytest.fixture
def target(tmp_path: pathlib.Path) -> Iterator[Any]:
    """A function that makes a new target, with a victim if asked for one."""
    with contextlib.ExitStack() as stack:
        count = 0

        def make(*, victim: bool = False, disk_bytes: int = 2**20) -> Target:
            nonlocal count
            count += 1
            made = Target(tmp_path / str(count), stack, disk_bytes)
            stack.callback(made.close)
            if victim:
                made.add_victim()
            return made

        yield make
