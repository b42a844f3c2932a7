"""One process from its start to its end, within limits, on the event loop."""

import asyncio
import base64
import contextlib
import os
import pathlib
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from penstock.errors import SandboxUnavailable
from penstock.sandbox import scratch
from penstock.sandbox.outcomes import Limit, Limits, Outcome

#: Seconds between two looks at what a process has on disk and how many threads it has.
_LOOK_S = 0.05
#: The kernel's memory for threads is not in their process's address space.
_MAX_THREADS = 256
#: A start holds the event loop for a millisecond or more, until the new program is loaded. One at a
#: time, so that the loop has its turn between those of a hundred scripts.
_starting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
    weakref.WeakKeyDictionary()
)
#: A killed process closes its pipes at once. Its exit counts, not their end.
_LAST_OUTPUT_S = 1.0


class _Watched(asyncio.SubprocessProtocol):
    """Keeps what a process writes, up to a number of bytes for both outputs together."""

    def __init__(self, most_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.written = {1: bytearray(), 2: bytearray()}
        self.room = most_bytes
        self.too_much: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = data[: self.room]
        self.written[fd] += kept
        self.room -= len(kept)
        if len(kept) < len(data) and not self.too_much.done():
            self.too_much.set_result(None)

    def process_exited(self) -> None:
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)

    def text(self, fd: int) -> str:
        return self.written[fd].decode("utf-8", "replace")


class _Feeder:
    """Writes to a pipe as it is read, and closes it at the end or when nobody reads any more."""

    # Not asyncio's own pipe to a process, which is a socket on some versions.

    def __init__(self, pipe: int, rest: bytes) -> None:
        self._pipe: int | None = pipe
        self._rest = memoryview(rest)
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe, False)
        self._loop.add_writer(pipe, self.write)

    def write(self) -> None:
        assert self._pipe is not None
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._pipe, self._rest) :]
        except BlockingIOError:
            return
        except OSError:
            pass  # the process has ended or has closed its input
        self.close()

    def close(self) -> None:
        if self._pipe is not None:
            self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = None


async def run_process(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: pathlib.Path,
    stdin: bytes,
    limits: Limits,
    inherited: Sequence[int] = (),
    kill: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Outcome:
    """`command` has run in `folder` and no process of its group is left.

    It ends by itself or at a limit. When the waiting task is cancelled it is killed first. `kill`
    ends what is not in the process group, a container for one, and is called when the process was
    killed. `inherited` are file descriptors that it gets beside its stdin, stdout and stderr.
    """
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    feeder = _Feeder(writing, stdin)
    try:
        # Most inputs fit into the pipe, and it is closed before anybody reads it.
        feeder.write()
        async with _starting.setdefault(loop, asyncio.Lock()):
            start = loop.create_task(
                loop.subprocess_exec(
                    lambda: _Watched(limits.output_bytes),
                    *command,
                    stdin=reading,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=dict(environment),
                    cwd=folder,
                    pass_fds=inherited,
                    start_new_session=True,
                )
            )
            transport, watched = await _started(start, kill)
            started = time.monotonic()
    except OSError as exc:
        feeder.close()
        raise SandboxUnavailable(f"The sandbox cannot start {command[0]}: {exc}") from exc
    except BaseException:
        feeder.close()
        raise
    finally:
        os.close(reading)
    pid = transport.get_pid()
    looking = loop.create_task(_look(pid, folder, limits))
    limit: Limit | None = None
    try:
        first: list[asyncio.Future[Any]] = [watched.exited, watched.too_much, looking]
        await asyncio.wait(first, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if watched.too_much.done():
            limit = "output"
        elif watched.exited.done():
            limit = None
        elif looking.done():
            limit = looking.result()
        else:
            limit = "timeout"
    finally:
        looking.cancel()
        feeder.close()
        killed = not watched.exited.done()
        if killed:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        await to_the_end(_end(transport, watched, kill if killed else None))
    if watched.too_much.done():
        limit = "output"  # it was gone before all that it wrote had been read
    seconds = time.monotonic() - started
    code = transport.get_returncode() if limit is None else None
    coded = None
    if watched.written[1] != watched.text(1).encode():
        coded = base64.b64encode(watched.written[1]).decode()
    return Outcome(code, watched.text(1), watched.text(2), seconds, limit, coded)


@contextlib.contextmanager
def report_pipe() -> Iterator[tuple[int, int]]:
    """A pipe on which a launcher says how it went; never waited for."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def read_report(report: int) -> bytes:
    try:
        return os.read(report, 4096)
    except BlockingIOError:
        return b""


async def _started(
    start: asyncio.Task[tuple[asyncio.SubprocessTransport, _Watched]],
    kill: Callable[[], Coroutine[Any, Any, None]] | None,
) -> tuple[asyncio.SubprocessTransport, _Watched]:
    # asyncio leaves a process to itself when its start is cancelled twice.
    try:
        await to_the_end(_wait_for(start))
    except asyncio.CancelledError:
        if start.exception() is None:
            transport, watched = start.result()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await to_the_end(_end(transport, watched, kill))
        raise
    return start.result()


async def _wait_for(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """`work` is done, however often the waiting task is cancelled; that is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    task.result()


async def _end(
    transport: asyncio.SubprocessTransport,
    watched: _Watched,
    kill: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    if kill is not None:
        await kill()
    await watched.exited
    await asyncio.wait([watched.closed], timeout=_LAST_OUTPUT_S)
    transport.close()


async def _look(pid: int, folder: pathlib.Path, limits: Limits) -> Limit:
    """Returns the limit that the process has gone beyond, if ever."""
    enough = limits.disk_mb * 2**20
    while True:
        await asyncio.sleep(_LOOK_S)
        if _threads(pid) > _MAX_THREADS:
            return "memory"
        if await asyncio.to_thread(scratch.measure, folder, enough) >= enough:
            return "disk"


def _threads(pid: int) -> int:
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0  # gone, or a system without /proc
    return int(status.partition(b"\nThreads:")[2].split(None, 1)[0] or 0)
