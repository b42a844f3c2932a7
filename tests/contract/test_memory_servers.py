"""The memory against a Qdrant server that comes and goes, and a provider of embeddings."""

import asyncio
import time
from typing import Any

import pytest

from penstock.errors import ModelRefused
from penstock.memory.embeddings import LocalEmbeddings
from penstock.settings import Settings
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
from tests.servers import QdrantServer

pytestmark = pytest.mark.usefixtures("qdrant_client")


@pytest.fixture
def server(qdrant_server: QdrantServer) -> QdrantServer:
    return qdrant_server


# A server that comes and goes. No registry has Qdrant's binary, so it is tests/servers/qdrant.py.


async def test_a_server_may_start_later_stop_and_start_again(tmp_path, server, caplog):
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
            await client.delete_collection(name)
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


async def test_the_latest_notes_of_a_server_are_those_of_all_workers(tmp_path, server):
    await asyncio.to_thread(server.start)
    one = Settings(data=tmp_path / "one", qdrant_url=server.url, recall_s=PATIENCE_S)
    two = Settings(data=tmp_path / "two", qdrant_url=server.url, recall_s=PATIENCE_S)
    async with opened(one) as first, opened(two) as second:
        await settled(second)
        for number, memory in enumerate((first, second, first)):
            await memory.remember("success", f"task {number}", "x", id=str(number))
            await settled(memory)
        found = await second.latest(["success"], limit=2)
        assert [note.task for note in found] == ["task 2", "task 1"]
        server.stop()
        assert await second.latest() == [] and second.status.state == "down"


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
