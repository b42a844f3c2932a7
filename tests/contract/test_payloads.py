"""What records carry: keys, values and headers come as they were sent, byte for byte."""

import time
from typing import Any

import pytest

from tests.contract.brokers import Broker

#: Just under what Faust's producers send at most.
LARGE = 900_000


async def sent_and_taken(
    broker: Broker, topic: str, group: str, *records: dict[str, Any]
) -> list[Any]:
    """`records` after their way through one partition."""
    await broker.write(topic, [{"partition": 0, **record} for record in records])
    async with broker.reading(topic, group) as reader:
        return list(await reader.take(len(records)))


@pytest.mark.parametrize(
    "value",
    [b"", b"\x00\xff\xfe not text", "ein schöner Tag, 日本".encode(), b"\n", b"null"],
    ids=["empty", "not text", "unicode", "newline", "null"],
)
async def test_bytes_arrive_as_they_were_sent(
    broker: Broker, topic: str, group: str, value: bytes
) -> None:
    (event,) = await sent_and_taken(broker, topic, group, {"key": b"k" + value, "value": value})
    assert (event.message.key, event.message.value) == (b"k" + value, value)
    assert (event.key, event.value) == (b"k" + value, value)


async def test_an_empty_value_is_no_tombstone(broker: Broker, topic: str, group: str) -> None:
    events = await sent_and_taken(
        broker,
        topic,
        group,
        {"key": b"k", "value": b""},
        {"key": b"k", "value": None},
        {"key": b"k", "value": b"-"},
    )
    assert [event.message.value for event in events] == [b"", None, b"-"]
    assert [event.message.key for event in events] == [b"k"] * 3


async def test_a_record_without_a_key_has_none(broker: Broker, topic: str, group: str) -> None:
    events = await sent_and_taken(
        broker, topic, group, {"key": None, "value": b"-"}, {"key": b"", "value": b"-"}
    )
    assert [event.message.key for event in events] == [None, b""]


async def test_a_record_without_a_key_reaches_some_partition(
    broker: Broker, topic: str, group: str
) -> None:
    await broker.write(topic, [{"key": None, "value": b"%d" % n} for n in range(20)])
    async with broker.reading(topic, group) as reader:
        events = await reader.take(20)
    assert {event.value for event in events} == {b"%d" % n for n in range(20)}


async def test_headers_arrive_as_they_were_sent(broker: Broker, topic: str, group: str) -> None:
    some = {"trace": b"\x00\x01", "empty": b"", "schöner Name": "日本".encode()}
    with_some, with_none = await sent_and_taken(
        broker,
        topic,
        group,
        {"key": b"k", "value": b"-", "headers": some},
        {"key": b"k", "value": b"-"},
    )
    assert dict(with_some.message.headers) == some
    assert with_some.headers == some
    assert not with_none.headers


async def test_a_header_may_be_there_twice(broker: Broker, topic: str, group: str) -> None:
    pairs = [("step", b"1"), ("step", b"2")]
    (event,) = await sent_and_taken(
        broker, topic, group, {"key": b"k", "value": b"-", "headers": pairs}
    )
    assert list(event.message.headers) == pairs


async def test_large_values_arrive_whole(broker: Broker, topic: str, group: str) -> None:
    large = [bytes([65 + n]) * LARGE for n in range(3)]
    events = await sent_and_taken(
        broker, topic, group, *({"key": b"k", "value": value} for value in large)
    )
    # Compared one by one: pytest would print them.
    assert all(event.value == value for event, value in zip(events, large, strict=True))


async def test_a_record_keeps_the_time_that_its_producer_gave_it(
    broker: Broker, topic: str, group: str
) -> None:
    before = time.time()
    given, now = await sent_and_taken(
        broker,
        topic,
        group,
        {"key": b"k", "value": b"-", "timestamp": 1_700_000_000.125},
        {"key": b"k", "value": b"-"},
    )
    assert given.message.timestamp == pytest.approx(1_700_000_000.125, abs=0.001)
    # Brokers keep milliseconds.
    assert before - 0.001 <= now.message.timestamp <= time.time()
