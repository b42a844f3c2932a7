"""Faust's transport for Kafka: its aiokafka driver, with a consumer that tracks delivery itself.

Faust 0.15.3 loses events or delivers them twice under kills and rebalances, for five reasons. Each
is named where it is mended; `tests/contract/test_delivery.py` has a test of each.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from penstock import crash
from penstock.broker.acks import Acks
from penstock.broker.kafka.clients import ConsumerThread, Producer, ShutdownBudget, shutdown_of
from penstock.broker.kafka.delivery import Tracker
from penstock.broker.kafka.problems import Problems
from penstock.broker.kafka.sending import record_bytes
from penstock.settings import Settings
from penstock.signals import Signals

log = logging.getLogger(__name__)

#: The scheme under which Faust finds this transport; people write kafka://.
SCHEME = "penstock+kafka"
#: Seconds that Faust gives a request.
REQUEST_S = 90.0
#: Seconds that a fetch may wait for records.
FETCH_WAIT_S = 1.0
#: The same while records are held for a stage that may have room again at any moment.
HELD_WAIT_S = 0.05
#: What problems of a fetch are about.
READING = "reading"
#: Records delivered before other tasks of the loop run.
YIELD_EVERY = 50


def faust_url(url: str) -> str:
    """Return `url` for Faust: each of the servers, with the scheme of this transport."""
    return ";".join(one.replace("kafka://", f"{SCHEME}://", 1) for one in url.split(";"))


def faust_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings of Faust for Kafka, where its defaults do not fit."""
    timeouts: dict[str, Any] = {}
    if settings.session_s > REQUEST_S:
        timeouts["broker_request_timeout"] = settings.session_s  # Faust wants it no shorter
    return timeouts | {
        # How long a killed worker's partitions stand still; Faust's is a minute.
        "broker_session_timeout": settings.session_s,
        "broker_heartbeat_interval": settings.session_s / 4,
        # Longer than a worker waits for its calls before it gives its partitions up.
        "broker_rebalance_timeout": settings.drain_s + 40.0,
        # A stage that is full takes nothing for as long as its calls last: heartbeats say that the
        # worker lives.
        "broker_max_poll_interval": 7 * 86400.0,
        # A governor reads the lag of other workers' partitions off their commits.
        "broker_commit_interval": 0.3,
        "consumer_group_instance_id": settings.worker_id or None,
        # Bytes: with Faust's 16 KB, 2,000 events in flight get 1,600 sends a second, not 17,800.
        "producer_max_batch_size": 256 * 1024,
        "producer_max_request_size": record_bytes(settings.max_event_bytes),
    }


