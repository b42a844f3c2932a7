"""Sending: to Kafka, together where it takes that, and with a word on what it never takes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from penstock.errors import EventTooLarge

#: A record to send: topic, key, value, and the partition unless the key decides.
Send = tuple[str, bytes, bytes | None, int | None]
#: How Kafka and its driver refuse a record for its size.
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
#: Bytes of a batch around a record of ours and its key.
AROUND = 300


def record_bytes(max_event_bytes: int) -> int:
    """Return how large a record of ours can be: a dead letter holds its event as text in JSON,
    which can double it."""
    return 2 * max_event_bytes + 100_000


async def send(
    producer: Any, records: Sequence[Send], connection: Mapping[str, Any]
) -> Sequence[Any]:
    """Send `records` until Kafka has acknowledged them, those of one partition in their order, and
    return where they stand. Raises `KafkaError`; then some may stand there. Raises `EventTooLarge`
    for what Kafka never takes, with the limit that it is above."""
    for topic, _, _, partition in records:
        if partition is not None and not _knows(producer, topic, partition):
            await producer.client.force_metadata_update()
            if not _knows(producer, topic, partition):
                raise UnknownTopicOrPartitionError(f"{topic}, partition {partition}")
    try:
        sending = [
            await producer.send(topic, value, key, partition)
            for topic, key, value, partition in records
        ]
        sent = await asyncio.gather(*sending, return_exceptions=True)
        for one in sent:
            if isinstance(one, BaseException):
                raise one
        return sent
    except TOO_LARGE:
        # The driver has put them into a batch with others, which may be what is too large.
        return [await _send_alone(producer, record, connection) for record in records]


def _knows(producer: Any, topic: str, partition: int) -> bool:
    """Return whether the topic has the partition, or nothing is known of it yet. A driver that was
    given one that it does not know takes that for a mistake of ours."""
    known = producer.client.cluster.partitions_for_topic(topic)
    return known is None or partition in known


async def _send_alone(producer: Any, record: Send, connection: Mapping[str, Any]) -> Any:
    topic, key, value, partition = record
    size = len(key) + len(value or b"")
    try:
        if size > producer._max_request_size:
            raise MessageSizeTooLargeError()
        await producer.client._wait_on_metadata(topic)
        batch = producer.create_batch()
        batch.append(timestamp=None, key=key, value=value)
        batch.close()
        partition = producer._partition(topic, partition, None, None, key, value)
        return await (await producer.send_batch(batch, topic, partition=partition))
    except TOO_LARGE as exc:
        limits = await max_message_bytes(connection, [topic])
        raise EventTooLarge(_refused(topic, size, limits.get(topic), producer)) from exc


def _refused(topic: str, size: int, limit: int | None, producer: Any) -> str:
    what = f"a record of {size} bytes is too large for the topic '{topic}'"
    if limit is not None and size + AROUND > limit:
        return (
            f"{what}, whose max.message.bytes is {limit}. Raise it (kafka-configs.sh --alter"
            f" --entity-type topics --entity-name {topic} --add-config"
            f" max.message.bytes={size + AROUND}), or let the chain carry less ('carries')"
        )
    return (
        f"{what}: more than {producer._max_request_size} are not sent."
        " PENSTOCK_MAX_EVENT_BYTES sets that, and the topic's max.message.bytes must follow it"
    )


async def max_message_bytes(connection: Mapping[str, Any], topics: Sequence[str]) -> dict[str, int]:
    """Return the largest batch that each of `topics` takes, as far as Kafka says so."""
    admin = AIOKafkaAdminClient(**connection)
    found = {}
    try:
        await admin.start()
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        for response in await admin.describe_configs(resources):
            for _, _, _, name, entries in response.resources:
                for entry in entries:
                    if entry[0] == "max.message.bytes":
                        found[name] = int(entry[1])
    except KafkaError:
        return {}  # it may not say so to this user: the size alone is told then
    finally:
        await admin.close()
    return found
