"""The memory against the real embedded Qdrant, and under kill -9."""

import asyncio
import pathlib
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from penstock.memory import KINDS, Memory
from penstock.memory.embeddings import MiniLMEmbeddings
from tests.contract.memories import (
    AGAIN,
    PATIENCE_S,
    REVERSE,
    actions,
    here,
    opened,
    settled,
    until,
)
from tests.programs import ROOT
from tests.servers import free_port

pytestmark = pytest.mark.usefixtures("qdrant_client")


async def test_what_was_learnt_is_found_by_other_words_with_its_score(tmp_path):
    async with opened(here(tmp_path)) as memory:
        await memory.remember("failure", REVERSE, "reversed() is no string", id="1")
        await memory.remember("success", REVERSE, "text[::-1]", id="2")
        await memory.remember("success", "Sum the digits of a number", "sum(map(int, n))", id="3")
        await memory.remember("pattern", "Read numbers from a file", "strip the lines", id="4")
        status = await settled(memory)
        assert (status.state, status.points, status.waiting) == ("up", 4, 0)
        assert str(status).endswith("qdrant, embeddings local/hashed-words-1, 4 points")

        found = await memory.recall(AGAIN, limit=2)
        assert {(note.kind, note.lesson) for note in found} == {
            ("failure", "reversed() is no string"),
            ("success", "text[::-1]"),
        }
        assert all(0.2 < note.score < 1 for note in found)
        every = await memory.recall(f"{AGAIN}, and sum its digits", limit=9)
        assert [note.score for note in every] == sorted((n.score for n in every), reverse=True)
        assert {note.task for note in every} == {REVERSE, "Sum the digits of a number"}

        [one] = await memory.recall(REVERSE, ["success"])
        assert (one.task, one.lesson) == (REVERSE, "text[::-1]")
        assert one.score == pytest.approx(1.0)
        assert await memory.recall(REVERSE, limit=0) == []


async def test_a_task_that_is_like_none_has_no_lessons_and_nobody_is_given_their_own(tmp_path):
    async with opened(here(tmp_path)) as memory:
        for number in range(9):
            await memory.remember("failure", REVERSE, f"mine {number}", id=f"me/{number}")
        await memory.remember("failure", AGAIN, "another's", id="you/1")
        await settled(memory)
        assert await memory.recall("Read numbers from a file") == []
        assert [note.lesson for note in await memory.latest(["failure"], limit=1)] == ["another's"]
        for found in (
            await memory.recall(REVERSE, limit=2, without="me/"),
            await memory.latest(limit=2, without="me/"),
        ):
            assert [note.lesson for note in found] == ["another's"]
        assert len(await memory.latest(limit=2, without="m/")) == 2


async def test_the_latest_notes_are_those_that_were_remembered_last_whatever_they_are_about(
    tmp_path,
):
    async with opened(here(tmp_path)) as memory:
        for number in range(5):
            kind = KINDS[number % 3]
            await memory.remember(kind, f"task {number}", f"lesson {number}", id=str(number))
        await settled(memory)
        assert [note.task for note in await memory.latest(limit=3)] == [
            "task 4",
            "task 3",
            "task 2",
        ]
        [one, other] = await memory.latest(["failure"], limit=9)
        assert (one.lesson, other.lesson, other.kind) == ("lesson 3", "lesson 0", "failure")
        # A note that replaces an earlier one is as late as that.
        await memory.remember("failure", "task 0", "lesson 0, again", id="0")
        await until(lambda: not memory.status.waiting, "the note")
        assert [note.lesson for note in await memory.latest(limit=1)] == ["lesson 0, again"]
        assert await memory.latest(limit=0) == []
        with pytest.raises(ValueError, match="failure, success, pattern"):
            await memory.latest(["lesson"])
    assert await memory.latest() == []


async def test_a_note_that_is_remembered_again_is_one_point_with_the_last_lesson(tmp_path):
    async with opened(here(tmp_path)) as memory:
        for lesson in ("first", "second"):
            await memory.remember("failure", REVERSE, lesson, id="event-1")
            assert (await settled(memory)).points == 1
        [found] = await memory.recall(REVERSE)
        assert found.lesson == "second"


async def test_notes_of_other_embeddings_are_embedded_anew_and_said(
    tmp_path, caplog, minilm_folder
):
    task, other = "Check whether a string is a palindrome", "Sum the digits of a number"
    async with opened(here(tmp_path)) as memory:
        await memory.remember("failure", task, "mind the case", id="1")
        await memory.remember("success", other, "sum(map(int, n))", id="2")
        await settled(memory)
    for _ in range(2):  # at the second time there is nothing left to do
        meanings = MiniLMEmbeddings(minilm_folder)
        async with opened(here(tmp_path), embeddings=meanings) as memory:
            await until(lambda: memory.status.points == 2, "the notes")
            [note] = await memory.recall("What do the numerals of an integer add up to?", limit=1)
            assert (note.kind, note.task, note.lesson) == ("success", other, "sum(map(int, n))")
            assert [note.task for note in await memory.latest()] == [other, task]
    assert actions(caplog) == ["memory_embedded_anew"]
    assert "2 notes that were made with other embeddings" in caplog.text


async def test_a_kind_that_there_is_not_is_a_mistake_of_the_caller(tmp_path):
    memory = Memory(here(tmp_path))
    with pytest.raises(ValueError, match="failure, success, pattern"):
        await memory.remember("lesson", REVERSE, "x", id="1")
    with pytest.raises(ValueError, match="failure, success, pattern"):
        await memory.recall(REVERSE, ["lesson"])