class Consumer(driver.Consumer):
    """Faust's consumer on aiokafka, with a `Tracker` for each partition.

    A seek takes the same lock as a fetch and replaces every tracker, so that nothing fetched before
    it counts as fetched after it. Whatever stops the flow is followed by a seek.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.trackers: dict[TP, Tracker] = {}
        #: Whether the group has had an assignment without this worker, so that others may have had
        #: its partitions: it was suspended for longer than the session.
        self.missed_generation = False
        self._generation = 0
        self._epoch = 0
        #: Where reading began in partitions of which nothing was ever committed.
        self._first: dict[TP, int] = {}
        #: Fetched records of a partition whose stage has no room in its buffer.
        self._held: dict[TP, list[Any]] = {}
        #: Partitions whose end is above what was delivered; those offsets may be no records.
        self._doubted: set[TP] = set()
        #: Offsets that were left out, each from and to where, and not explained yet.
        self._gaps: list[tuple[TP, int, int]] = []
        #: Partitions of which nothing is delivered: their journal cannot be read.
        self.shut: set[int] = set()
        self._seeking = asyncio.Lock()
        self._acked: Any = Acks(self._stream_acked)
        self._acked_index: Any = self._acked

    @property
    def generation(self) -> int:
        """How often partitions have changed hands, as the app counts it."""
        return self.app.consumer_generation_id

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def on_stop(self) -> None:
        await shutdown_of(self).wait(super().on_stop())

    # -- acks and commits

    def ack(self, message: Any) -> bool:
        """Ack `message`, unless it is from before a seek: Faust would count an ack from before a
        rebalance for the partition as it is assigned now."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        tracker = self.trackers.get(message.tp)
        done = tracker is not None and tracker.ack(message)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)
        return done

    def _stream_acked(self, tp: TP, offset: int) -> None:
        tracker = self.trackers.get(tp)
        message = tracker.open.get(offset) if tracker is not None else None
        # The stream has marked the message that it acks, so another one that is open at the same
        # offset since a seek is not taken for it.
        if tracker is not None and message is not None and message.acked:
            tracker.ack(message)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return [tp for tp in self.trackers if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        """Return what may be committed. Faust's passes an event in flight when a later one is acked
        (issue 606), and counts offsets that a seek has moved past as done."""
        tracker = self.trackers.get(tp)
        return None if tracker is None else tracker.committable()

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return True  # `committable` gives only what is new

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        epoch = self._epoch
        done = await super()._commit_offsets(offsets, start_new_transaction)
        if done:
            crash.at("committed")
        if done and epoch == self._epoch:
            for tp, offset in offsets.items():
                if tp in self.trackers:
                    self.trackers[tp].commit(offset)
        return done

    async def verify_all_partitions_active(self) -> None:
        """Do nothing. Faust looks for partitions that make no progress in data that the driver's
        thread is changing, and ends the worker when a rebalance changes it meanwhile. The command
        `lag` shows partitions without progress."""

    async def refusal(self) -> KafkaError | None:
        """Return why the group has refused this worker since the last call, if it has."""
        thread = cast(ConsumerThread, self._thread)
        return await thread.refusal()

    async def see(self, topics: Mapping[str, int]) -> None:
        """See that `topics` have these numbers of partitions, so that the group shares them out."""
        await cast(ConsumerThread, self._thread).see(topics)

    async def is_member(self) -> bool:
        """Return whether the group still takes this worker's commits. It takes none of one that was
        silent for longer than the session, until the next rebalance."""
        assigned = self.assignment()
        for tp, tracker in self.trackers.items():
            if tp in assigned:
                return await self._commit({tp: tracker.committed or 0})
        return False

    def undelivered(self, topic: str) -> bool:
        """Return whether `topic` has records that were not delivered since the last seek, as far as
        the fetches so far have shown; a partition that was not fetched yet counts."""
        for tp, tracker in self.trackers.items():
            if tp.topic == topic:
                try:
                    end = self.highwater(tp)
                except KafkaError:
                    continue  # not ours any more
                next_ = self._first.get(tp, 0) if tracker.next is None else tracker.next
                if end is None or next_ < end:
                    self._doubted.add(tp)
                    return True
        return False

    def _pass_gaps(self) -> None:
        """Skip offsets that are no records (a producer's transaction markers, what compaction has
        deleted). Called between two fetches, when all that was fetched is delivered or held: any
        other offset that the driver has passed was no record."""
        doubted, self._doubted = self._doubted, set()
        for tp in doubted - self._held.keys():
            tracker, position = self.trackers.get(tp), self._fetch_position(tp)
            if tracker is not None and position is not None:
                self._note_gap(tp, tracker, position)
                tracker.next = max(tracker.next or 0, position)

    def _note_gap(self, tp: TP, tracker: Tracker, offset: int) -> None:
        if tracker.next is not None and offset > tracker.next:
            self._gaps.append((tp, tracker.next, offset))

    async def explain_gaps(self) -> None:
        """Report those offsets left out since the last call that were deleted unread: the others
        are no records. Raises `KafkaError`."""
        if not self._gaps:
            return
        firsts = await self.earliest_offsets(*{tp for tp, _, _ in self._gaps})
        gaps, self._gaps = self._gaps, []
        for tp, start, end in gaps:
            if firsts.get(tp, 0) > start:
                cast(Transport, self.transport).on_lost(tp, start, min(end, firsts[tp]))

    def _fetch_position(self, tp: TP) -> int | None:
        """Return the offset that the driver fetches next. Its own method may wait for Kafka."""
        driver: Any = self._thread
        subscription = driver._ensure_consumer()._subscription
        if not subscription.is_assigned(tp):
            return None
        state = subscription.subscription.assignment.state_value(tp)
        return state.position if state.has_valid_position else None

    # -- where to read

    async def perform_seek(self) -> None:
        """Seek to the group's commits. Raises `IllegalStateError` while the group rebalances; that
        ends in a seek, too."""
        self.stop_flow()
        async with self._seeking:
            while True:
                try:
                    committed, first = await self._seek_all()
                    break
                except IllegalStateError:
                    raise
                except KafkaError as exc:
                    log.debug("seeking again: %s", exc)
                await asyncio.sleep(1.0)
            self._epoch += 1
            self._held.clear()
            self._doubted.clear()
            self._gaps.clear()
            self.trackers = {tp: Tracker(offset) for tp, offset in committed.items()}
            self._first = first
            transport = cast(Transport, self.transport)
            for tp, tracker in self.trackers.items():
                if tracker.next is not None and tracker.next < first[tp]:
                    transport.on_lost(tp, tracker.next, first[tp])
                    tracker.next = first[tp]
            transport.on_seek()

    async def _seek_all(self) -> tuple[dict[TP, int | None], dict[TP, int]]:
        """Seek, and return the group's commits (None where there is none) and the offsets at which
        the partitions begin."""
        committed = {
            TP(tp.topic, tp.partition): None if offset is None or offset < 0 else offset
            for tp, offset in (await self.seek_to_committed()).items()
            if self.app.topics.acks_enabled_for(tp.topic)
        }
        # aiokafka leaves a partition where it is when nothing of it was ever committed: what was
        # delivered and not acked would not come again.
        first = dict(await self.earliest_offsets(*committed)) if committed else {}
        new = {tp: first[tp] for tp, offset in committed.items() if offset is None}
        if new:
            await self.seek_wait(new)
        return committed, first

    async def rewind(self, tps: set[TP]) -> bool:
        """Let the group read `tps` from their beginnings, whatever it had committed. Returns False
        when it does not take that now, as it rebalances."""
        for tp in tps:
            self.trackers.pop(tp, None)  # else it would be committed once more
        return await self._commit(await self.earliest_offsets(*tps))

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        if self._generation and generation_id != self._generation + 1:
            self.missed_generation = True
        self._generation = generation_id
        # Faust keeps these marks although it empties the buffers.
        self._buffered_partitions.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.trackers.pop(tp, None)

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver until the fetcher is stopped.

        Faust's own loop drops the rest of a batch when the flow stops or the generation changes,
        with the fetch position already moved. Here the rest is dropped, too, but a seek always
        follows. Faust's also makes two tasks a message.
        """
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if not self.flow_active:
                    await self.wait_first(self.can_resume_flow.wait(), timeout=1.0)
                    continue
                active = {
                    tp for tp in self._get_active_partitions() if tp.partition not in self.shut
                }
                ready = {tp for tp in active & self._held.keys() if self._has_room(tp)}
                # What is held of a partition goes before what is fetched of it.
                active -= self._held.keys()
                if not (ready or active):
                    await asyncio.sleep(0.02)
                    continue
                async with self._seeking:
                    if not self.flow_active:
                        continue
                    epoch = self._epoch
                    records: Any = {tp: self._held.pop(tp) for tp in ready & self._held.keys()}
                    if not records and active:  # without any, the driver takes it for all
                        if self._doubted:
                            self._pass_gaps()
                        records = await self._fetch(active)
                if records:
                    await self._deliver(records, epoch)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _fetch(self, active: set[TP]) -> Any:
        """Fetch, and return no records when Kafka refuses; that is asked again."""
        problems = cast(Transport, self.transport).problems
        try:
            wait_s = HELD_WAIT_S if self._held else FETCH_WAIT_S
            records = await self._getmany(active_partitions=active, timeout=wait_s)
        except self.consumer_stopped_errors:
            raise
        except KafkaError as exc:
            problems.note(READING, f"reading fails, and is tried again: {exc}")
            await asyncio.sleep(1.0)
            return {}
        problems.over(READING)
        return records

    async def _deliver(self, records: Any, epoch: int) -> None:
        """Deliver `records`. Not under the lock: a full buffer would block a rebalance's seek."""

        def suspended() -> bool:
            return not self.flow_active or self._epoch != epoch or self._stopped.is_set()

        names = cast(Transport, self.transport).names
        for count, (tp, record) in enumerate(self.scheduler.iterate(records)):
            if count % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
            if suspended():
                return
            # A changelog is no stage's: a table's recovery reads it as fast as it can, and seeks by
            # itself.
            careful = self.app.topics.acks_enabled_for(tp.topic)
            if careful and (tp in self._held or not self._has_room(tp)):
                # A stage that is full, or waits for another, must not hold up the other stages: it
                # may be one of those that it waits for.
                self._held.setdefault(tp, []).append(record)
                continue
            message = self._to_message(tp, record)
            message.topic = names.get(tp.topic, message.topic)
            if careful:
                tracker = self.trackers.get(message.tp)
                if tracker is None:
                    return
                if record.offset != tracker.next:
                    self._note_gap(message.tp, tracker, record.offset)
                if not tracker.deliver(message):
                    continue
            await self.callback(message)

    def _has_room(self, tp: TP) -> bool:
        """Return whether the buffer of the stage that reads `tp` has room for a record."""
        if tp in self._buffered_partitions:
            return False
        # Faust marks a partition once, and not again until its buffer has been emptied further.
        channels = self.app.topics._tp_index.get(tp, ())  # type: ignore[attr-defined]
        return not any(channel.queue.full() for channel in channels)


class Transport(driver.Transport):
    """Faust's transport with the consumer above and the producer of `clients`."""

    Consumer = cast(Any, Consumer)
    Producer = cast(Any, Producer)

    def __init__(
        self,
        *args: Any,
        problems: Problems | None = None,
        on_seek: Callable[[], None] = lambda: None,
        on_lost: Callable[[TP, int, int], None] = lambda tp, start, end: None,
        names: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        #: The names that chains give to topics, by those that they have on the broker.
        self.names = names or {}
        self.problems = problems or Problems(Signals())
        #: Called when the consumer delivers again, from the group's commits on.
        self.on_seek = on_seek
        #: Called with offsets of a partition that were deleted before they were delivered, from and
        #: to before which.
        self.on_lost = on_lost
        self.shutdown = ShutdownBudget()
