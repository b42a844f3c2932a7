"""Topics as they stand on Kafka: the id of each, and its number of partitions.

A topic that was deleted and made anew under its name has another id. aiokafka asks for metadata in
versions that know no ids, and so that many brokers make a topic because somebody asks for it.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, ClassVar, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v4
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

#: The bytes of an id, and the one that stands for none.
ID_BYTES = 16
NO_ID = bytes(ID_BYTES)


class Standing(NamedTuple):
    """A topic that exists. `id` is "" where the broker knows no ids (Kafka before 2.8)."""

    id: str
    partitions: int


class Asker:
    """Asks for topics again and again, over one connection."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._admin: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def standing(self, names: Iterable[str]) -> dict[str, Standing]:
        """Return those of `names` that exist, and make none. Raises `KafkaError`."""
        async with self._one_at_a_time:
            try:
                if self._admin is None:
                    self._admin = AIOKafkaAdminClient(**self._connection)
                    await self._admin.start()
                return await standing(self._admin, names)
            except KafkaError:
                await self.close()
                raise

    async def close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            with contextlib.suppress(KafkaError):
                await admin.close()


async def standing(admin: Any, names: Iterable[str]) -> dict[str, Standing]:
    """Return those of `names` that exist, and make none. Raises `KafkaError`."""
    answer = await admin._send_request(_Metadata(list(names)))
    found = {}
    for code, name, *rest in answer.topics:
        if code == 0:
            id_ = rest[0].hex() if isinstance(answer, _MetadataResponse) else ""
            found[name] = Standing(id_, len(rest[2 if id_ else 1]))
    return found


class _Id(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(ID_BYTES)


_text = CompactString("utf-8")


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _text),
                ("port", Int32),
                ("rack", _text),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _text),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _text),
                ("topic_id", _Id),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Id), ("name", _text), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[MetadataRequest_v4 | _MetadataRequest]):  # type: ignore[misc]
    API_KEY: ClassVar[int] = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is MetadataRequest_v4:
            return MetadataRequest_v4(self._names, False)
        topics: list[Any] = [(NO_ID, name, {}) for name in self._names]
        return _MetadataRequest(topics, False, False, False, {})
