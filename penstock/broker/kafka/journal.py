"""The journal on Kafka.

The end of a step is a sequence of sends, each acknowledged before the next: its recorded answers,
its outputs, then, for all steps that ended in the same 20 ms, a mark of what is finished, by offset
and by the ids of the events. After that the messages are acked and the recorded answers deleted.
When the worker is killed in between, the event is delivered again: its calls are recalled, its
outputs are sent again with the same ids, and the next stage knows the ids.

All of it is on one compacted topic, in the partition of the event. A worker reads a partition of it
before anything of that partition is delivered.
"""

import asyncio
import dataclasses
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from faust.types import TP

from penstock import crash
from penstock.broker.contract import ONE_WORKER, Location, Plan
from penstock.broker.kafka.delivery import Tracker
from penstock.broker.kafka.lease import Lease
from penstock.broker.kafka.log import Log, Room
from penstock.broker.kafka.problems import Problems
from penstock.broker.kafka.progress import Progress, Stretch
from penstock.broker.kafka.records import (
    BEGUN,
    CALL,
    FIRSTS,
    IDS,
    OWNER,
    TOPIC,
    Begun,
    Known,
    Part,
    identify,
    journal_of,
    step_of,
    stretch_key,
)
from penstock.broker.kafka.renames import introduce
from penstock.broker.kafka.sending import Send
from penstock.broker.kafka.standing import Standing
from penstock.broker.kafka.suspects import Careful, KafkaSuspects
from penstock.errors import EventTooLarge
from penstock.journal import CLAIMS, TEXTS, Locations, Output, claimed_at, unpinned
from penstock.record.events import begun_before, content_of
from penstock.record.steps import joined
from penstock.signals import Signal, TopicMadeAnew

log = logging.getLogger(__name__)

#: Seconds for which a finished event is known by its id, counted while its stage runs.
DEDUPE_S = 3600.0
#: What follows from a topic of events that was deleted.
LOST = (
    "What stood on it and was not finished is gone, and is not called done: begin those runs again."
    " The new topic is read from its beginning"
)
#: Seconds for which ends of steps are gathered before they are written.
GATHER_S = 0.02
#: Ends of steps that wait to be written at which no new work is taken.
CROWDED = 5000
#: A reason for `Room`: so many wait.
CROWDED_OUT = "crowded"
#: Another: Kafka does not take a mark for its size; and seconds until it is asked again.
REFUSED, REFUSED_PAUSE_S = "refused", 2.0

#: Bytes of step records that are one record.
RECORDS_BYTES = 256 * 1024

_encode = msgspec.json.Encoder().encode


@dataclasses.dataclass
class Ends:
    """Steps of one stage in one partition that have ended and are still to be written."""

    progress: Progress
    ids: list[str] = dataclasses.field(default_factory=list)
    #: The ids of first events, with the content of their runs.
    firsts: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: list[bytes] = dataclasses.field(default_factory=list)
    records: list[bytes] = dataclasses.field(default_factory=list)
    messages: list[Any] = dataclasses.field(default_factory=list)


class Member(Protocol):
    """This worker's consumer, as a member of the group."""

    trackers: dict[TP, Tracker]
    missed_generation: bool
    #: Partitions of which nothing is delivered.
    shut: set[int]

    @property
    def generation(self) -> int:
        """How often partitions were assigned."""

    def assignment(self) -> set[TP]: ...

    async def rewind(self, tps: set[TP]) -> bool:
        """Let the group read `tps` from their beginnings, whatever it had committed. Returns False
        when it does not take that now, as it rebalances."""

    async def highwaters(self, *tps: TP) -> Mapping[TP, int | None]: ...

    def ack(self, message: Any) -> bool: ...


