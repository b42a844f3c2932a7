"""The event log: `logs/broker_interactions.json`, a JSON line for every produce and consume.

For reading, not for recovery: the topics are the record. Lines are written by a thread of their
own, a `produce` only after the broker's ack, so a line means that the record exists; after a
`kill -9` the last ones may be missing.
"""

import asyncio
import collections
import contextlib
import logging
import logging.handlers
import os
import pathlib
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from pythonjsonlogger.msgspec import MsgspecFormatter

from penstock import private
from penstock.errors import SettingsError

FILE_NAME = "broker_interactions.json"
#: Lines that wait for the thread before whoever makes them has to wait, until a quarter is left.
CROWDED = 20_000
#: Seconds for which lines gather: a thread that wakes for each of them takes the interpreter from
#: the loop each time.
GATHER_S = 0.02
#: Lines that go into the file with one write.
LINES_A_WRITE = 500

log = logging.getLogger(__name__)


class EventLog:
    """`write()` never waits; `room` is cleared while the thread is too far behind."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        max_bytes: int,
        files: int,
        redact: Callable[[str], str] | None = None,
        crowded: int = CROWDED,
    ) -> None:
        self.path = folder / FILE_NAME
        self.room = asyncio.Event()
        self.room.set()
        self._max_bytes, self._files = max_bytes, files
        self._redact = redact
        self._crowded = crowded
        self._lines: collections.deque[dict[str, Any]] = collections.deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._formatter = MsgspecFormatter([])
        self._file: RotatingFile | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """The file is there. Raises `SettingsError` when it cannot be written."""
        if self._file is not None:
            return
        try:
            private.make_folder(self.path.parent)
            self._file = RotatingFile(self.path, self._max_bytes, self._files)
        except OSError as exc:
            raise SettingsError(
                f"{self.path.absolute()}: the event log cannot be written: {exc}."
                " Name another folder (PENSTOCK_LOGS) or turn it off (PENSTOCK_EVENT_LOG=off)."
            ) from exc

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Lines are written from here on; `room`, when anybody waits for it, belongs to `loop`."""
        self.open()
        self._loop = loop
        self._thread = threading.Thread(
            target=self._run, args=(self._file,), name="penstock-event-log", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """All lines are in the file."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = self._file = None

    @property
    def writing(self) -> bool:
        return self._thread is not None

    def write(self, event: str, topic: str, trace_id: str, message: Any, **fields: Any) -> None:
        """One line, `event` being 'produce' or 'consume'. `message` is anything that JSON holds,
        or an `Event`; it must not change any more."""
        if self._thread is None:
            return
        self._lines.append(
            {
                "timestamp": time.time(),
                "event": event,
                "topic": topic,
                "trace_id": trace_id,
                "message": message,
                **fields,
            }
        )
        if len(self._lines) > self._crowded:
            self.room.clear()
        if not self._wake.is_set():
            self._wake.set()

    def _run(self, file: "RotatingFile") -> None:
        while True:
            self._wake.wait()
            self._closing.wait(GATHER_S)
            self._wake.clear()
            while self._lines:
                count = min(len(self._lines), LINES_A_WRITE)
                file.append([self._format(self._lines.popleft()) for _ in range(count)])
                ebb = len(self._lines) <= self._crowded // 4
                if ebb and self._loop is not None and not self.room.is_set():
                    self._loop.call_soon_threadsafe(self.room.set)
            if self._closing.is_set():
                with contextlib.suppress(OSError, ValueError):  # it was said, if it was to be
                    file.close()
                return

    def _format(self, line: dict[str, Any]) -> str:
        seconds = line["timestamp"]
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        line["timestamp"] = f"{whole}.{int(seconds % 1 * 1e6):06d}Z"
        line["event_id"] = str(uuid.uuid4())
        # Not `format`: it would look through a log record for more to say, and there is nothing.
        encode = self._formatter.serialize_log_record
        try:
            text = encode(line)
        except Exception as exc:
            # What JSON cannot hold must not take this thread, and so the pipeline, with it.
            kept = ("timestamp", "event", "topic", "trace_id", "event_id")
            text = encode({k: line[k] for k in kept} | {"message": None, "unwritable": str(exc)})
        return text if self._redact is None else self._redact(text)


class RotatingFile(logging.handlers.RotatingFileHandler):
    """The standard library's rotation, with many lines a write.

    Its own `emit` formats each line twice and flushes each: 45 us a line, and it is on every step.
    """

    def _open(self) -> Any:
        path = pathlib.Path(self.baseFilename)
        private.make_folder(path.parent)
        private.make_file(path)
        return super()._open()

    def __init__(self, path: pathlib.Path, max_bytes: int, files: int) -> None:
        private.make_file(path)
        _end_last_line(path)
        super().__init__(path, maxBytes=max_bytes, backupCount=files, encoding="utf-8")
        self._failed = False

    def append(self, lines: list[str]) -> None:
        """The lines are in the file, which is rotated when it has passed its size. A failure is
        said once: the pipeline does not depend on this file."""
        try:
            # Faust configures logging when the worker starts, and that closes every open handler.
            self.stream = self.stream or self._open()
            self._follow()
            if self._failed:
                _end_last_line(pathlib.Path(self.baseFilename))
            # Not tell(): other processes append what they submit.
            room = self.maxBytes - os.fstat(self.stream.fileno()).st_size
            first = 0
            for index, line in enumerate(lines):
                size = len(line.encode()) + 1
                if size > room and room < self.maxBytes:
                    self._put(lines[first:index])
                    self.doRollover()
                    first, room = index, self.maxBytes
                room -= size
            self._put(lines[first:])
            self._failed = False
        except (OSError, ValueError) as exc:
            if not self._failed:
                self._failed = True
                log.error(
                    "%s: cannot be written (%s); the pipeline runs on",
                    self.baseFilename,
                    exc,
                    extra={"action": "event_log_unwritten"},
                )

    def _follow(self) -> None:
        """Open the file anew where somebody has moved or removed it: `logrotate`, a person, or
        another process that writes to it and found it full."""
        assert self.stream is not None
        try:
            if os.path.samestat(os.stat(self.baseFilename), os.fstat(self.stream.fileno())):
                return
        except FileNotFoundError:
            log.warning(
                "%s was removed; the event log goes on in a new file",
                self.baseFilename,
                extra={"action": "event_log_removed"},
            )
        stream, self.stream = self.stream, None  # not a closed one, should there be no new one
        stream.close()
        self.stream = self._open()

    def doRollover(self) -> None:
        super().doRollover()
        if not self.backupCount and self.stream is not None:
            # The standard library goes on with the same file then, which would grow for ever.
            self.stream.seek(0)
            self.stream.truncate()

    def _put(self, lines: list[str]) -> None:
        if not lines:
            return
        assert self.stream is not None
        # Past the stream's buffer: what a full disk does not take must not follow later, behind
        # the lines of another process.
        file = self.stream.fileno()
        data = ("\n".join(lines) + "\n").encode()
        before, written = os.fstat(file).st_size, 0
        try:
            while written < len(data):
                written += os.write(file, data[written:])
        except OSError:
            whole = data.rfind(b"\n", 0, written) + 1
            # Only while nobody else's line is behind the torn one.
            if written > whole and os.fstat(file).st_size == before + written:
                os.ftruncate(file, before + whole)
            raise


def _end_last_line(path: pathlib.Path) -> None:
    """A line that a kill or a full disk has torn does not take the next one with it."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
