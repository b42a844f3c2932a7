"""Topics on Kafka: make them before the group is joined, check those that exist, trim them.

Faust declares no topic that agents read, and ignores one that is missing for ever.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from faust.types import TP

from penstock.broker.contract import Plan
from penstock.broker.kafka.delivery import Tracker
from penstock.broker.kafka.sending import AROUND, record_bytes
from penstock.broker.kafka.standing import standing
from penstock.errors import BrokerUnavailable, ChainError, SettingsError

log = logging.getLogger(__name__)

#: Seconds in which all brokers of a cluster learn of a topic that one has just made.
SPREAD_S = 30.0

#: Kafka must not delete by age what is not finished: Penstock deletes what is, see `trim`.
EVENTS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
#: Only closed segments are compacted, so small ones keep the start of a worker short.
JOURNAL = {
    "cleanup.policy": "compact",
    "segment.bytes": str(8 * 1024 * 1024),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": str(60 * 1000),
    "max.message.bytes": str(64 * 1024 * 1024),
}


async def declare(
    connection: Mapping[str, Any],
    topics: Sequence[str],
    journal: str,
    partitions: int,
    replication: int,
    max_event_bytes: int,
) -> list[str]:
    """Make those of `topics` and the journal's that are missing, with as many partitions as the
    others have. Returns what is wrong with the existing ones, in sentences.

    Raises `ChainError` when topics have unequal numbers of partitions, `BrokerUnavailable` when
    Kafka refuses to make one, `SettingsError` when it does not let this user make it, `KafkaError`
    when it does not answer.
    """
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        wanted = [*topics, journal]
        counts = await _counts(admin, wanted)
        if wrong := unequal(counts):
            raise ChainError(wrong)
        partitions = next(iter(counts.values()), partitions)
        size = {"max.message.bytes": str(record_bytes(max_event_bytes))}
        new = [
            NewTopic(
                name,
                partitions,
                replication,
                topic_configs=JOURNAL if name == journal else EVENTS | size,
            )
            for name in wanted
            if name not in counts
        ]
        if new:
            await _create(admin, new)
        old = [name for name in wanted if name in counts]
        differ = await _differences(admin, old, journal, max_event_bytes)
        deadline = time.monotonic() + SPREAD_S
        while len(await _counts(admin, wanted)) < len(wanted):
            if time.monotonic() > deadline:
                raise BrokerUnavailable("Kafka has made topics, and does not know them yet")
            await asyncio.sleep(0.05)
        return differ
    finally:
        await admin.close()


async def require_equal(connection: Mapping[str, Any], topics: Sequence[str], journal: str) -> None:
    """Check that the existing topics have equal numbers of partitions. Raises `ChainError` when
    they have not, and `KafkaError` when Kafka does not answer."""
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        if wrong := unequal(await _counts(admin, [*topics, journal])):
            raise ChainError(wrong)
    finally:
        await admin.close()


async def require_group(connection: Mapping[str, Any], group: str) -> None:
    """Check that this user may join `group`: a client that may not would ask for ever. Raises
    `SettingsError` when it may not, and `KafkaError` when Kafka does not answer."""
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        await admin.find_coordinator(group)
    except GroupAuthorizationFailedError as exc:
        raise SettingsError(
            f"Kafka does not let this user into the group '{group}', which PENSTOCK_APP_ID names."
            " It needs the right to read it"
        ) from exc
    except CoordinatorNotAvailableError:
        pass  # a new Kafka, which makes what it keeps groups in first
    finally:
        await admin.close()


async def examine(
    connection: Mapping[str, Any], topics: Sequence[str], journal: str, max_event_bytes: int
) -> list[str]:
    """Return what is wrong with the existing topics, in sentences; make none. Raises `KafkaError`
    when Kafka does not answer."""
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        counts = await _counts(admin, [*topics, journal])
        wrong = unequal(counts)
        differ = await _differences(admin, list(counts), journal, max_event_bytes)
        return [*([wrong] if wrong else []), *differ]
    finally:
        await admin.close()


def unequal(counts: Mapping[str, int]) -> str | None:
    """Return what is wrong with topics of unequal numbers of partitions, None with equal ones."""
    if len(set(counts.values())) <= 1:
        return None
    listed = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
    return (
        f"the topics on Kafka have unequal partition counts ({listed}), so a run would not stay in"
        " one partition. Give them equal ones (kafka-topics.sh --alter), or rename those that"
        " differ."
    )


async def _counts(admin: Any, names: Iterable[str]) -> dict[str, int]:
    """Return the number of partitions of each that exists."""
    return {name: found.partitions for name, found in (await standing(admin, names)).items()}


async def _create(admin: Any, new: list[NewTopic]) -> None:
    response = await admin.create_topics(new)
    for name, code, *reason in response.topic_errors:
        if code == TopicAuthorizationFailedError.errno:
            raise SettingsError(
                f"Kafka does not let this user make the topic '{name}'. If it is there, the user"
                " needs the right to describe, read and write it"
            )
        if code not in (0, TopicAlreadyExistsError.errno):
            raise BrokerUnavailable(
                f"Kafka refuses to make the topic '{name}': {for_code(code).__name__}"
                f" {reason[0] or '' if reason else ''}. Make it yourself, or mend the setting"
                " (PENSTOCK_PARTITIONS, PENSTOCK_REPLICATION)."
            )
    log.info("Kafka: made the topics %s", ", ".join(one.name for one in new))


async def _differences(
    admin: Any, names: list[str], journal: str, max_event_bytes: int
) -> list[str]:
    """Return the settings of topics made by others that would lose events, delete nothing or refuse
    what is no larger than an event may be."""
    if not names:
        return []
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = []
    for response in await admin.describe_configs(resources):
        for _, _, _, name, entries in response.resources:
            values = {entry[0]: entry[1] for entry in entries}
            wanted = JOURNAL if name == journal else EVENTS
            for key in ("cleanup.policy", "retention.ms", "retention.bytes"):
                if key in wanted and values.get(key, wanted[key]) != wanted[key]:
                    found.append(
                        f"the topic '{name}' has {key}={values[key]}, not {wanted[key]}:"
                        + (
                            " it would grow for ever"
                            if name == journal
                            else _loses(key, values[key])
                        )
                    )
            limit = int(values.get("max.message.bytes", max_event_bytes + AROUND))
            if limit < max_event_bytes + AROUND:
                found.append(
                    f"the topic '{name}' has max.message.bytes={limit}, and an event may have"
                    f" {max_event_bytes} (PENSTOCK_MAX_EVENT_BYTES): a larger one becomes a dead"
                    f" letter. Give it {record_bytes(max_event_bytes)} (kafka-configs.sh --alter)"
                )
    return found


def _loses(key: str, value: str) -> str:
    if key == "cleanup.policy" and "compact" in value:
        return " Kafka deletes all events of a run but the last, finished or not"
    return " Kafka may delete events that are not finished"


def finished(plan: Plan, trackers: Mapping[TP, Tracker]) -> dict[str, dict[int, int | None]]:
    """Return the offset below which each partition holds nothing that is still to be done, by the
    group's commits; None for all of a topic that no stage reads, in a worker's own partitions."""
    names = [name for pipeline in plan.pipelines for name in pipeline.topics]
    unread = [*(name for name in names if name not in plan.readers), plan.steps]
    topics: dict[str, dict[int, int | None]] = {}
    for tp, tracker in trackers.items():
        if tracker.committed is None:
            continue
        if tp.topic == plan.cancels or tp.topic in plan.readers:
            topics.setdefault(tp.topic, {})[tp.partition] = tracker.committed
        if tp.topic in plan.readers:
            for name in unread:
                topics.setdefault(name, {})[tp.partition] = None
    return topics


async def trim(
    connection: Mapping[str, Any], topics: Mapping[str, Mapping[int, int | None]], before_s: float
) -> int:
    """Delete what is older than `before_s` (seconds since 1970) from the beginning of each
    partition of `topics`, up to the offset that is given for it (None: to the end). Returns how
    many records that were. Raises `KafkaError`."""
    consumer = AIOKafkaConsumer(**connection, enable_auto_commit=False)
    admin = AIOKafkaAdminClient(**connection)
    try:
        await consumer.start()
        await admin.start()
        tps = [TopicPartition(name, part) for name, parts in topics.items() for part in parts]
        if not tps:
            return 0
        young = await consumer.offsets_for_times({tp: int(before_s * 1000) for tp in tps})
        ends = await consumer.end_offsets(tps)
        firsts = await consumer.beginning_offsets(tps)
        upto = {}
        for tp in tps:
            found = young.get(tp)
            offset = ends[tp] if found is None else found.offset
            limit = topics[tp.topic][tp.partition]
            offset = offset if limit is None else min(offset, limit)
            if offset > firsts[tp]:
                upto[tp] = offset
        if upto:
            await admin.delete_records(
                {tp: RecordsToDelete(before_offset=offset) for tp, offset in upto.items()}
            )
        return sum(offset - firsts[tp] for tp, offset in upto.items())
    finally:
        await consumer.stop()
        await admin.close()
