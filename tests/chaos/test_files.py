"""kill -9 while a file of the worker is half way from one state to another."""

import os
import pathlib
import shutil
import struct
import time
from collections.abc import Callable

import pytest

from tests.chaos.evidence import read_file
from tests.chaos.trials import LONG, SLOW, Trial
from tests.chaos.verdicts import Verdict
from tests.programs import wait_until

#: Looks at the file before a try counts as missed: a checkpoint comes once a second.
WATCH_S = 4.0
TRIES = 12


class WriteAheadLog:
    """SQLite's log beside a database that nobody has open, read by its format alone
    (https://www.sqlite.org/fileformat.html, section 4; /walformat.html, section 2.2)."""

    def __init__(self, file: pathlib.Path) -> None:
        raw = pathlib.Path(f"{file}-wal").read_bytes()
        index = pathlib.Path(f"{file}-shm").read_bytes()
        (self.page_bytes,) = struct.unpack_from(">I", raw, 8)
        #: Frames that are in the database for sure, and those that a checkpoint set out to copy.
        (self.copied,) = struct.unpack_from("<I", index, 96)
        (self.attempted,) = struct.unpack_from("<I", index, 128)
        self.pages: dict[int, bytes] = {}
        step = 24 + self.page_bytes
        for number in range(min(self.attempted, (len(raw) - 32) // step)):
            at = 32 + number * step
            if raw[at + 8 : at + 16] == raw[16:24]:  # a frame of this log, not of an older one
                (page,) = struct.unpack_from(">I", raw, at)
                self.pages[page] = raw[at + 24 : at + step]

    def missing(self, file: pathlib.Path) -> list[int]:
        """The pages that the checkpoint set out to copy and has not copied."""
        raw = file.read_bytes()
        size = self.page_bytes
        return [n for n, page in self.pages.items() if raw[(n - 1) * size : n * size] != page]


def kill_inside_a_checkpoint(trial: Trial) -> list[int]:
    """Killed while some pages were copied and others were not; those that were not."""
    for _ in range(TRIES):
        trial.start()
        trial.submit(20, filler="." * 30_000)
        written = wait_for_a_write(trial.file)
        trial.kill()
        if not written:
            continue
        log = WriteAheadLog(trial.file)
        missing = log.missing(trial.file)
        if log.attempted > log.copied and 0 < len(missing) < len(log.pages):
            return missing
    return []


def wait_for_a_write(file: pathlib.Path) -> bool:
    """The database itself, which only a checkpoint writes to, was written to just now."""
    before = os.stat(file).st_mtime_ns
    deadline = time.monotonic() + WATCH_S
    while os.stat(file).st_mtime_ns == before:  # no pause: a checkpoint takes milliseconds
        if time.monotonic() > deadline:
            return False
    return True


@pytest.mark.timeout(300)
def test_a_kill_inside_a_checkpoint_loses_nothing_there_or_in_a_copy_with_torn_pages(
    trial: Trial, judged: list[Verdict]
) -> None:
    missing = kill_inside_a_checkpoint(trial)
    assert missing, f"no checkpoint could be caught in {TRIES} tries"

    there = read_file(trial.file)
    copy = trial.folder / "copy" / trial.file.name
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{trial.file}{suffix}", f"{copy}{suffix}")
    tear(copy, missing)
    trial.move_to(copy)
    assert read_file(copy) == there

    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


def tear(file: pathlib.Path, pages: list[int]) -> None:
    """These pages are half written, as when the power goes while they are copied."""
    (size,) = struct.unpack(">H", file.read_bytes()[16:18])
    with file.open("r+b") as db:
        for page in pages:
            db.seek((page - 1) * size)
            db.write(b"\xaa" * (size // 2))


@pytest.mark.timeout(300)
@pytest.mark.settings(PENSTOCK_EVENT_LOG_BYTES="20000", PENSTOCK_EVENT_LOG_FILES="500")
def test_a_kill_while_the_event_log_is_rotated_loses_nothing(
    trial: Trial, judged: list[Verdict]
) -> None:
    for _ in range(6 if LONG else 1):
        trial.submit(40)
        trial.crash("event log renamed, not reopened", trial.random.randrange(1, 6))
    verdict = trial.judge()
    judged.append(verdict)
    verdict.keeps_the_promise()


@pytest.mark.timeout(300)
def test_a_line_of_the_event_log_that_a_kill_has_torn_spoils_no_other(
    trial: Trial, judged: list[Verdict]
) -> None:
    trial.submit(20)
    trial.crash("recorded, step not finished", 15)
    log = trial.folder / "logs" / "broker_interactions.json"
    torn = log.read_text().splitlines()[-1][:-40]
    os.truncate(log, log.stat().st_size - 41)
    verdict = trial.judge()
    judged.append(verdict)

    verdict.keeps_the_promise()
    assert torn in log.read_text().splitlines(), "the next line stands on the torn one"


@pytest.mark.timeout(300)
@pytest.mark.settings(PENSTOCK_RETENTION_S="1")
def test_kills_while_retention_deletes_take_no_run_that_is_not_over(
    trial: Trial, judged: list[Verdict]
) -> None:
    for _ in range(6 if LONG else 2):
        trial.submit(40)
        trial.start().wait_for_the_end()
        trial.server.script([SLOW])
        trial.submit(40)
        wait_until(deletes_more(trial), "something to be deleted")
        trial.kill()
    verdict = trial.judge(deleted=True)
    judged.append(verdict)
    verdict.keeps_the_promise()


def deletes_more(trial: Trial) -> Callable[[], bool]:
    """Whether something was deleted since this was asked first."""
    before = read_file(trial.file).deleted
    return lambda: read_file(trial.file).deleted > before
