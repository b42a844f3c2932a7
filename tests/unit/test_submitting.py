"""Submitting: the first event of a run, from inside the worker, once."""

import asyncio
import pathlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.utils.urls import urllist

from penstock.broker.contract import Location, Plan
from penstock.broker.embedded.membership import SoleWorker
from penstock.errors import EventTooLarge, MalformedEvent, RunBegunBefore
from penstock.record import events
from penstock.record.beginnings import encode
from penstock.record.events import Event, first_event
from penstock.settings import Settings
from penstock.signals import Signals
from tests.unit.conftest import messages, until

TRACE = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Nobody:
    """The stages of a worker that has none."""

    def on_seek(self) -> None:
        pass


def house(settings: Settings) -> SoleWorker:
    """The worker of the settings' file; nothing runs."""
    worker = SoleWorker(settings, Plan("penstock"), Signals())
    app = SimpleNamespace(conf=SimpleNamespace(broker_consumer=urllist(settings.broker_url)))
    worker.attach(cast(Any, app), cast(Any, Nobody()))
    return worker


async def begin(worker: SoleWorker, event: Event, **options: Any) -> Location | None:
    return await worker.begin("idea", event.id, event.key, events.dump(event), **options)


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    return Settings(data=tmp_path / "50%41 #;?")


def test_the_worker_opens_the_file_that_the_settings_name_whatever_its_folder(settings):
    store = house(settings).store
    assert store.path == settings.database
    assert settings.database.is_file()
    store.close()


def test_an_event_is_encoded_as_it_is_read_again():
    event = first_event("tale", {"idea": {"hero": "Ein Frosch 🐸"}})
    assert events.load(encode(event, Settings())) == event


def test_an_event_that_is_too_large_is_refused_with_both_sizes_and_the_way_out():
    event = first_event("tale", {"idea": "x" * 2000}, TRACE)
    size = len(events.dump(event))
    with pytest.raises(EventTooLarge) as caught:
        encode(event, Settings(max_event_bytes=size - 1))
    assert caught.value.message == (
        f"the run's first event has {size} bytes; the largest is {size - 1}."
        " Begin with less, or raise PENSTOCK_MAX_EVENT_BYTES."
    )
    assert len(encode(event, Settings(max_event_bytes=size))) == size


@pytest.mark.parametrize("part", [object(), {("a",): 1}, "\ud800"])
def test_what_json_cannot_hold_is_refused_as_a_mistake_of_the_caller(part):
    with pytest.raises(MalformedEvent, match="the run's parts hold what JSON cannot hold: "):
        encode(first_event("tale", {"idea": part}), Settings())


def test_a_run_begins_once_and_is_refused_with_other_content(settings):
    async def main() -> None:
        worker = house(settings)
        store = worker.store
        store.create("idea", 4)
        store.start(asyncio.get_running_loop())
        event = first_event("tale", {"idea": "a snail", "mood": "x"}, TRACE)
        partition = store.partition_of("idea", TRACE.encode())
        assert await begin(worker, event) == (partition, 0)
        assert await begin(worker, event) is None
        later = first_event("tale", {"mood": "x", "idea": "a snail"}, TRACE)
        assert await begin(worker, later) is None, "the same content at another time"
        with pytest.raises(RunBegunBefore, match=f"run {TRACE} was begun before with other parts"):
            await begin(worker, first_event("tale", {"idea": "a whale"}, TRACE))
        (message,) = messages(store, "idea", partition)
        assert (message.key, events.load(message.value)) == (TRACE.encode(), event)
        await store.flush()
        store.close()

    asyncio.run(main())


def test_who_is_cancelled_while_it_begins_a_run_disturbs_nobody(settings, caplog):
    async def main() -> None:
        worker = house(settings)
        store = worker.store
        store.create("idea", 1)
        store.start(asyncio.get_running_loop())
        with store.writer.connection_lock:
            leaving = asyncio.create_task(begin(worker, first_event("tale", {"idea": "x"})))
            await until(lambda: store._busy and not store._open)
            leaving.cancel()
            await asyncio.wait([leaving])
        assert await begin(worker, first_event("tale", {"idea": "y"}))
        assert len(messages(store, "idea")) == 2
        await store.flush()
        store.close()

    asyncio.run(main())
    assert caplog.records == []
