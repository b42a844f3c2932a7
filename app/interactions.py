"""The event log: `logs/broker_interactions.json`, a JSON line for every produce and consume.

For reading, not for recovery: the topics are the record. Lines are written by a thread of their
own, a `produce` only after the broker's ack, so a line means that the record exists; after a
`kill -9` the last ones may be missing.
"""

import asyncio
import collections
import logging
import logging.handlers
import pathlib
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from pythonjsonlogger.msgspec import MsgspecFormatter

from app.errors import SettingsError

FILE_NAME = "broker_interactions.json"
#: Lines that wait for the thread before whoever makes them has to wait, and where they may go on.
CROWDED, EBB = 20_000, 5_000

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
    ) -> None:
        self.path = folder / FILE_NAME
        self.room = asyncio.Event()
        self.room.set()
        self._max_bytes, self._files = max_bytes, files
        self._redact = redact
        self._lines: collections.deque[dict[str, Any]] = collections.deque()
        self._wake = threading.Event()
        self._closing = False
        self._failed = False
        self._handler: logging.Handler | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """The file is there. Raises `SettingsError` when it cannot be written."""
        if self._handler is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.handlers.RotatingFileHandler(
                self.path, maxBytes=self._max_bytes, backupCount=self._files, encoding="utf-8"
            )
        except OSError as exc:
            raise SettingsError(
                f"{self.path.absolute()}: the event log cannot be written: {exc}."
                " Name another folder (PENSTOCK_LOGS) or turn it off (PENSTOCK_EVENT_LOG=off)."
            ) from exc
        formatter = MsgspecFormatter([])
        if self._redact is not None:
            handler.setFormatter(_Redacting(formatter, self._redact))
        else:
            handler.setFormatter(formatter)
        handler.handleError = self._on_error  # type: ignore[method-assign]
        self._handler = handler

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lines are written from here on; `room` belongs to `loop`."""
        self.open()
        self._loop = loop
        self._thread = threading.Thread(
            target=self._run, args=(self._handler,), name="penstock-event-log", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """All lines are in the file."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = self._handler = None

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
        if len(self._lines) > CROWDED:
            self.room.clear()
        self._wake.set()

    def _run(self, handler: logging.Handler) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                handler.handle(_record(self._lines.popleft()))
                if len(self._lines) == EBB and self._loop is not None and not self.room.is_set():
                    self._loop.call_soon_threadsafe(self.room.set)
            if self._closing:
                handler.close()
                return

    def _on_error(self, record: logging.LogRecord) -> None:
        # The pipeline does not depend on this file: say it once, and go on.
        if not self._failed:
            self._failed = True
            log.exception("%s: cannot be written; the pipeline runs on", self.path)


class _Redacting(logging.Formatter):
    """Lines without secrets, wherever in the payload they stand."""

    def __init__(self, inner: logging.Formatter, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._inner = inner
        self._redact_line = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact_line(self._inner.format(record))


def _record(line: dict[str, Any]) -> logging.LogRecord:
    seconds = line["timestamp"]
    line["timestamp"] = (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
    )
    line["event_id"] = str(uuid.uuid4())
    return logging.makeLogRecord({"msg": line, "name": "penstock.interactions"})
