"""Reading: what all consumers do with records that cannot be read.

A batch may be damaged, or be packed by a codec that nobody here knows, and its records may have a
form that the driver does not take. aiokafka raises that from its fetch and stays in front of the
batch, so that no consumer gets past it. Here each such record is delivered as `Unreadable`, at its
offset, and what comes after it is read as ever.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.structs import ConsumerRecord

from penstock.record.events import Unreadable

#: A batch that says that it holds more offsets than this is taken for one: what is damaged may be
#: the number itself.
MOST_IN_BATCH = 100_000


class ReadableRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one fetch of a partition, in their order."""

    next_fetch_offset: int

    def __init__(self, tp: Any, records: Any, *args: Any) -> None:
        self._batches = Batches(records)
        super().__init__(tp, self._batches, *args)

    def _unpack_records(self) -> Iterator[Any]:
        while True:
            try:
                yield from super()._unpack_records()
                return
            except Exception as exc:
                # Whatever a driver raises over bytes of other programs: no kind of it is expected.
                reason = f"{type(exc).__name__}: {exc}"
            end = self._batches.end
            if not 0 <= end - self.next_fetch_offset <= MOST_IN_BATCH:
                end = self.next_fetch_offset + 1
            for offset in range(self.next_fetch_offset, end):
                self.next_fetch_offset = offset + 1
                yield self._unreadable(offset, reason)

    def _unreadable(self, offset: int, reason: str) -> Any:
        topic, partition = self._tp
        value = Unreadable(f"the record {topic}/{partition}/{offset} cannot be read: {reason}")
        return ConsumerRecord(topic, partition, offset, 0, 0, None, value, None, -1, -1, ())


class Batches:
    """The batches of one fetch. `end` is the offset after the last one that was taken."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self._is_lost = False
        self.end = -1

    def has_next(self) -> bool:
        return not self._is_lost and bool(self._records.has_next())

    def next_batch(self) -> Any:
        # Where one cannot be taken, it is not known where the next begins: Kafka is asked anew.
        self.end, self._is_lost = -1, True
        batch = self._records.next_batch()
        self.end, self._is_lost = batch.next_offset, False
        return batch


# aiokafka's fetcher finds it by its name, and offers no other way to put one in its place.
fetcher.PartitionRecords = ReadableRecords