async def test_notes_before_the_start_and_after_the_close_are_delivered_at_the_next(tmp_path):
    memory = Memory(here(tmp_path))
    await memory.remember("failure", REVERSE, "before", id="1")
    assert await memory.recall(REVERSE) == []
    await memory.start()
    assert (await settled(memory)).points == 1
    await memory.close()
    await memory.remember("failure", REVERSE, "after", id="2")
    assert await memory.recall(REVERSE) == []
    await memory.close()
    async with opened(here(tmp_path)) as again:
        assert (await settled(again)).points == 2
        assert {note.lesson for note in await again.recall(REVERSE)} == {"before", "after"}


async def test_a_folder_that_another_has_is_down_with_the_way_out_and_its_notes_arrive(
    tmp_path, caplog
):
    async with opened(here(tmp_path)) as first:
        assert (await settled(first)).state == "up"
        async with opened(here(tmp_path)) as second:
            status = await settled(second)
            assert status.state == "down"
            assert "another process has" in status.reason and "QDRANT_URL=" in status.reason
            await second.remember("failure", REVERSE, "from the second", id="2")
            assert await second.recall(REVERSE) == []
            # They share an outbox, and whoever has the folder empties it.
            await first.remember("failure", REVERSE, "from the first", id="1")
            await until(lambda: first.status.points == 2, "both notes")
        assert len(await first.recall(AGAIN)) == 2
    assert actions(caplog) == ["memory_down"]


async def test_the_folder_is_taken_over_when_the_other_process_dies(tmp_path, caplog):
    holder = child("hold", tmp_path)
    try:
        assert await asyncio.to_thread(holder.stdout.readline) == "up\n"
        async with opened(here(tmp_path)) as memory:
            assert (await settled(memory)).state == "down"
            await memory.remember("failure", REVERSE, "while it was held", id="1")
            holder.kill()
            await until(lambda: memory.status.state == "up", "the memory to be back")
            assert (await settled(memory)).points == 2, "the holder's note, and ours"
    finally:
        end(holder)
    assert actions(caplog) == ["memory_down", "memory_up"]


async def test_without_the_client_the_memory_is_down_and_says_how_to_get_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "qdrant_client"]:
        monkeypatch.delitem(sys.modules, name)
    # What the import system does when a package is not there.
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    async with opened(here(tmp_path)) as memory:
        status = await settled(memory)
        assert status.state == "down" and "pip install '.[memory]'" in status.reason
        await memory.remember("failure", REVERSE, "x", id="1")
        assert await memory.recall(REVERSE) == []


async def test_the_loop_goes_on_while_qdrant_is_busy(tmp_path):
    """Qdrant's thread is held; the loop, notes and the status are not."""
    async with opened(here(tmp_path, recall_s=0.05)) as memory:
        await settled(memory)
        gate = threading.Event()
        held = memory._folder_thread.submit(gate.wait, PATIENCE_S)
        assert await memory.recall(REVERSE) == []  # and now it counts as down
        assert memory.status.state == "down"
        await asyncio.gather(
            *(memory.remember("failure", f"{REVERSE} {n}", "x", id=str(n)) for n in range(20))
        )
        assert await memory.recall(REVERSE) == []
        assert not held.done(), "all this happened while Qdrant's thread was held"
        gate.set()
        await until(lambda: memory.status.points == 20, "what was remembered meanwhile")


# Killed.

CHILD = """
import asyncio, pathlib, sys
from penstock.memory import Memory
from penstock.settings import Settings

what, folder, url = sys.argv[1:4]
settings = Settings(data=pathlib.Path(folder) / "data", qdrant_url=url)

async def main():
    memory = Memory(settings)
    await memory.start()
    if what == "hold":
        await memory.remember("failure", "held", "x", id="held")
        await memory.settled()
        print("up", flush=True)
        await asyncio.Event().wait()
    for number in range(100_000):
        task, lesson = f"task number {number}", f"lesson {number}"
        await memory.remember("failure", task, lesson, id=str(number))
        print(number, flush=True)

asyncio.run(main())
"""


def child(what: str, folder: pathlib.Path, url: str = "") -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, what, str(folder), url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def end(process: Any) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def remember_until_killed(folder: pathlib.Path, count: int, url: str = "") -> set[str]:
    """The ids that were remembered by a process that got kill -9 after `count` of them."""
    process = child("remember", folder, url)
    said = [process.stdout.readline() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    end(process)
    assert len(said) >= count and said[0] == "0\n", said[:3]
    return {line.strip() for line in said if line.endswith("\n")}


async def test_kill_9_between_remembering_and_delivery_loses_nothing(tmp_path):
    known = remember_until_killed(tmp_path, 40, url=f"http://127.0.0.1:{free_port()}")
    async with opened(here(tmp_path)) as memory:
        status = await settled(memory)
        # One more may have been on the disk, and not yet said.
        assert len(known) <= (status.points or 0) <= len(known) + 1
        found = await memory.latest(limit=1000)
        assert known <= {note.lesson.removeprefix("lesson ") for note in found}


@pytest.mark.parametrize("count", [1, 5, 33, 90])
async def test_kill_9_while_notes_are_delivered_loses_and_repeats_nothing(tmp_path, count):
    known: set[str] = set()
    for _ in range(2):  # the second time, over what the first left
        known |= remember_until_killed(tmp_path, count)
    async with opened(here(tmp_path)) as memory:
        status = await settled(memory)
        assert (status.state, status.waiting) == ("up", 0), status.reason
        found = await memory.latest(limit=100_000)
        lessons = [note.lesson.removeprefix("lesson ") for note in found]
        assert len(lessons) == len(set(lessons)) == status.points
        assert known <= set(lessons)
