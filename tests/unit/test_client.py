"""The client: begin runs, follow and read them, from a process that is not the worker."""

import asyncio
import contextlib
import dataclasses
import pathlib
import uuid
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from penstock.broker.contract import Row
from penstock.broker.embedded.broker import EmbeddedBroker
from penstock.broker.embedded.store import Store
from penstock.client import Client
from penstock.errors import (
    BrokerUnavailable,
    ChainError,
    EventTooLarge,
    MalformedEvent,
    NotFound,
    ProjectError,
    RunBegunBefore,
    SettingsError,
    StepFailed,
)
from penstock.record import dead_letters, events
from penstock.record.events import Event, derive_id
from penstock.runs.runs import CANCELLED, DONE, RUNNING
from penstock.settings import Settings
from tests.unit.conftest import CHAIN, make_project, messages

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    make_project(tmp_path / "project")
    return Settings(project=tmp_path / "project", data=tmp_path / "data", partitions=2)


@pytest.fixture
def with_client(settings: Settings) -> Callable[..., None]:
    """Runs an async function with a client of the project."""

    def run(body: Callable[[Client], Any]) -> None:
        async def main() -> None:
            async with Client(settings) as client:
                await body(client)

        asyncio.run(main())

    return run


def store_of(client: Client) -> Store:
    assert isinstance(client.broker, EmbeddedBroker)
    return client.broker.store


def records(store: Store, topic: str = "idea") -> list[Event]:
    return [
        events.load(message.value)
        for partition in range(store.partitions(topic) or 0)
        for message in messages(store, topic, partition)
    ]


class Worker:
    """Somebody who finishes steps, on connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self.store = Store(settings.database)

    def step(self, reader: str, topic: str, onto: str | None, trace_id: str) -> None:
        """`reader` finishes the run's event on `topic`, and makes the one on `onto`."""
        key = trace_id.encode()
        tp = TP(topic, self.store.partition_of(topic, key))
        (message,) = [m for m in messages(self.store, topic, tp.partition) if m.key == key]
        outputs = []
        if onto is not None:
            event = events.load(message.value)
            made = Event(
                id=derive_id(event.id, reader, onto), trace_id=trace_id, pipeline="tale",
                stage=reader, parent_id=event.id, parts={**event.parts, onto: onto.upper()},
                created=event.created + 1,
            )  # fmt: skip
            self.store.create(onto, self.store.partitions(topic) or 0)
            outputs = [(TP(onto, tp.partition), 0, key, events.dump(made))]
        self.store.finish(reader, tp, message.offset, outputs)
        self.store.commit_now()


@contextlib.asynccontextmanager
async def working(settings: Settings, trace_id: str) -> AsyncIterator[Worker]:
    """Inside, somebody takes the run through its stages, one after the other."""
    worker = Worker(settings)

    async def work() -> None:
        for reader, topic, onto in (
            ("tale_teller_idea", "idea", "draft"),
            ("tale_teller_polish_draft", "draft", "text"),
            ("tale_present_text", "text", None),
        ):
            await asyncio.sleep(0)
            worker.step(reader, topic, onto, trace_id)

    task = asyncio.create_task(work())
    yield worker
    await task
    worker.store.close()


def test_a_run_that_was_submitted_stands_on_the_entry_of_its_pipeline(with_client):
    async def body(client: Client) -> None:
        trace_id = await client.submit("tale", {"idea": "a snail"})
        (event,) = records(store_of(client))
        assert (event.trace_id, event.parts) == (trace_id, {"idea": "a snail"})
        run = await client.read(trace_id)
        assert (run.state, [entry.event for entry in run.entries]) == (RUNNING, [event])
        assert str(uuid.UUID(trace_id)) == trace_id

    with_client(body)


def test_a_trace_id_that_was_submitted_before_is_not_begun_again(with_client, settings):
    async def body(client: Client) -> None:
        assert await client.submit("tale", {"idea": "a snail"}, TRACE) == TRACE
        assert await client.submit("tale", {"idea": "a snail"}, TRACE.upper()) == TRACE
        async with Client(settings) as other:
            assert await other.submit("tale", {"idea": "a snail"}, f"{{{TRACE}}}") == TRACE
        assert [event.parts["idea"] for event in records(store_of(client))] == ["a snail"]

    with_client(body)


