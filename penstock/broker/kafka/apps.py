"""Other apps of Penstock on the same Kafka: what two of them work on, both do and both pay for."""

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError

from penstock.broker.kafka.records import journal_of
from penstock.broker.kafka.standing import standing
from penstock.errors import SettingsError


async def require_alone(
    connection: Mapping[str, Any], app_id: str, topics: Collection[str]
) -> None:
    """Check that no other app of Penstock works on `topics`. Other groups may read them. Raises
    `SettingsError` when one does, and `KafkaError` when Kafka does not answer."""
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        groups = {group for group, *_ in await admin.list_consumer_groups()} - {app_id}
        apps = {journal_of(group): group for group in groups}
        tps = [
            TopicPartition(topic, partition)
            for topic, one in (await standing(admin, topics)).items()
            for partition in range(one.partitions)
        ]
        for journal in await standing(admin, apps):
            try:
                offsets = await admin.list_consumer_group_offsets(apps[journal], partitions=tps)
            except GroupAuthorizationFailedError:
                continue  # its positions are not ours to see
            if shared := sorted({tp.topic for tp, one in offsets.items() if one.offset >= 0}):
                raise SettingsError(_said(apps[journal], shared))
    finally:
        await admin.close()


def _said(other: str, topics: list[str]) -> str:
    names = ", ".join(f"'{name}'" for name in topics)
    return (
        f"another Penstock app, '{other}', works on {names} on this Kafka: both would do and pay"
        f" for every event. Give this app topics of its own (PENSTOCK_TOPIC_PREFIX), or let it"
        f" share the work (PENSTOCK_APP_ID={other}). If both are meant to do all of it:"
        f" PENSTOCK_SHARED_TOPICS=on. If '{other}' is no more, delete its group"
        f" (kafka-consumer-groups.sh --delete --group {other})"
    )
