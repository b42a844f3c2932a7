"""The memory against the real embedded Qdrant, a server that comes and goes, and a provider."""

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from app.errors import ModelRefused
from app.memory import Memory, Status
from app.memory.embeddings import LocalEmbeddings
from app.settings import Settings
from tests.programs import ROOT
from tests.servers.fixtures import scripted, scripted_process

__all__ = ["scripted", "scripted_process"]

#: Seconds that a step of a test may take on a machine that is busy with other things.
PATIENCE_S = 30.0
REVERSE = "Reverse the characters of a string"
AGAIN = "Turn a text around so that it reads backwards"


@pytest.fixture(scope="module", autouse=True)
def _qdrant():
    if importlib.util.find_spec("qdrant_client") is None:
        reason = "embedded Qdrant is in its client's wheel: pip install qdrant-client"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """The client would ask a laptop's proxy for a loopback address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def opened(settings: Settings, **options: Any) -> AsyncIterator[Memory]:
    # Without jitter, a probe comes after three quarters of its pause.
    memory = Memory(settings, jitter=lambda: 0.0, **options)
    await memory.start()
    try:
        yield memory
    finally:
        await memory.close()


async def settled(memory: Memory) -> Status:
    async with asyncio.timeout(PATIENCE_S):
        return await memory.settled()


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.01)


def here(tmp_path: pathlib.Path, **given: Any) -> Settings:
    # A look has as long as it needs: what a test asks is whether it waits, not how fast Qdrant is.
    return Settings(data=tmp_path / "data", **({"recall_s": PATIENCE_S} | given))


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of going and coming, at the level that a worker shows."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [getattr(record, "action", record.getMessage()) for record in records]


# Embedded.


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
        every = await memory.recall(AGAIN, limit=9)
        assert [note.score for note in every] == sorted((n.score for n in every), reverse=True)
        assert len(every) == 4

        [one, other] = await memory.recall(REVERSE, ["success"])
        assert (one.task, one.lesson) == (REVERSE, "text[::-1]")
        assert one.score == pytest.approx(1.0) and other.score < 0.2
        assert await memory.recall(REVERSE, limit=0) == []


async def test_a_note_that_is_remembered_again_is_one_point_with_the_last_lesson(tmp_path):
    async with opened(here(tmp_path)) as memory:
        for lesson in ("first", "second"):
            await memory.remember("failure", REVERSE, lesson, id="event-1")
            assert (await settled(memory)).points == 1
        [found] = await memory.recall(REVERSE)
        assert found.lesson == "second"


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
        assert status.state == "down" and "pip install 'penstock[memory]'" in status.reason
        await memory.remember("failure", REVERSE, "x", id="1")
        assert await memory.recall(REVERSE) == []


async def test_the_loop_goes_on_while_qdrant_is_busy(tmp_path):
    """Qdrant's thread is held; the loop, notes and the status are not."""
    async with opened(here(tmp_path, recall_s=0.05)) as memory:
        await settled(memory)
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        held = asyncio.create_task(
            memory._qdrant_lane.run(
                lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(PATIENCE_S)
            )
        )
        assert await memory.recall(REVERSE) == []  # and now it counts as down
        assert memory.status.state == "down"
        await asyncio.gather(
            *(memory.remember("failure", f"{REVERSE} {n}", "x", id=str(n)) for n in range(20))
        )
        assert await memory.recall(REVERSE) == []
        assert not held.done(), "all this happened while Qdrant's thread was held"
        gate.set()
        await held
        await until(lambda: memory.status.points == 20, "what was remembered meanwhile")


# Killed.