def test_a_trace_id_that_was_submitted_with_other_content_is_refused(with_client, settings):
    async def body(client: Client) -> None:
        await client.submit("tale", {"idea": "a snail"}, TRACE)
        async with Client(settings) as other:
            with pytest.raises(RunBegunBefore, match=f"run {TRACE} was begun before with other"):
                await other.submit_many("tale", [({"idea": "b"}, None), ({"idea": "c"}, TRACE)])
        assert [event.parts["idea"] for event in records(store_of(client))] == ["a snail"]

    with_client(body)


def test_many_runs_begin_together_or_not_at_all(with_client):
    async def body(client: Client) -> None:
        with pytest.raises(ChainError, match="'idea' is empty"):
            await client.submit_many("tale", [({"idea": "a"}, None), ({"idea": ""}, None)])
        assert records(store_of(client)) == []
        made = await client.submit_many("tale", [({"idea": "a"}, None), ({"idea": "b"}, TRACE)])
        assert made[1] == TRACE
        assert {event.trace_id: event.parts["idea"] for event in records(store_of(client))} == {
            made[0]: "a", TRACE: "b",
        }  # fmt: skip

    with_client(body)


@pytest.mark.parametrize(
    ("pipeline", "parts", "trace_id", "error", "expected"),
    [
        ("tail", {"idea": "x"}, None, ChainError, "Did you mean 'tale'? Pipelines here: tale."),
        ("tale", {}, None, ChainError, "begins with 'idea' (What it is about); found nothing"),
        ("tale", {"idea": "x", "mood": "y"}, None, ChainError, "'tale' has no part 'mood'"),
        ("tale", {"idea": "x"}, "no-uuid", SettingsError, "'no-uuid' is not a trace id"),
        ("tale", {"idea": "x" * 2_000_000}, None, EventTooLarge, "PENSTOCK_MAX_EVENT_BYTES"),
        ("tale", {"idea": object()}, None, MalformedEvent, "what JSON cannot hold"),
    ],
)
def test_what_cannot_begin_is_refused_and_leaves_nothing(
    with_client, pipeline, parts, trace_id, error, expected
):
    async def body(client: Client) -> None:
        with pytest.raises(error) as caught:
            await client.submit(pipeline, parts, trace_id)
        assert expected in caught.value.message
        assert records(store_of(client)) == []

    with_client(body)


def test_a_project_with_problems_takes_no_runs(settings, tmp_path):
    make_project(tmp_path / "project", CHAIN.replace("agent: teller,", "agent: tellr,"))

    async def main() -> None:
        async with Client(settings) as client:
            with pytest.raises(ProjectError, match=r"tellr\.md is missing"):
                await client.submit("tale", {"idea": "x"})

    asyncio.run(main())


def test_a_topic_gets_as_many_partitions_as_its_pipelines_others_have(with_client, settings):
    worker = Store(settings.database)
    worker.create("text", 7)
    worker.close()

    async def body(client: Client) -> None:
        await client.submit("tale", {"idea": "x"})
        assert store_of(client).topics() == {"idea": 7, "text": 7}

    with_client(body)


def test_a_new_file_gets_the_settings_partitions(with_client):
    async def body(client: Client) -> None:
        await client.submit("tale", {"idea": "x"})
        assert store_of(client).topics() == {"idea": 2}

    with_client(body)


def test_following_gives_each_event_once_as_it_is_made_until_the_run_is_over(with_client, settings):
    async def body(client: Client) -> None:
        trace_id = await client.submit("tale", {"idea": "a snail"})
        topics = []
        async with working(settings, trace_id):
            async for entry in client.follow(trace_id):
                topics.append(entry.topic)
        assert topics == ["idea", "draft", "text"]
        run = await client.read(trace_id)
        assert (run.state, run.answer) == (DONE, "TEXT")

    with_client(body)


def test_waiting_gives_the_run_once_it_is_over(with_client, settings):
    async def body(client: Client) -> None:
        trace_id = await client.submit("tale", {"idea": "a snail"})
        waiting = asyncio.create_task(client.wait(trace_id))
        async with working(settings, trace_id):
            run = await waiting
        assert (run.state, run.answer) == (DONE, "TEXT")

    with_client(body)


def test_many_may_be_followed_and_read_at_the_same_time(with_client, settings):
    async def body(client: Client) -> None:
        runs: list[tuple[dict[str, Any], str | None]] = [
            ({"idea": str(number)}, None) for number in range(8)
        ]
        ids = await client.submit_many("tale", runs)
        found = await asyncio.gather(*(client.read(trace_id) for trace_id in ids))
        assert [run.entries[0].event.parts["idea"] for run in found] == list("01234567")

    with_client(body)


