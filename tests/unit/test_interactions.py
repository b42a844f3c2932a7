"""The event log: a JSON line for every produce and consume, that never holds the pipeline up."""

import asyncio
import contextlib
import json
import pathlib
import re
import resource
import shutil
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.errors import SettingsError
from penstock.record.event_log import FILE_NAME, EventLog, RotatingFile
from penstock.record.events import Event
from tests.unit.conftest import until


@contextlib.contextmanager
def started(folder: pathlib.Path, **options: Any) -> Iterator[EventLog]:
    """An event log whose lines are all in its file afterwards."""
    log = EventLog(folder, **{"max_bytes": 10**9, "files": 3, **options})
    loop = asyncio.new_event_loop()
    log.start(loop)
    try:
        yield log
    finally:
        log.stop()
        loop.close()


def lines_of(file: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().removesuffix("\n").split("\n")]


def write(log: EventLog, message: Any = "x", **fields: Any) -> None:
    log.write("produce", "idea", "a-run", message, **fields)


def test_every_write_is_a_line_with_its_fields_in_the_order_in_which_they_arrived(tmp_path):
    with started(tmp_path / "logs") as log:
        log.write("produce", "idea", "run-1", {"text": "Ein Frosch 🐸"}, partition=2, offset=7)
        log.write("consume", "idea", "run-1", "second", agent=None)
    first, second = lines_of(tmp_path / "logs" / FILE_NAME)
    assert first.pop("event_id") != second.pop("event_id")
    stamp = first.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert second.pop("timestamp") >= stamp
    assert first == {
        "event": "produce", "topic": "idea", "trace_id": "run-1",
        "message": {"text": "Ein Frosch 🐸"}, "partition": 2, "offset": 7,
    }  # fmt: skip
    assert second == {
        "event": "consume", "topic": "idea", "trace_id": "run-1", "message": "second",
        "agent": None,
    }  # fmt: skip


def test_an_event_is_written_as_it_stands_on_its_topic(tmp_path):
    event = Event(id="i", trace_id="t", pipeline="p", stage="s", parts={"a": [1]}, created=1.5)
    with started(tmp_path) as log:
        write(log, event)
    (line,) = lines_of(log.path)
    assert line["message"] == {
        "id": "i", "trace_id": "t", "pipeline": "p", "stage": "s", "parts": {"a": [1]},
        "created": 1.5,
    }  # fmt: skip


def test_every_line_has_an_id_of_its_own(tmp_path):
    with started(tmp_path) as log:
        for number in range(500):
            write(log, number)
    lines = lines_of(log.path)
    assert [line["message"] for line in lines] == list(range(500))
    assert len({uuid.UUID(line["event_id"]) for line in lines}) == 500


def test_a_text_with_line_breaks_stays_one_line(tmp_path):
    with started(tmp_path) as log:
        write(log, "a\nb\r\n\u2028c")
    assert [line["message"] for line in lines_of(log.path)] == ["a\nb\r\n\u2028c"]


def test_the_file_is_rotated_by_size_and_no_line_is_torn(tmp_path):
    with started(tmp_path, max_bytes=3000, files=2) as log:
        for number in range(100):
            write(log, number)
    files = sorted(tmp_path.iterdir(), reverse=True)
    assert [file.name for file in files] == [f"{FILE_NAME}.2", f"{FILE_NAME}.1", FILE_NAME]
    assert all(0 < file.stat().st_size <= 3000 for file in files)
    numbers = [line["message"] for file in files for line in lines_of(file)]
    assert numbers == list(range(100))[-len(numbers) :]


def test_a_log_that_keeps_no_old_files_stays_small_too(tmp_path):
    with started(tmp_path, max_bytes=3000, files=0) as log:
        for number in range(100):
            write(log, number)
    assert list(tmp_path.iterdir()) == [log.path]
    assert log.path.stat().st_size <= 3000
    assert lines_of(log.path)[-1]["message"] == 99


def test_a_line_larger_than_the_size_is_written_whole(tmp_path):
    with started(tmp_path, max_bytes=1000, files=9) as log:
        for text in ("a", "x" * 5000, "b"):
            write(log, text)
    files = sorted(tmp_path.iterdir(), reverse=True)
    assert [line["message"] for file in files for line in lines_of(file)] == ["a", "x" * 5000, "b"]


def test_the_log_of_the_last_time_is_gone_on_with(tmp_path):
    for number in range(2):
        with started(tmp_path) as log:
            write(log, number)
    assert [line["message"] for line in lines_of(log.path)] == [0, 1]


def test_a_line_that_a_kill_has_torn_spoils_no_other(tmp_path):
    (tmp_path / FILE_NAME).write_text('{"event": "prod')
    with started(tmp_path) as log:
        write(log, "whole")
    torn, whole = log.path.read_text().splitlines()
    assert torn == '{"event": "prod'
    assert json.loads(whole)["message"] == "whole"


def test_secrets_are_taken_out_wherever_they_stand(tmp_path):
    with started(tmp_path, redact=lambda text: text.replace("sk-secret", "[secret]")) as log:
        write(log, {"deep": ["my key is sk-secret"]}, instructions="say sk-secret")
    assert "sk-secret" not in log.path.read_text()
    (line,) = lines_of(log.path)
    assert line["message"] == {"deep": ["my key is [secret]"]}
    assert line["instructions"] == "say [secret]"


