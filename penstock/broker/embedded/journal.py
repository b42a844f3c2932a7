"""The journal on the embedded broker, where the end of a step is one transaction."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from penstock.broker.embedded.store import Store
from penstock.broker.tp import TP
from penstock.journal import Locations, Output


class EmbeddedJournal:
    """`Journal` on an embedded file."""

    def __init__(self, store: Store, steps: str = "penstock-steps") -> None:
        self.store = store
        self.room = store.room
        # Of one partition: one record a commit, whatever runs are in it.
        store.create(steps, 1)
        self._steps = store.part(TP(steps, 0))

    def owns(self, message: Any) -> bool:
        return True

    def is_done(self, stage: str, message: Any) -> bool:
        return self.store.position(stage, message.tp).is_done(message.offset)

    delivered = is_done

    def refuse(self, stage: str, message: Any) -> None:
        pass  # such a run was refused before it was on the topic

    def again(self, stage: str, message: Any) -> None:
        pass  # its position is in the file already

    def recall(self, key: str, message: Any) -> bytes | None:
        step = self.store.entries.get(key[: key.rindex("/")])
        return None if step is None else step.get(key)

    def lease(self) -> None:
        return None  # nobody else can have it: the file is locked

    def record(self, key: str, message: Any, answer: bytes) -> asyncio.Future[None]:
        return self.store.record(key, answer)

    def finish(
        self,
        stage: str,
        message: Any,
        outputs: Sequence[Output],
        step: str | None,
        then: Callable[[Locations], None],
        record: bytes = b"",
    ) -> Awaitable[None] | None:
        store = self.store
        now = int(time.time() * 1000)
        rows = [
            (TP(topic, store.partition_of(topic, key)), now, key, value)
            for topic, key, value in outputs
        ]

        def durable(offsets: list[int]) -> None:
            then([(row[0].partition, offset) for row, offset in zip(rows, offsets, strict=True)])

        if record:
            store.note_step(self._steps, record)
        store.finish(stage, message.tp, message.offset, rows, step, durable)
        return None if self.room.is_set() else _wait(self.room)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
