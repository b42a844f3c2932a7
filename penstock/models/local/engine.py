"""The engine: llama.cpp over one file of weights, in a child of this process."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from typing import NamedTuple

from penstock.conditions import STARTING, UP, Condition
from penstock.errors import ModelLocked
from penstock.models.local.weights import problem_of
from penstock.signals import ModelEnded, ModelLoaded, ModelLoading, Signals

SERVE = pathlib.Path(__file__).with_name("serve.py")
#: Calls that are answered at the same time. Each has memory of its own, and they share the cores.
SLOTS = 2
#: Tokens that a prompt and its answer have together, where the model was made for as many.
CONTEXT_TOKENS = 8192
#: Seconds until weights that are still not there are given up: many gigabytes, from a slow disk.
LOAD_S = 600.0
#: Seconds between the end of its connections and its own.
END_S = 1.0
#: The last lines that it printed, which say why it has ended, and bytes of one without an end.
LAST_LINES, LONGEST_LINE = 20, 4096
#: What stands in front of each: the time, and that it is an error.
MARK = re.compile(r"^[\d.]+ E\s+")


class Address(NamedTuple):
    """Where the engine listens, and the key without which it answers nobody."""

    url: str
    key: str


class Engine:
    """One model's engine. It runs from the first `reach` on, and again after it has ended."""

    def __init__(self, label: str, file: pathlib.Path, signals: Signals) -> None:
        self.label = label
        self._file = file
        self._signals = signals
        self._loading: asyncio.Task[Address] | None = None
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None
        #: Where it listens, while it does.
        self._address: Address | None = None
        self._printed: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        #: How it is, for people, while it runs or is being loaded.
        self.condition: Condition | None = None
        #: How it ended last.
        self.ending = ""

    async def reach(self) -> Address:
        """Wait until the engine runs; where it does. Raises `ModelLocked` when it cannot."""
        loading = self._loading
        if loading is None or (loading.done() and self._address is None):
            loading = self._loading = asyncio.create_task(self._load(), name=self.label)
        # Whoever asked first may be gone before the weights are there; others wait for them, too.
        return await asyncio.shield(loading)

    async def has_ended(self, address: Address) -> bool:
        """Whether what listened at `address` is gone: a call has lost its connection to it."""
        if self._address == address and self._watching is not None:
            await asyncio.wait([self._watching], timeout=END_S)
        return self._address != address

    async def close(self) -> None:
        """The engine has ended."""
        for task in (self._loading, self._watching):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ModelLocked):
                    await task
        await self._end()

    async def _load(self) -> Address:
        if problem := problem_of(self._file):
            raise ModelLocked(f"{self.label}: {problem}")
        size, room = self._file.stat().st_size, _memory_left()
        if size > room:
            raise ModelLocked(
                f"{self.label}: the weights have {size / 1e9:.1f} GB, and {room / 1e9:.1f} GB of"
                " this machine's memory are left. Use a smaller model, or a smaller quantization"
            )
        began = time.time()
        self.condition = Condition("engine", STARTING, f"{self.label} is being loaded", began)
        self._signals.emit(ModelLoading(self.label, str(self._file), size))
        try:
            self._address = await self._start()
        except BaseException:
            await self._end()
            raise
        assert self._process is not None
        pid, seconds, threads = self._process.pid, time.time() - began, _threads()
        self._signals.emit(ModelLoaded(self.label, pid, seconds, threads))
        self._watching = asyncio.create_task(self._watch(self._process), name=self.label)
        reason = f"{self.label}, process {pid}, on {threads} of the cores, {SLOTS} calls at once"
        self.condition = Condition("engine", UP, reason, time.time())
        return self._address

    async def _start(self) -> Address:
        """The process is there, and the weights are loaded. Raises `ModelLocked` when it ends
        before."""
        self._printed.clear()
        process = self._process = await asyncio.create_subprocess_exec(
            # Without its folder on the path, whose modules have names that others have, too.
            *(sys.executable, "-P", str(SERVE)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            # Ctrl-C is for the worker, which lets calls in flight come to their end.
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        reading = asyncio.create_task(self._read(process), name=self.label)
        key = secrets.token_urlsafe(32)
        orders = {
            "file": str(self._file),
            "key": key,
            "threads": _threads(),
            "slots": SLOTS,
            "context_tokens": CONTEXT_TOKENS,
        }
        # Not closed: that is what ends the child, in whichever way this process ends.
        process.stdin.write(json.dumps(orders).encode() + b"\n")
        try:
            async with asyncio.timeout(LOAD_S):
                line = await process.stdout.readline()
        except TimeoutError:
            raise self._not_loaded(f"it was not there after {LOAD_S:g} s") from None
        if not line:
            await reading
            how = how_it_ended(await process.wait())
            # What failed first is why; the rest is what came of that.
            raise self._not_loaded(f"{how}: {MARK.sub('', next(iter(self._printed), ''))}")
        return Address(f"{json.loads(line)['url']}/v1", key)

    def _not_loaded(self, why: str) -> ModelLocked:
        return ModelLocked(f"{self.label}: {self._file} cannot be loaded: {why}")

    async def _read(self, process: Process) -> None:
        """Keep the last that the engine prints, and its pipe empty."""
        assert process.stderr is not None
        rest = b""
        while printed := await process.stderr.read(4096):
            # It prints a line in pieces.
            *lines, rest = (rest[-LONGEST_LINE:] + printed).split(b"\n")
            self._printed.extend(line.decode("utf-8", "replace") for line in lines if line)
        if rest:
            self._printed.append(rest.decode("utf-8", "replace"))

    async def _watch(self, process: Process) -> None:
        """Say so when the engine ends by itself; the next call starts it again."""
        self.ending = how_it_ended(await process.wait())
        self._process = self._address = self.condition = None
        self._signals.emit(ModelEnded(self.label, self.ending, "; ".join(self._printed)[-500:]))

    async def _end(self) -> None:
        process = self._process
        self._process = self._address = self.condition = None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    if -code == signal.SIGKILL:
        return "it was killed (SIGKILL), as the system does when memory runs out"
    return f"it crashed ({signal.Signals(-code).name})"


def _threads() -> int:
    """All cores but one, which is the worker's own."""
    return max(1, (os.cpu_count() or 1) - 1)


def _memory_left() -> int:
    """Bytes of memory that programs can still have."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = pathlib.Path("/proc/meminfo").read_text()
        return int(text.partition("MemAvailable:")[2].split()[0]) * 1024
    return sys.maxsize  # a system that does not say
