"""The history: a CSV file with one row a run, each written whole or not at all."""

import contextlib
import csv
import errno
import fcntl
import io
import os
import pathlib
import re
import time
from collections.abc import Iterator, Sequence

from penstock import private
from penstock.errors import StepFailed
from penstock.signals import HistoryMended

#: The run is found by the first; the last has a fixed form, so that a row that was cut is known.
COLUMNS = (
    *("trace_id", "title", "task", "input", "expected", "code", "explanation"),
    *("verdict", "cause", "detail", "output", "error", "seconds"),
    *("score", "findings", "critique", "model", "written"),
)
#: Spreadsheets take 32,767 characters in a cell, Python's csv module 131,072.
CELL_CHARS = 32_000
#: Seconds to wait for another process that is writing.
_LOCK_S = 2.0
_READ_BYTES = 1 << 20
_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
#: Signs that begin a formula, and those that look like them: some program takes them for such.
_EQUALS = "=\uff1d\ufe66\u207c\u208c"
_SIGNS = _EQUALS + r"+\uff0b\ufe62\u207a\u208a\-\uff0d\ufe63\u2212\u207b\u208b@\uff20\ufe6b"
#: What some program takes for nothing before one: white space, controls, marks of no width, quotes.
_UNSEEN = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f"
_UNSEEN += r"\u205f-\u2064\u3000\ufeff \"'"
_FORMULA = re.compile(rf"'*[\t\r]|[{_UNSEEN}\t\r\n]*[{_SIGNS}]")
#: Where a cell begins for a program that does not know of quotes, or of commas as its ends.
_INNER = re.compile(rf"(?<=[\t\r\n;])(?=[{_UNSEEN}]*[{_EQUALS}])")


def defuse(text: str) -> str:
    """`text` so that a spreadsheet shows it and does not run it: with a ' before it, if need be,
    and before each '=' in it that begins a line. docs/operations.md says how to read it back.

    Source: OWASP, CSV Injection.
    """
    text = _INNER.sub("'", text)
    return f"'{text}" if _FORMULA.match(text) else text


def cell(text: str) -> str:
    """`text` as it stands in the file: capped, defused, and text that UTF-8 can hold."""
    shown = defuse(text.encode("utf-8", "replace").decode())
    if len(shown) > CELL_CHARS:
        shown = f"{shown[:CELL_CHARS]}… ({len(text):,} characters)"
    return shown


def write_row(cells: Sequence[str]) -> bytes:
    """One line of RFC 4180."""
    made = io.StringIO()
    csv.writer(made, lineterminator="\r\n").writerow(cells)
    return made.getvalue().encode()


HEADER = write_row(COLUMNS)


