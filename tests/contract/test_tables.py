"""A Faust table is as it was after a restart: it recovers from its changelog topic."""

import asyncio
from collections.abc import Mapping
from typing import Any

from tests.contract.brokers import PARTITIONS, PATIENCE_S, Broker, raw_topic, started


def keeping_app(broker: Broker, group: str, topic: str) -> Any:
    """An app that keeps the last value of each key in a table, and drops it at a tombstone."""
    app = broker.app(group)
    table = app.Table("kept", key_type=str, value_type=str, partitions=PARTITIONS)

    @app.agent(raw_topic(app, topic))
    async def keep(stream: Any) -> None:
        async for event in stream.events():
            key = event.message.key.decode()
            if event.message.value is None:
                table.pop(key, None)
            else:
                table[key] = event.message.value.decode()

    return app


async def filled(app: Any, expected: Mapping[str, str]) -> None:
    """The app has run until its table was as expected."""
    async with started(app), asyncio.timeout(PATIENCE_S):
        while dict(app.tables["kept"].items()) != expected:
            await asyncio.sleep(0.01)


async def recovered(app: Any) -> Mapping[str, str]:
    """The app's table as it is when the app has started."""
    async with started(app):
        return dict(app.tables["kept"].items())


async def test_a_table_recovers_from_its_changelog(broker: Broker, topic: str, group: str) -> None:
    expected = {f"key {n}": f"value {n}" for n in range(40)}
    await broker.write(
        topic, [{"key": k.encode(), "value": v.encode()} for k, v in expected.items()]
    )
    await filled(keeping_app(broker, group, topic), expected)
    assert await recovered(keeping_app(broker, group, topic)) == expected
    # What is set after a recovery is kept beside what was recovered.
    await broker.write(topic, [{"key": b"key 1", "value": b"again"}])
    expected["key 1"] = "again"
    await filled(keeping_app(broker, group, topic), expected)


async def test_a_table_recovers_the_last_word_on_each_key(
    broker: Broker, topic: str, group: str
) -> None:
    often: list[dict[str, Any]] = [{"key": b"often", "value": b"%d" % n} for n in range(50)]
    dropped: list[dict[str, Any]] = [
        {"key": b"dropped", "value": b"1"},
        {"key": b"dropped", "value": None},
    ]
    again: list[dict[str, Any]] = [*dropped, {"key": b"again", "value": b"2"}]
    last: dict[str, Any] = {"key": b"last", "value": b"3"}
    await broker.write(
        topic, [{"partition": 0, **record} for record in (*often, *dropped, *again, last)]
    )
    expected = {"often": "49", "again": "2", "last": "3"}
    await filled(keeping_app(broker, group, topic), expected)
    assert await recovered(keeping_app(broker, group, topic)) == expected


async def test_an_app_that_recovers_a_table_is_given_everything_that_waits_for_it(
    broker: Broker, topic: str, group: str
) -> None:
    records = [{"key": b"k", "value": b"%d" % n, "partition": n % PARTITIONS} for n in range(40)]
    for _ in range(2):  # the first time the table is empty, and nothing is acked
        await broker.write(topic, records)
        async with broker.reading(topic, group, table="kept") as reader:
            events = await reader.take_all()
        assert {event.value for event in events} == {b"%d" % n for n in range(40)}