CHILD = """
import asyncio, pathlib, sys
from app.memory import Memory
from app.settings import Settings

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
        found = await memory.recall("task number 7", limit=1000)
        assert known <= {note.lesson.removeprefix("lesson ") for note in found}


@pytest.mark.parametrize("count", [1, 5, 33, 90])
async def test_kill_9_while_notes_are_delivered_loses_and_repeats_nothing(tmp_path, count):
    known: set[str] = set()
    for _ in range(2):  # the second time, over what the first left
        known |= remember_until_killed(tmp_path, count)
    async with opened(here(tmp_path)) as memory:
        status = await settled(memory)
        assert (status.state, status.waiting) == ("up", 0), status.reason
        found = await memory.recall("task number 7", limit=100_000)
        lessons = [note.lesson.removeprefix("lesson ") for note in found]
        assert len(lessons) == len(set(lessons)) == status.points
        assert known <= set(lessons)


# A server that comes and goes. No registry has Qdrant's binary, so it is tests/servers/qdrant.py.


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Server:
    """A Qdrant that can be started, killed and suspended; its points outlive it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, key: str = "") -> None:
        command = [sys.executable, "tests/servers/qdrant.py", "--port", str(self.port)]
        command += ["--folder", str(self.folder), "--key", key]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == {"port": self.port}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def suspend(self) -> None:
        """It takes connections and answers nothing, as a machine that swaps does."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    yield made
    made.stop()


async def test_a_server_may_come_later_go_and_come_back(tmp_path, server, caplog):
    async with opened(here(tmp_path, qdrant_url=server.url)) as memory:
        status = await settled(memory)
        assert status.state == "down" and "Qdrant does not answer" in status.reason
        assert status.where == server.url
        await memory.remember("failure", REVERSE, "before it came", id="1")
        assert await memory.recall(REVERSE) == []

        await asyncio.to_thread(server.start)
        await until(lambda: memory.status.state == "up", "the server to be noticed")
        assert (await settled(memory)).points == 1
        assert [note.lesson for note in await memory.recall(AGAIN)] == ["before it came"]

        server.stop()
        assert await memory.recall(REVERSE) == []
        assert memory.status.state == "down"
        await memory.remember("success", REVERSE, "while it was gone", id="2")
        await memory.remember("success", REVERSE, "while it was gone", id="2")

        await asyncio.to_thread(server.start)
        await until(lambda: memory.status.state == "up", "the server to be back")
        assert (await settled(memory)).points == 2
        assert {note.lesson for note in await memory.recall(AGAIN)} == {
            "before it came",
            "while it was gone",
        }
    assert actions(caplog) == ["memory_down", "memory_up"] * 2


async def test_a_server_that_goes_is_noticed_by_a_note_too(tmp_path, server, caplog):
    async with opened(here(tmp_path, qdrant_url=server.url)) as memory:
        await asyncio.to_thread(server.start)
        await until(lambda: memory.status.state == "up", "the server")
        server.stop()
        await memory.remember("failure", REVERSE, "x", id="1")
        await until(lambda: memory.status.state == "down", "the outage to be noticed")
        assert memory.status.waiting == 1
        await asyncio.to_thread(server.start)
        await until(lambda: memory.status.points == 1, "the note")
    assert actions(caplog)[-2:] == ["memory_down", "memory_up"]


async def test_a_server_that_hangs_costs_one_look_its_limit_and_the_others_nothing(
    tmp_path, server
):
    await asyncio.to_thread(server.start)
    async with opened(here(tmp_path, qdrant_url=server.url, recall_s=0.3)) as memory:
        await memory.remember("failure", REVERSE, "before", id="1")
        assert (await settled(memory)).state == "up"
        server.suspend()
        assert await memory.recall(REVERSE) == []
        assert memory.status.state == "down"
        assert memory.status.reason == "no answer within 0.3 s"
        started = time.monotonic()
        for _ in range(100):
            assert await memory.recall(REVERSE) == []
        assert time.monotonic() - started < 100 * 0.3 / 2, "each would take 0.3 s if it asked"
        await memory.remember("failure", REVERSE, "meanwhile", id="2")
        server.resume()
        await until(lambda: memory.status.points == 2, "what was remembered meanwhile")


async def test_a_collection_that_somebody_deletes_is_made_anew(tmp_path, server):
    await asyncio.to_thread(server.start)
    async with opened(here(tmp_path, qdrant_url=server.url)) as memory:
        await memory.remember("failure", REVERSE, "old", id="1")
        assert (await settled(memory)).points == 1
        client = memory._points._client
        assert client is not None
        for name in memory._points._names.values():
            await asyncio.to_thread(client.delete_collection, name)
        await memory.remember("failure", REVERSE, "new", id="2")
        await until(lambda: memory.status.points == 1 and not memory.status.waiting, "the note")
        await until(lambda: memory.status.state == "up", "the memory to be back")
        assert [note.lesson for note in await memory.recall(REVERSE)] == ["new"]


async def test_a_wrong_key_is_said_and_never_shown(tmp_path, server, caplog):
    await asyncio.to_thread(server.start, "open-sesame-1")
    wrong = here(tmp_path, qdrant_url=server.url, qdrant_api_key="close-sesame-2")
    async with opened(wrong) as memory:
        status = await settled(memory)
        assert status.reason == "Qdrant answered 401. Check QDRANT_API_KEY"
    right = here(tmp_path, qdrant_url=server.url, qdrant_api_key="open-sesame-1")
    async with opened(right) as memory:
        await memory.remember("failure", REVERSE, "x", id="1")
        assert (await settled(memory)).points == 1
    assert "sesame" not in caplog.text + str(status)


async def test_two_workers_share_a_server(tmp_path, server):
    await asyncio.to_thread(server.start)
    one = Settings(data=tmp_path / "one", qdrant_url=server.url, recall_s=PATIENCE_S)
    two = Settings(data=tmp_path / "two", qdrant_url=server.url, recall_s=PATIENCE_S)
    async with opened(one) as first, opened(two) as second:
        await first.remember("failure", REVERSE, "from the first", id="1")
        await settled(first)
        assert (await settled(second)).state == "up"
        assert [note.lesson for note in await second.recall(AGAIN)] == ["from the first"]


# Embeddings of a provider.


async def test_a_providers_embeddings_are_used_and_never_mixed_with_anothers(tmp_path, scripted):
    def settings(model: str) -> Settings:
        return here(tmp_path, embeddings=f"{scripted.base_url}#{model}")

    async with opened(settings("wide")) as memory:
        await memory.remember("failure", "alpha beta gamma", "about letters", id="1")
        await memory.remember("failure", "one two three", "about numbers", id="2")
        status = await settled(memory)
        assert (status.points, status.embeddings) == (2, "server/wide")
        near, far = await memory.recall("gamma beta delta")
        assert near.lesson == "about letters" and near.score > far.score
    # The same length of vectors, and yet another model.
    async with opened(settings("other")) as memory:
        assert (await settled(memory)).points == 0
        assert await memory.recall("alpha beta gamma") == []
    async with opened(here(tmp_path)) as memory:
        assert (await settled(memory)).points == 0
    async with opened(settings("wide")) as memory:
        assert (await settled(memory)).points == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fault": "status", "status": 503}, "server/m answered 503"),
        ({"fault": "status", "status": 404}, "server/m answered 404"),
        ({"fault": "status", "status": 401}, "server/m answered 401"),
        ({"fault": "html"}, "server/m answered with something that is no list of embeddings"),
    ],
)
async def test_a_provider_that_fails_is_a_memory_that_is_down_until_it_answers(
    tmp_path, scripted, caplog, fault, reason
):
    scripted.script([fault])
    async with opened(here(tmp_path, embeddings=f"{scripted.base_url}#m")) as memory:
        status = await settled(memory)
        assert status.state == "down" and status.reason.startswith(reason)
        await memory.remember("failure", REVERSE, "x", id="1")
        await until(lambda: memory.status.points == 1, "the note")
        scripted.script([fault])
        assert await memory.recall(REVERSE) == []
        await until(lambda: memory.status.state == "up", "the memory to be back")
        assert len(await memory.recall(REVERSE)) == 1


async def test_a_provider_that_hangs_costs_a_look_its_limit(tmp_path, scripted):
    settings = here(tmp_path, embeddings=f"{scripted.base_url}#m", recall_s=0.3)
    async with opened(settings) as memory:
        assert (await settled(memory)).state == "up"
        scripted.script([{"fault": "timeout"}])
        assert await memory.recall(REVERSE) == []
        assert memory.status.state == "down"
        await until(lambda: memory.status.state == "up", "the memory to be back")


async def test_a_task_that_a_model_refuses_holds_up_no_other(tmp_path, scripted, caplog):
    scripted.script([{"fault": "status", "status": 400, "match": "poison", "times": 99}])
    async with opened(here(tmp_path, embeddings=f"{scripted.base_url}#m")) as memory:
        # One batch, so that the refusal is one for all of them.
        await asyncio.gather(
            *(
                memory.remember("failure", task, "x", id=task)
                for task in ("sound one", "poison", "sound two")
            )
        )
        await until(lambda: memory.status.points == 2, "the two that can be embedded")
        status = await settled(memory)
        assert (status.state, status.waiting) == ("up", 0)
        assert await memory.recall("poison") == [] and memory.status.state == "up"
    assert actions(caplog) == ["memory_refused"]
    scripted.reset()
    async with opened(here(tmp_path, embeddings=f"{scripted.base_url}#m")) as memory:
        assert (await settled(memory)).points == 3, "it was kept, and is tried at the next start"


async def test_a_model_that_refuses_every_text_is_a_memory_that_is_down(tmp_path):
    class Refusing(LocalEmbeddings):
        def __init__(self) -> None:
            self.refuses = False

        async def embed(self, texts: Any) -> list[list[float]]:
            if self.refuses:
                raise ModelRefused("no embeddings today")
            return await super().embed(texts)

    embeddings = Refusing()
    async with opened(here(tmp_path), embeddings=embeddings) as memory:
        await settled(memory)
        embeddings.refuses = True
        await memory.remember("failure", REVERSE, "x", id="1")
        await until(lambda: memory.status.state == "down", "the refusal to be noticed")
        assert memory.status.reason == "no embeddings today"
        embeddings.refuses = False
        await until(lambda: memory.status.points == 1, "the note")