def test_room_is_cleared_while_the_thread_is_far_behind_and_set_when_it_has_caught_up(tmp_path):
    go = threading.Event()

    def slow(text: str) -> str:
        assert go.wait(10)
        return text

    async def main() -> None:
        log = EventLog(tmp_path, max_bytes=10**9, files=0, redact=slow, crowded=1000)
        log.start(asyncio.get_running_loop())
        # The thread may have taken some lines already, and holds them.
        for _ in range(10_000):
            write(log)
            if not log.room.is_set():
                break
        assert len(log._lines) == 1001
        go.set()
        await until(log.room.is_set)
        await asyncio.to_thread(log.stop)

    asyncio.run(main())


def test_writing_never_waits_for_the_file(tmp_path):
    go = threading.Event()
    with started(tmp_path, redact=lambda text: text if go.wait(10) else "") as log:
        for number in range(10):
            write(log, number)
        go.set()
    assert len(lines_of(log.path)) == 10


@pytest.mark.timeout(20)
def test_a_full_disk_is_said_once_and_the_pipeline_runs_on(tmp_path, caplog):
    (tmp_path / FILE_NAME).symlink_to("/dev/full")
    with started(tmp_path) as log:
        for number in range(5):
            write(log, number)
            asyncio.run(until(lambda: not log._lines))
    (record,) = caplog.records
    assert f"{FILE_NAME}: cannot be written ([Errno 28]" in record.getMessage()
    assert record.getMessage().endswith("; the pipeline runs on")


@pytest.mark.parametrize("foreign", [b"", b'{"of": "another process"}\n'])
def test_a_line_that_does_not_fit_on_the_disk_is_not_left_torn(tmp_path, caplog, foreign):
    path = tmp_path / FILE_NAME
    file = RotatingFile(path, 1_000_000, 1)
    file.append(['"before"'])
    with file_size_limit(30):
        file.append(['"fits"', f'"{"x" * 100}"'])
    assert path.read_bytes() == b'"before"\n"fits"\n'
    with path.open("ab") as other:
        other.write(foreign)
    file.append(['"after"'])
    file.close()
    assert path.read_bytes() == b'"before"\n"fits"\n' + foreign + b'"after"\n'
    assert len(caplog.records) == 1


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """What is written past `size` bytes of a file is refused, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.timeout(20)
def test_a_rotation_that_fails_is_said_once_and_the_log_goes_on(tmp_path, caplog):
    (tmp_path / f"{FILE_NAME}.1").mkdir()
    (tmp_path / f"{FILE_NAME}.1" / "in the way").touch()
    with started(tmp_path, max_bytes=1000, files=1) as log:
        for _ in range(5):
            for number in range(10):
                write(log, number)
            asyncio.run(until(lambda: not log._lines))
    assert len(caplog.records) == 1
    assert log._thread is None, "its thread has ended, and not by an error"


@pytest.mark.parametrize("odd", ["\ud800", {("a", "b"): 1}])
def test_a_line_that_json_cannot_hold_stops_no_other(tmp_path, odd):
    with started(tmp_path) as log:
        write(log, "before")
        write(log, odd)
        write(log, "after")
    messages = [line["message"] for line in lines_of(log.path)]
    assert (messages[0], messages[-1]) == ("before", "after")


@pytest.mark.parametrize("change", ["removed", "folder removed", "rotated"])
def test_a_file_that_somebody_removes_or_moves_is_opened_anew(tmp_path, caplog, change):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = RotatingFile(folder / FILE_NAME, 10**9, 3)
    file.append(["before"])
    match change:
        case "removed":
            (folder / FILE_NAME).unlink()
        case "folder removed":
            shutil.rmtree(folder)
        case "rotated":
            (folder / FILE_NAME).rename(folder / "old")
            (folder / FILE_NAME).write_text("of another process\n")
    file.append(["after"])
    file.close()
    text = (folder / FILE_NAME).read_text()
    if change == "rotated":
        assert text == "of another process\nafter\n"
        assert (folder / "old").read_text() == "before\n"
        assert caplog.records == []
    else:
        assert text == "after\n"
        assert [record.action for record in caplog.records] == ["event_log_removed"]


def test_a_folder_that_cannot_be_written_is_an_error_with_the_way_out(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(SettingsError) as caught:
        EventLog(tmp_path / "logs", max_bytes=1, files=1).open()
    message = caught.value.message
    assert message.startswith(f"{tmp_path}/logs/{FILE_NAME}: the event log cannot be written: ")
    assert "PENSTOCK_LOGS" in message and "PENSTOCK_EVENT_LOG=off" in message


def test_what_is_written_before_the_start_or_after_the_stop_goes_nowhere(tmp_path):
    log = EventLog(tmp_path, max_bytes=1000, files=1)
    write(log)
    log.stop()
    with started(tmp_path) as log:
        write(log, "during")
    write(log, "after")
    assert [line["message"] for line in lines_of(log.path)] == ["during"]