class KafkaJournal:
    """`Journal` on Kafka. `member` returns this worker's consumer; `partition_of` the partition of
    a key, when Kafka has said how many its topic has; `clock` seconds since 1970."""

    def __init__(
        self,
        plan: Plan,
        log: Log,
        room: Room,
        member: Callable[[], Member],
        partition_of: Callable[[str, bytes], Awaitable[int]],
        lease: Lease,
        problems: Problems,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plan = plan
        self.held = lease
        self.problems = problems
        self.log = log
        self.topic = journal_of(plan.app_id)
        self.room = room
        self.suspects = KafkaSuspects(self)
        self._member = member
        self._partition_of = partition_of
        self._clock = clock
        self.owner = uuid.uuid4().hex[:8]
        self._epoch = 0
        self._number = 0
        #: Why partitions of the topic cannot be read: nothing of them is worked on.
        self.unreadable: dict[int, str] = {}
        self._parts: dict[int, Part] = {}
        self._progress: dict[tuple[str, TP], Progress] = {}
        #: Stretches from before the last seek that are still to be written, with partition and key.
        self._final: list[tuple[int, bytes, Stretch]] = []
        self._ends: dict[tuple[str, TP], Ends] = {}
        self._recording: dict[bytes, list[asyncio.Future[None]]] = {}
        self._count = 0
        self._writing: asyncio.Task[None] | None = None
        self._given = asyncio.Condition()
        # asyncio keeps only weak references to tasks.
        self._tasks: set[asyncio.Future[Any]] = set()

    # -- which partitions are ours

    async def load(self) -> list[Signal]:
        """Read the journal of every partition that is new here, and forget those that are gone.
        One that cannot be read is left alone: what is finished or paid for may stand in it. Returns
        what an edited chain has changed in them, and the topics that were deleted and made anew
        since offsets of them were noted. Raises `KafkaError`."""
        member = self._member()
        generation = member.generation
        if member.missed_generation:
            member.missed_generation = False
            self._parts.clear()
            self._progress.clear()
            self._ends.clear()
        wanted = {tp.partition for tp in member.assignment() if tp.topic in self.plan.readers}
        for partition in self._parts.keys() - wanted:
            del self._parts[partition]
        for stage, tp in list(self._progress):
            if tp.partition not in wanted:
                del self._progress[stage, tp]
        new = {partition: Part() for partition in wanted - self._parts.keys()}
        started = time.monotonic()
        count = 0

        def take(partition: int, key: bytes, value: bytes | None) -> None:
            nonlocal count
            count += 1
            new[partition].take(key, value)

        self.unreadable = {}
        if new:
            self.unreadable = await self.log.read(self.topic, set(new), take)
            log.info(
                "Journal: %d records of %d partitions read in %.1f s",
                count,
                len(new),
                time.monotonic() - started,
            )
        if generation != member.generation:
            return []  # the group has rebalanced meanwhile, and this is called again
        member.shut = set(self.unreadable)
        wanted -= member.shut
        new = {partition: part for partition, part in new.items() if partition in wanted}
        dead = {partition for partition, part in new.items() if part.owners - {self._name}}
        careful = dead | {partition for partition, part in new.items() if part.marks}
        if careful:
            names = {
                partition: b"+".join(sorted(new[partition].owners - {self._name})) or None
                for partition in careful
            }
            tps = [tp for tp in member.assignment() if tp.partition in careful]
            ends = await member.highwaters(*tps)
            self.suspects.be_careful(
                {
                    tp: Careful(end, name and name.removeprefix(OWNER).decode())
                    for tp, end in ends.items()
                    if end is not None
                    for name in [names[tp.partition]]
                }
            )
            for partition in dead:
                self.delete([(partition, name) for name in new[partition].owners - {self._name}])
        await self._sign(wanted, b"1")
        anew = await self._forget_old(self._parts | new)
        if generation != member.generation:
            return anew
        edited: dict[Signal, None] = {}
        for partition, part in new.items():
            signals, rows = introduce(part, self.plan.readers)
            edited |= dict.fromkeys(signals)
            await self.log.send([(self.topic, *row, partition) for row in rows])
        if generation != member.generation:
            return anew
        self._parts |= new
        async with self._given:
            self._given.notify_all()
        return [*anew, *edited]

    async def _forget_old(self, parts: Mapping[int, Part]) -> list[Signal]:
        """Forget the offsets of topics that were deleted and made anew: an event of the new one
        would be taken for done by them. Returns which topics those are."""
        there = await self.log.standing(self.plan.readers)
        news = [
            (TP(topic, partition), one.id, part)
            for topic, one in there.items()
            for partition, part in parts.items()
            if one.id and part.topics.get(topic) != one.id
        ]
        old = {tp: id_ for tp, id_, part in news if part.is_other(tp.topic, id_)}
        if old:
            await self.flush()
            gone = [
                (tp.partition, key) for tp in old for key in parts[tp.partition].forget(tp.topic)
            ]
            for stage, tp in list(self._progress):
                if tp in old:
                    del self._progress[stage, tp]
            await asyncio.gather(*(self._keep(partition, key, None) for partition, key in gone))
            if not await self._member().rewind(set(old)):
                return []
        # Last: a worker that dies before finds them of other topics once more.
        await asyncio.gather(
            *(
                self._keep(tp.partition, TOPIC + tp.topic.encode(), id_.encode())
                for tp, id_, _ in news
            )
        )
        for tp, id_, part in news:
            part.topics[tp.topic] = id_
        return [
            TopicMadeAnew(topic, old[TP(topic, partition)], LOST)
            for topic, partition in sorted(old)
        ]

    async def write_again(self) -> None:
        """Write all that is known of this worker's partitions: the topic was deleted."""
        for partition, part in self._parts.items():
            await asyncio.gather(*(self._keep(partition, *row) for row in part.rows()))
        for (stage, tp), progress in self._progress.items():
            rows = {**progress.earlier, self._stretch_key(stage, tp): progress.stretch()}
            for key, stretch in rows.items():
                await self._keep(tp.partition, key, _encode(stretch))
        await self._sign(self._parts, b"1")

    def others(self, there: Mapping[str, Standing]) -> set[str]:
        """Return those of the topics that are not the ones of which offsets are noted."""
        parts = self._parts.values()
        return {name for name, one in there.items() if any(p.is_other(name, one.id) for p in parts)}

    def lost(self, tp: TP, start: int, end: int) -> int:
        """Return how many of the offsets from `start` to before `end` are not finished."""
        stages = self.plan.readers.get(tp.topic, ())
        if stages and tp.partition not in self._parts:
            return end - start  # its journal cannot be read
        progress = [self._progress_of(stage, tp) for stage in stages]
        return sum(any(not one.is_done(at) for one in progress) for at in range(start, end))

    def gone(self) -> Iterator[tuple[TP, str, Collection[Stretch]]]:
        """Yield, in this worker's partitions, each topic that no stage reads any more with a stage
        that did and what that one has finished."""
        for partition, part in self._parts.items():
            for topic, names in self.plan.gone(part.known_readers()).items():
                for name in names:
                    stretches = part.stretches.get((name, topic), {})
                    yield TP(topic, partition), name, list(stretches.values())

    def finish_below(self, stage: str, tp: TP, offset: int) -> None:
        """Record that `stage`, which is gone, has finished what is below `offset` in `tp`."""
        part, key = self._parts.get(tp.partition), stretch_key(stage, tp.topic, "committed")
        if part is not None:
            row = (key, _encode(Stretch(0, offset, [], [])))
            part.take(*row)
            self.keep(tp.partition, *row)

    @property
    def _name(self) -> bytes:
        return OWNER + self.owner.encode()

    async def _sign(self, partitions: Iterable[int], value: bytes | None) -> None:
        await asyncio.gather(*(self._keep(one, self._name, value) for one in partitions))

    async def give_up(self) -> None:
        """Write what is finished, and that this worker has no partitions any more: otherwise the
        next one takes it for dead."""
        await self.flush()
        await self._sign(self._parts, None)

    def part(self, partition: int) -> Part | None:
        return self._parts.get(partition)

    def on_seek(self) -> None:
        """Begin new stretches at the group's commits, from which everything is delivered again."""
        for (stage, tp), progress in self._progress.items():
            key = self._stretch_key(stage, tp)
            stretch = progress.stretch()
            if stretch.last > stretch.start:
                self._final.append((tp.partition, key, stretch))
                progress.earlier[key] = stretch
            self._progress[stage, tp] = Progress(progress.earlier.items(), self.committed(tp))
        self._epoch += 1
        self.suspects.begin(self._member().trackers)
        self.held.begin()
        if self._final:
            self._write_soon()

    def lease(self) -> Awaitable[None] | None:
        return self.held.wait() if self.held.is_lost() else None

    def _progress_of(self, stage: str, tp: TP) -> Progress:
        progress = self._progress.get((stage, tp))
        if progress is None:
            earlier = self._parts[tp.partition].stretches.get((stage, tp.topic), {})
            progress = Progress(earlier.items(), self.committed(tp))
            self._progress[stage, tp] = progress
        return progress

    def committed(self, tp: TP) -> int | None:
        tracker = self._member().trackers.get(tp)
        return None if tracker is None else tracker.committed

    def unfinished(self, stage: str, tp: TP, end: int, behind: int) -> int:
        """Return how many events of `tp` below `end` the stage has not finished; `behind` where
        this worker does not know."""
        progress = self._progress.get((stage, tp))
        if progress is None or progress.start is None:
            return behind
        above = sum(one >= progress.end for one in progress.above)
        return max(0, end - progress.end + len(progress.open) - above)

    def _known(self, stage: str, partition: int) -> Known:
        return self._parts[partition].known.setdefault(stage, Known())

    # -- what was delivered

    def owns(self, message: Any) -> bool:
        return message.partition in self._parts

    def delivered(self, stage: str, message: Any) -> bool:
        progress = self._progress_of(stage, message.tp)
        return progress.deliver(message.offset) or self._is_known(progress, stage, message)

    def is_done(self, stage: str, message: Any) -> bool:
        # Not a delivery: `message` may be from before a seek, and be delivered again after it.
        progress = self._progress_of(stage, message.tp)
        return progress.is_done(message.offset) or self._is_known(progress, stage, message)

    def _is_known(self, progress: Progress, stage: str, message: Any) -> bool:
        """Return whether the stage knows the event by its id: a crash upstream can send an event
        twice, at two offsets, and a client can begin a run twice."""
        id_, first = identify(message)
        ids = self._known(stage, message.partition).ids
        if id_ not in ids or (first and _differs(ids[id_], message)):
            return False
        progress.finish(message.offset)
        return True

    def refuse(self, stage: str, message: Any) -> None:
        id_, first = identify(message)
        known = self._known(stage, message.partition).ids
        if first and _differs(known.get(id_), message):
            raise begun_before((message.key or b"").decode(errors="replace"))

    def again(self, stage: str, message: Any) -> None:
        # Not acked at once: that it is finished may not be written yet.
        self._ends_of(stage, message.tp).messages.append(message)
        self._write_soon()

    # -- the verbs

    def recall(self, key: str, message: Any) -> bytes | None:
        name = CALL + key.encode()
        calls = self._parts[message.partition].calls.get(step_of(name))
        return None if calls is None else calls.get(name)

    def record(self, key: str, message: Any, answer: bytes) -> asyncio.Future[None]:
        name = CALL + key.encode()
        step = step_of(name)
        part = self._parts[message.partition]
        part.calls.setdefault(step, {})[name] = answer
        recording = self._hold(self._keep_answer(message.partition, part, name, answer))
        if not key.startswith((CLAIMS, TEXTS)):  # it belongs to no step that ends
            self._recording.setdefault(step, []).append(recording)
        return recording

    async def finish(
        self,
        stage: str,
        message: Any,
        outputs: Sequence[Output],
        step: str | None,
        then: Callable[[Locations], None],
        record: bytes = b"",
    ) -> None:
        if step is not None:
            # An answer that Kafka never takes (too large) is not recorded; the step ends without.
            recording = self._recording.pop(step.encode(), ())
            for error in await asyncio.gather(*recording, return_exceptions=True):
                if isinstance(error, EventTooLarge):
                    log.warning("An answer of %s is not recorded: %s", step, error)
        if self.held.is_lost():
            await self.held.wait()
        sent = await self.log.send(self._with_partitions(outputs)) if outputs else []
        crash.at("outputs sent", len(sent))
        id_, first = identify(message)
        self._progress_of(stage, message.tp).finish(message.offset)
        known = self._known(stage, message.partition).ids
        ends = self._ends_of(stage, message.tp)
        if not first:
            known[id_] = None
            ends.ids.append(id_)
        elif id_ not in known:  # else it is one that was refused
            known[id_] = ends.firsts[id_] = _content(message)
        ends.messages.append(message)
        if record:
            ends.records.append(record)
        if step is not None:
            ends.steps.append(step.encode())
        self._count += 1
        if self._count > CROWDED:
            self.room.shut(CROWDED_OUT)
        self._write_soon()
        then([(one.partition, one.offset) for one in sent])

    def _with_partitions(self, outputs: Sequence[Output]) -> list[Send]:
        """Return the records with their partitions: None, for the key's, or `ONE_WORKER`."""
        single = self.plan.one_worker
        named = [(self.plan.on_broker(topic), key, value) for topic, key, value in outputs]
        return [(*one, ONE_WORKER if one[0] in single else None) for one in named]

    async def begin(
        self, topic: str, id_: str, key: bytes, value: bytes, kept: bool
    ) -> Location | None:
        """Begin a run with the event `id_` on `topic`. Returns its location, or None when the run
        was begun before. Only the worker that has the run's partition begins it: with `kept`, for
        an id that is known for ever, this waits until it has; otherwise it returns None."""
        partition = await self._partition_of(self.plan.on_broker(topic), key)
        async with self._given:
            if partition not in self._parts and not kept:
                return None
            await self._given.wait_for(lambda: partition in self._parts)
        part, mark = self._parts[partition], BEGUN + id_.encode()
        content, before = content_of(value), part.begun_with(id_)
        if before is not None:
            if before not in ("", content):
                raise begun_before(key.decode(errors="replace"))
            return None
        (sent,) = await self.log.send(self._with_partitions([(topic, key, value)]))
        begun = Begun(None if kept else self._clock(), content)
        await self._keep(partition, mark, _encode(begun))
        part.begun[mark] = begun
        return Location(sent.partition, sent.offset)

    def retire(self, before_s: float) -> None:
        """Forget claims and the beginnings of runs from before `before_s` (seconds since 1970), and
        the texts that no unfinished step began with."""
        for partition, part in self._parts.items():
            old = [
                mark
                for mark, begun in part.begun.items()
                if begun.at is not None and begun.at < before_s
            ]
            for mark in old:
                del part.begun[mark]
            old += [key for known in part.known.values() for key in known.retire(before_s)]
            self.delete([(partition, key) for key in old])
            for step, calls in list(part.calls.items()):
                if step.startswith(CLAIMS.encode()) and all(
                    claimed_at(answer) < before_s for answer in calls.values()
                ):
                    del part.calls[step]
                    self.delete([(partition, key) for key in calls])
            pairs = (
                (key.removeprefix(CALL).decode(), answer)
                for calls in part.calls.values()
                for key, answer in calls.items()
            )
            for text in unpinned(pairs):
                key = CALL + text.encode()
                del part.calls[step_of(key)]
                self.delete([(partition, key)])

    # -- writing

    def _ends_of(self, stage: str, tp: TP) -> Ends:
        ends = self._ends.get((stage, tp))
        if ends is None:
            ends = self._ends[stage, tp] = Ends(self._progress_of(stage, tp))
        return ends

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_after(GATHER_S))

    async def _write_after(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        while self._ends or self._final:
            await self._write()

    async def flush(self) -> None:
        """Write every end of a step up to here, and ack its message."""
        while self._ends or self._final or (self._writing and not self._writing.done()):
            self._write_soon()
            assert self._writing is not None
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        """Write what is finished; then ack its messages and delete what is not needed any more."""
        final, self._final = self._final, []
        written, self._ends, self._count = self._ends, {}, 0
        now = self._clock()
        rows = [(partition, key, _encode(stretch)) for partition, key, stretch in final]
        gone: list[tuple[int, bytes]] = []
        for (stage, tp), ends in written.items():
            progress = self._progress.get((stage, tp))
            if progress is ends.progress:
                progress.commit(self.committed(tp) or 0)
                gone += [(tp.partition, key) for key in progress.outlived()]
                rows.append(
                    (tp.partition, self._stretch_key(stage, tp), _encode(progress.stretch()))
                )
            part = self._parts.get(tp.partition)
            if part is not None:
                known = self._known(stage, tp.partition)
                for kind, ids in ((IDS, dict.fromkeys(ends.ids)), (FIRSTS, ends.firsts)):
                    if ids:
                        self._number += 1
                        key = kind + f"{stage}|{self.owner}|{self._number}".encode()
                        what = ends.ids if kind == IDS else ids
                        rows.append((tp.partition, key, _encode((now, what))))
                        known.add(now, key, ids)
                old = known.expire(now - DEDUPE_S)
                gone += [(tp.partition, key) for key in old]
        # Before the marks, which are of this moment: what is marked is never done again, so nobody
        # would write its record.
        await self._write_records(written)
        crash.at("step records written")
        await asyncio.gather(*(self._keep(*row) for row in rows))
        crash.at("progress written")
        member = self._member()
        for (_, tp), ends in written.items():
            for message in ends.messages:
                message.ack(member)
            part = self._parts.get(tp.partition)
            if part is not None:
                for step in ends.steps:
                    gone += [(tp.partition, key) for key in part.calls.pop(step, ())]
        self.delete(gone)
        crash.at("acked")
        if self._count <= CROWDED:
            self.room.open(CROWDED_OUT)

    async def _write_records(self, written: Mapping[tuple[str, TP], Ends]) -> None:
        """Write the step records of what has ended, those of one partition together."""
        records: dict[int, list[bytes]] = {}
        for (_, tp), ends in written.items():
            records.setdefault(tp.partition, []).extend(ends.records)
        rows: list[Send] = [
            (self.plan.steps, b"", joined(some), partition)
            for partition, found in records.items()
            for some in _in_pieces(found, RECORDS_BYTES)
        ]
        await asyncio.gather(*(self._write_record(row) for row in rows))

    async def _write_record(self, row: Send) -> None:
        try:
            await self.log.send([row])
        except EventTooLarge as exc:
            # The steps have ended all the same: to hold them up would help nobody.
            log.warning("Step records are not kept: %s", exc)

    def _stretch_key(self, stage: str, tp: TP) -> bytes:
        return stretch_key(stage, tp.topic, f"{self.owner}-{self._epoch}")

    async def _keep_answer(self, partition: int, part: Part, key: bytes, answer: bytes) -> None:
        if self.held.is_lost():
            # Another worker may be making the call by now, and would not see a late answer.
            await self.held.wait()
            if self._parts.get(partition) is not part:
                return
        await self._keep(partition, key, answer)
        crash.at("recorded")

    def keep(self, partition: int, key: bytes, value: bytes) -> asyncio.Future[None]:
        return self._hold(self._keep(partition, key, value))

    async def _keep(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Write a record of the topic. What Kafka does not take for its size is tried until it
        does, and meanwhile no work is taken: without the record, what is finished would be done
        again. Only an answer is the step's own: raises `EventTooLarge`."""
        refused = False
        while True:
            try:
                await self.log.send([(self.topic, key, value, partition)])
            except EventTooLarge as exc:
                if key.startswith(CALL):
                    raise
                refused = True
                self.problems.note(REFUSED, f"{exc}. No new work is taken until then")
                self.room.shut(REFUSED)
            else:
                break
            await asyncio.sleep(REFUSED_PAUSE_S)
        if refused:
            self.problems.over(REFUSED)
            self.room.open(REFUSED)

    def delete(self, keys: list[tuple[int, bytes]]) -> None:
        """Delete `keys` from the topic, without waiting for it."""
        if keys:
            rows: list[Send] = [(self.topic, key, None, partition) for partition, key in keys]
            self._hold(self.log.send(rows))

    def _hold(self, work: Any) -> asyncio.Future[Any]:
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _in_pieces(records: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """Yield the records in pieces of up to `most` bytes, or of one."""
    first, size = 0, 0
    for index, record in enumerate(records):
        if index > first and size + len(record) > most:
            yield records[first:index]
            first, size = index, 0
        size += len(record)
    if records:
        yield records[first:]


def _content(message: Any) -> str:
    """Return the content of the run that `message` begins; "" for what is no event of ours."""
    try:
        return content_of(message.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _differs(content: str | None, message: Any) -> bool:
    """Return whether `message` begins a run with other content than `content`, if that is known."""
    return bool(content) and content != _content(message)