@pytest.mark.parametrize(
    ("trace_id", "error", "expected"),
    [
        ("not-a-uuid", SettingsError, "'not-a-uuid' is not a trace id: it is a UUID"),
        (TRACE, NotFound, f"there is no run {TRACE}"),
    ],
)
def test_what_is_not_there_cannot_be_read_or_followed(with_client, trace_id, error, expected):
    async def body(client: Client) -> None:
        with pytest.raises(error, match=expected):
            await client.read(trace_id)
        with pytest.raises(error, match=expected):
            await client.wait(trace_id)
        with pytest.raises(error, match=expected):
            await client.rerun(trace_id, "draft")

    with_client(body)


def test_a_rerun_goes_on_from_an_event_as_a_run_of_its_own(with_client, settings):
    async def body(client: Client) -> None:
        trace_id = await client.submit("tale", {"idea": "a snail"})
        async with working(settings, trace_id):
            old = await client.wait(trace_id)
        fork = await client.rerun(trace_id, "draft")
        run = await client.read(fork)
        (entry,) = run.entries
        assert fork != trace_id and run.state == RUNNING
        assert (entry.topic, entry.waits_for) == ("draft", ("tale_teller_polish_draft",))
        assert (entry.event.forked_from, entry.event.parent_id) == (trace_id, None)
        assert entry.event.parts == old.entries[1].event.parts
        assert entry.event.id != old.entries[1].event.id
        assert (await client.read(trace_id)) == old, "the old run is as it was"
        assert await client.rerun(trace_id, "draft") != fork

    with_client(body)


def test_a_rerun_from_where_the_run_never_was_names_where_it_was(with_client):
    async def body(client: Client) -> None:
        trace_id = await client.submit("tale", {"idea": "a snail"})
        with pytest.raises(NotFound) as caught:
            await client.rerun(trace_id, "text")
        assert caught.value.message == (
            f"run {trace_id} has no event on 'text'; it has some on idea"
        )

    with_client(body)


def test_whether_a_worker_runs_is_seen(with_client, settings):
    async def body(client: Client) -> None:
        assert not client.worker_running()
        worker = Store(settings.database)
        worker.lock.take()
        assert client.worker_running()
        worker.close()
        assert not client.worker_running()

    with_client(body)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(BrokerUnavailable, match=r"data/penstock\.db: cannot be opened"):
        Client(Settings(project=make_project(tmp_path / "project"), data=tmp_path / "data"))


def test_what_waits_for_a_stage_that_is_gone_is_read_and_can_be_ended(with_client, settings):
    async def body(client: Client) -> None:
        trace_ids = await client.submit_many("tale", [({"idea": text}, None) for text in "ab"])
        edited = dataclasses.replace(client.project, chains={})
        async with Client(settings, edited) as other:
            (one,) = other.unread()
            assert (one.topic, one.stages, one.count) == ("idea", ("tale_teller_idea",), 2)
            run = await other.read(trace_ids[0])
            assert (run.state, run.entries[0].waits_for) == (RUNNING, one.stages)
            assert (await other.cancel(trace_ids[0])).state == CANCELLED
            assert other.unread() == [dataclasses.replace(one, count=1)]
            assert await other.cancel_unread("idea") == trace_ids[1:]
            assert (await other.read(trace_ids[1])).state == CANCELLED
            assert other.unread() == []
            with pytest.raises(NotFound, match=r"nothing waits on 'idea'.* does: none"):
                await other.cancel_unread("idea")

    with_client(body)


def test_a_replay_for_a_stage_that_is_gone_is_refused_with_the_way_out(with_client):
    async def body(client: Client) -> None:
        event = events.first_event("tale", {"idea": "a snail"})
        record = SimpleNamespace(
            topic="idea", partition=0, offset=0, key=event.key, value=events.dump(event)
        )
        dead_letter = dead_letters.write("tale", "teller", record, event, StepFailed("no"), 1)
        row = Row("penstock-dead-letters", event.key, dead_letters.dump(dead_letter))
        client.broker.append([row])
        with pytest.raises(MalformedEvent, match=r"no stage 'teller' reads 'idea'.*name: teller"):
            await client.replay(dead_letter.id)
        assert client.dead_letters() == [dead_letter]

    with_client(body)
