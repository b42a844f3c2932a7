"""Retention, as far as the broker has it itself."""

import asyncio
import time
from typing import Any

import faust
import pytest
from faust.types import TP

from penstock.broker.contract import Pipeline, Plan
from penstock.broker.embedded.retention import delete_finished
from penstock.broker.embedded.transport import Transport
from tests.contract.brokers import PATIENCE_S, Broker, location, raw_topic, started, values


@pytest.fixture(autouse=True)
def _embedded_only(broker: Broker) -> None:
    if not broker.embedded:
        pytest.skip("Kafka deletes by itself, as its own settings say, and the mock cluster never")


async def deleted(app: faust.App, name: str) -> int:
    """How many records of finished runs have gone now; every record is old enough."""
    transport = app.transport
    assert isinstance(transport, Transport)
    await transport.store.flush()  # what was acked counts
    plan = Plan("group", (Pipeline("one", "one.yaml", (name,)),), {name: ("",)})
    return delete_finished(transport.store, plan, time.time() + 60)


async def test_offsets_go_on_after_records_were_deleted(
    broker: Broker, topic: str, group: str
) -> None:
    records = [{"key": b"k", "value": b"%d" % n, "partition": 0} for n in range(6)]
    await broker.write(topic, records)
    app = broker.app(group)

    @app.agent(raw_topic(app, topic))
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with started(app), asyncio.timeout(PATIENCE_S):
        # All of one key, so one run: none goes before all are acked.
        while (count := await deleted(app, topic)) == 0:
            await asyncio.sleep(0.01)
    assert count == 6
    # Never given out again: an old offset would be taken for done.
    (sent,) = await broker.write(topic, [{"key": b"k", "value": b"new", "partition": 0}])
    assert sent.offset == 6
    async with broker.reading(topic, group) as reader:
        again = await reader.take_all()
    assert [(event.value, location(event)) for event in again] == [(b"new", (0, 6))]


async def test_a_record_that_was_not_acked_is_not_deleted(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(
        topic, [{"key": b"key %d" % n, "value": b"%d" % n, "partition": 0} for n in range(6)]
    )
    async with broker.reading(topic, group) as reader:
        for event in await reader.take(6):
            if event.value not in (b"2", b"4"):
                event.ack()
        assert await deleted(reader.app, topic) == 4
    async with broker.reading(topic, group) as reader:
        assert values(await reader.take_all()) == [b"2", b"4"]
        assert reader.app.consumer.highwater(TP(topic, 0)) == 8
