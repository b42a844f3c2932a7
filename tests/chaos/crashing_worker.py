"""A worker that kills itself: `python -m tests.chaos.crashing_worker worker`, the real program with
`kill -9` built in at one point of an event's life.

PENSTOCK_TEST_CRASH="POINT:N" names the point, one of `POINTS`, and the passage at which it kills.
The last line of the output is then `crash: POINT SECONDS`, the time of the kill. Nothing else
differs: what runs is Penstock's own command line, and the app is not told that it is under test.
"""

import asyncio
import logging.handlers
import os
import pathlib
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from agents import OpenAIChatCompletionsModel

import penstock.__main__
from penstock.broker.embedded.crash_file import FileSuspects as Suspects
from penstock.broker.embedded.store import Store
from penstock.broker.embedded.writer import Batch, Writer
from penstock.broker.kafka.journal import KafkaJournal
from penstock.broker.kafka.records import IDS
from penstock.broker.kafka.transport import Consumer
from penstock.journal import Calls, EmbeddedJournal
from penstock.memory.outbox import Outbox
from penstock.steps.history import History
from tests.programs import read_json_lines

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Crash:
    """Counts the passages of a point, and kills this process."""

    def __init__(self, point: str, at: int) -> None:
        self.point = point
        self.at = at
        self.passed = 0

    def due(self, passing: int = 1) -> bool:
        """So many more have passed; whether the one is among them."""
        before, self.passed = self.passed, self.passed + passing
        return before < self.at <= self.passed

    def die(self) -> None:
        os.write(2, f"\ncrash: {self.point} {time.time()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def count_steps(batch: Batch) -> int:
    """The steps with an output that end in this batch."""
    return len(batch.records) if batch.touched else 0


def before_the_answer(crash: Crash) -> None:
    """The server has the call, by its own log, and has not answered it."""
    ask = OpenAIChatCompletionsModel.get_response
    log = pathlib.Path(os.environ["PENSTOCK_TEST_CALLS"])

    async def get_response(self: Any, *args: Any, **options: Any) -> Any:
        if not crash.due():
            return await ask(self, *args, **options)
        found = UUID.search(str(args))
        assert found is not None
        asked_before = _phases(log, found[0]).count("asked")
        call = asyncio.ensure_future(ask(self, *args, **options))
        while not call.done():
            phases = _phases(log, found[0])
            if phases.count("asked") > asked_before and phases[-1] == "asked":
                crash.die()
            await asyncio.sleep(0)
        crash.at += 1  # the answer was faster than our look: the next call, then
        return await call

    OpenAIChatCompletionsModel.get_response = get_response  # type: ignore[method-assign]


def before_the_answer_on_a_slow_disk(crash: Crash) -> None:
    """As before, with a disk on which a call overtakes the record of the one before it, unless it
    waits for that."""
    write = Writer.write

    def slow(self: Writer, batch: Batch) -> None:
        if batch.enter:
            time.sleep(0.2)
        write(self, batch)

    Writer.write = slow  # type: ignore[method-assign]
    before_the_answer(crash)


def _phases(log: pathlib.Path, trace: str) -> list[str]:
    return [line["phase"] for line in read_json_lines(log) if line["trace"] == trace]


def before_the_record(crash: Crash) -> None:
    record = EmbeddedJournal.record

    def crashing(self: EmbeddedJournal, key: str, message: Any, answer: bytes) -> Any:
        if crash.due():
            crash.die()
        return record(self, key, message, answer)

    EmbeddedJournal.record = crashing  # type: ignore[method-assign]


def after_the_record(crash: Crash) -> None:
    """The answer is in the file; the step goes no further."""
    once = Calls.once

    async def crashing(self: Calls, request: bytes, call: Any) -> bytes:
        answer = await once(self, request, call)
        if self._pending and crash.due():
            await self._pending[-1]
            crash.die()
        return answer

    Calls.once = crashing  # type: ignore[method-assign]


class DyingConnection:
    """The writer's connection, that kills this process before or after one statement."""

    def __init__(self, db: sqlite3.Connection, crash: Crash, at: str, after: bool) -> None:
        self._db, self._crash, self._at, self._after = db, crash, at, after

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if not sql.startswith(self._at):
            return self._db.execute(sql, *args)
        if self._after:
            self._db.execute(sql, *args)
        self._crash.die()
        raise AssertionError("still alive")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def before_the_commit(crash: Crash) -> None:
    write = Writer.write

    def crashing(self: Writer, batch: Batch) -> None:
        if crash.due(count_steps(batch)):
            self.db = DyingConnection(self.db, crash, "commit", after=False)  # type: ignore[assignment]
        write(self, batch)

    Writer.write = crashing  # type: ignore[method-assign]


def before_the_commit_of_a_recorded_answer(crash: Crash) -> None:
    """As before, and the answers were durable before the steps that they end. Nothing that takes
    them away may be in the file before the outputs are."""
    once, write = Calls.once, Writer.write

    async def once_durable(self: Calls, request: bytes, call: Any) -> bytes:
        answer = await once(self, request, call)
        if self._pending:
            await self._pending[-1]
        return answer

    def crashing(self: Writer, batch: Batch) -> None:
        if crash.due(count_steps(batch)):
            self.db = DyingConnection(self.db, crash, "insert into record", after=True)  # type: ignore[assignment]
        write(self, batch)

    Calls.once = once_durable  # type: ignore[method-assign]
    Writer.write = crashing  # type: ignore[method-assign]


def inside_a_batch(crash: Crash) -> None:
    """The outputs of several steps are in the file, uncommitted; their positions are not."""
    write = Writer.write

    def crashing(self: Writer, batch: Batch) -> None:
        if count_steps(batch) > 1 and crash.due(count_steps(batch)):
            # So small a cache spills what is not committed into the file.
            self.db.execute("pragma cache_size = 1")
            self.db = DyingConnection(self.db, crash, "insert into record", after=True)  # type: ignore[assignment]
        write(self, batch)

    Writer.write = crashing  # type: ignore[method-assign]


def after_the_commit(crash: Crash) -> None:
    write = Writer.write

    def crashing(self: Writer, batch: Batch) -> None:
        write(self, batch)
        if crash.due(count_steps(batch)):
            crash.die()

    Writer.write = crashing  # type: ignore[method-assign]


def before_the_next_stage(crash: Crash) -> None:
    committed = Store._committed

    def crashing(self: Store, batch: Batch) -> None:
        committed(self, batch)
        if crash.due(count_steps(batch)):
            crash.die()

    Store._committed = crashing  # type: ignore[method-assign]


def after_the_start(crash: Crash) -> None:
    """The last worker's death is counted against what was in flight, and nothing has begun."""
    convict = Suspects.convict

    def crashing(self: Suspects) -> int:
        count = convict(self)
        if crash.due():
            crash.die()
        return count

    Suspects.convict = crashing  # type: ignore[method-assign]


def inside_a_rotation(crash: Crash) -> None:
    """The event log has its new name, and there is none of the old name yet."""
    rotate = logging.handlers.RotatingFileHandler.rotate

    def crashing(self: Any, source: str, target: str) -> None:
        rotate(self, source, target)
        if crash.due():
            crash.die()

    logging.handlers.RotatingFileHandler.rotate = crashing  # type: ignore[method-assign,assignment]


def before_the_record_on_kafka(crash: Crash) -> None:
    record = KafkaJournal.record

    def crashing(self: KafkaJournal, key: str, message: Any, answer: bytes) -> Any:
        if crash.due():
            crash.die()
        return record(self, key, message, answer)

    KafkaJournal.record = crashing  # type: ignore[method-assign]


def after_the_outputs_on_kafka(crash: Crash) -> None:
    """The outputs are acknowledged; that the step is finished is written nowhere."""
    finish = KafkaJournal.finish

    async def crashing(self: KafkaJournal, *args: Any) -> None:
        send = self.log.send

        async def sending(records: Any) -> Any:
            sent = await send(records)
            if records[0][0] != self.log.topic and crash.due():
                crash.die()
            return sent

        self.log.send = sending  # type: ignore[method-assign]
        try:
            await finish(self, *args)
        finally:
            self.log.send = send  # type: ignore[method-assign]

    KafkaJournal.finish = crashing  # type: ignore[method-assign,assignment]


def after_the_progress_on_kafka(crash: Crash) -> None:
    """What is finished is written; no message is acked, and no recorded answer deleted."""
    keep = KafkaJournal._keep

    async def crashing(self: KafkaJournal, partition: int, key: bytes, value: bytes | None) -> None:
        await keep(self, partition, key, value)
        if key.startswith(IDS) and crash.due():
            crash.die()

    KafkaJournal._keep = crashing  # type: ignore[method-assign]


def after_the_acks_on_kafka(crash: Crash) -> None:
    """Messages are acked, and the group's commit does not know it."""
    write = KafkaJournal._write

    async def crashing(self: KafkaJournal) -> None:
        await write(self)
        if crash.due():
            crash.die()

    KafkaJournal._write = crashing  # type: ignore[method-assign]


def after_a_commit_on_kafka(crash: Crash) -> None:
    commit = Consumer._commit_offsets

    async def crashing(self: Consumer, *args: Any, **options: Any) -> bool:
        done = await commit(self, *args, **options)
        if done and crash.due():
            crash.die()
        return done

    Consumer._commit_offsets = crashing  # type: ignore[method-assign]


def after(crash: Crash, owner: type, name: str) -> None:
    """The method of `owner` has done its work, and nobody is told."""
    method = getattr(owner, name)

    def crashing(self: Any, *args: Any) -> Any:
        made = method(self, *args)
        if crash.due():
            crash.die()
        return made

    setattr(owner, name, crashing)


def after_the_note(crash: Crash) -> None:
    after(crash, Outbox, "put")


def after_the_row(crash: Crash) -> None:
    after(crash, History, "append")


#: By the words of DESIGN section 5. What passes, and is counted, is what is in front of the comma;
#: for batches, the steps in them.
POINTS: dict[str, Callable[[Crash], None]] = {
    "call made, not answered": before_the_answer,
    "call made on a slow disk, not answered": before_the_answer_on_a_slow_disk,
    "answered, not recorded": before_the_record,
    "recorded, step not finished": after_the_record,
    "outputs in the batch, transaction not committed": before_the_commit,
    "recorded, outputs written, not committed": before_the_commit_of_a_recorded_answer,
    "batch cut, half written": inside_a_batch,
    "transaction committed, loop not told": after_the_commit,
    "output durable, next stage not begun": before_the_next_stage,
    "crash counted, nothing begun": after_the_start,
    "event log renamed, not reopened": inside_a_rotation,
    "note kept, step not finished": after_the_note,
    "row written, step not finished": after_the_row,
}
#: The same life on Kafka, where the end of a step is a row of sends.
KAFKA_POINTS: dict[str, Callable[[Crash], None]] = {
    "call made, not answered": before_the_answer,
    "answered, not recorded": before_the_record_on_kafka,
    "recorded, step not finished": after_the_record,
    "outputs acknowledged, progress not written": after_the_outputs_on_kafka,
    "progress written, not acked": after_the_progress_on_kafka,
    "acked, not committed": after_the_acks_on_kafka,
    "committed": after_a_commit_on_kafka,
}


def main() -> None:
    point, _, at = os.environ["PENSTOCK_TEST_CRASH"].rpartition(":")
    embedded = not os.environ.get("PENSTOCK_BROKER", "").startswith("kafka:")
    (POINTS if embedded else KAFKA_POINTS)[point](Crash(point, int(at)))
    penstock.__main__.main()


if __name__ == "__main__":
    main()