class History:
    """A CSV file, its rows known by their runs.

    The whole file is read once; after that only what others appended. For one thread; other
    processes may write the same file, each in its turn.
    """

    def __init__(self, file: pathlib.Path) -> None:
        self.file = file
        #: What had to be mended for the last row, until somebody has said it.
        self.mended: HistoryMended | None = None
        self._forget()

    def _forget(self) -> None:
        self._runs: set[str] = set()
        self._identity: tuple[int, int] | None = None
        #: Up to here the file is whole rows, and known.
        self._end = 0
        self._last = b""

    def append(self, row: Sequence[str]) -> bool:
        """The row of the run `row[0]` is on the disk; False when it was there already.

        `row` has a text for each of `COLUMNS`. Raises `StepFailed` when the file is
        somebody else's, and `OSError` when it cannot be written: then it holds nothing of the row,
        or the next call takes that away.
        """
        data = write_row([cell(text) for text in row])
        with self._locked() as fd:
            self._catch_up(fd)
            if cell(row[0]) in self._runs:
                os.fsync(fd)  # whoever wrote it may have died before
                return False
            is_new = self._end == 0
            self._write(fd, HEADER + data if is_new else data)
            self._end += len(HEADER) * is_new + len(data)
            self._runs.add(cell(row[0]))
            self._last = data
        if is_new:
            self._sync_folder()
        return True

    # -- the file

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, open, and nobody else's turn. Raises `OSError`."""
        private.make_folder(self.file.parent)
        deadline = time.monotonic() + _LOCK_S
        while True:
            fd = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                if self._is_ours(fd):
                    yield fd
                    return
            finally:
                os.close(fd)
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another program has locked it, or keeps replacing it")
            time.sleep(0.01)

    def _is_ours(self, fd: int) -> bool:
        """Whether `fd` is locked now, and still the file: somebody may have put that aside."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(fd), os.stat(self.file))
        except (BlockingIOError, FileNotFoundError):
            return False

    def _write(self, fd: int, data: bytes) -> None:
        """`data` is at the end of the file and on the disk, or an `OSError` is raised."""
        try:
            written = os.write(fd, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError:
            # If this fails too, the next one to write finds the rest and cuts it off.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._end)
            raise

    def _sync_folder(self) -> None:
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # -- what is in it

    def _catch_up(self, fd: int) -> None:
        """All whole rows of the file are known, and it ends with one."""
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino)
        last_at = self._end - len(self._last)
        if (
            identity != self._identity
            or found.st_size < self._end
            or os.pread(fd, len(self._last), last_at) != self._last
        ):
            self._forget()
            self._identity = identity
        if found.st_size == self._end:
            return
        row = b""
        for row in self._read_rows(fd):
            if not _is_whole(row):
                self._mend(fd, row)
                return
            self._take(row)

    def _read_rows(self, fd: int) -> Iterator[bytes]:
        """Each row after what is known; the last one may have been cut."""
        at, quotes, rest = self._end, 0, b""
        lines: list[bytes] = []
        while chunk := os.pread(fd, _READ_BYTES, at):
            at += len(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.append(line + b"\n")
                quotes += line.count(b'"')
                if quotes % 2 == 0:  # else the line ends inside a cell
                    yield b"".join(lines)
                    lines, quotes = [], 0
        if lines or rest:
            yield b"".join([*lines, rest])

    def _take(self, row: bytes) -> None:
        cells = _cells(row)
        if self._end == 0 and tuple(cells) != COLUMNS:
            raise StepFailed(
                f"{self.file} is not the history: it begins with {', '.join(cells)[:200]!r} and not"
                f" with {', '.join(COLUMNS[:3])}... Move it away, and replay the dead letter"
            )
        if self._end and cells:
            self._runs.add(cells[0])
        self._end += len(row)
        self._last = row

    def _mend(self, fd: int, torn: bytes) -> None:
        """The row that was cut by a crash is whole again, or put aside and gone from the file."""
        if self._end == 0 and not HEADER.startswith(torn):
            self._take(torn)  # a header without the end of its line, or somebody else's
            self._end -= len(torn)
        cells = _cells(torn)
        whole = tuple(cells) == COLUMNS if self._end == 0 else _is_complete(cells)
        if whole and torn.count(b'"') % 2 == 0:
            ending = b"\n" if torn.endswith(b"\r") else b"\r\n"
            self._end, before = self._end + len(torn), self._end
            self._write(fd, ending)
            self._end = before
            self._take(torn + ending)
            return
        if self._end:
            # Nothing is thrown away that somebody may have written by hand.
            aside = self.file.with_name(f"{self.file.name}.torn")
            with aside.open("ab") as file:
                file.write(torn + b"\n")
            self.mended = HistoryMended(str(self.file), len(torn), aside.name)
        os.ftruncate(fd, self._end)


def _cells(row: bytes) -> list[str]:
    text = row.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        return next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error:
        return []


def _is_whole(row: bytes) -> bool:
    return row.endswith(b"\n") and row.count(b'"') % 2 == 0


def _is_complete(cells: list[str]) -> bool:
    return len(cells) == len(COLUMNS) and _WRITTEN.fullmatch(cells[-1]) is not None
