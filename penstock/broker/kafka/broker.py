"""A worker's life on Kafka: reaching it, its partitions as they come and go, its retention."""

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from aiokafka.errors import (
    IllegalStateError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
)

from penstock.broker.kafka import topics as kafka_topics
from penstock.broker.kafka.clients import Farewell, farewell_of
from penstock.broker.kafka.connection import check_access, connection
from penstock.broker.kafka.journal import KafkaJournal
from penstock.broker.kafka.lag import Lag
from penstock.broker.kafka.transport import Consumer, consumer_of
from penstock.broker.kafka.watch import ANSWER_S, Watch
from penstock.errors import SettingsError
from penstock.record import cancels

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

log = logging.getLogger(__name__)

#: Seconds that a worker waits for Kafka to take what is finished, before it gives partitions up.
FLUSH_S = 5.0
#: Seconds between looks for what the group refuses.
LOOK_S = 1.0


def _note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("while Kafka was asked: %s", context)


class Membership:
    """The app as a member of its group. Each method is called by the app in its turn."""

    def __init__(self, app: "PenstockApp") -> None:
        self.app = app
        self.settings = app.settings
        self.told = connection(app.settings)
        self.journal = KafkaJournal(app, self.told, app.settings.session_s)
        self._lag = Lag(self.journal, app.settings.app_id, self.told)
        app.suspects = self.journal.suspects
        self._watch: Watch | None = None
        #: From when partitions are given up until they are assigned again.
        self._giving_up = False

    async def check(self) -> None:
        """Raises what no waiting mends: a password or a certificate that is refused, topics of
        unequal partitions. A Kafka that is away is waited for later."""
        # What it complains of is said by whoever waits, and so is what its connections leave
        # behind: this loop is the check's own.
        logging.getLogger("aiokafka").addHandler(logging.NullHandler())
        asyncio.get_running_loop().set_exception_handler(_note)
        await check_access(self.told)
        names = (self.app.topic_names, self.journal.log.topic)
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(kafka_topics.require_equal(self.told, *names), ANSWER_S)

    @property
    def status(self) -> tuple[str, str, float | None]:
        """Whether Kafka is up, down or still to be reached; why, and since when (seconds since
        1970)."""
        if self._watch is None:
            return "starting", "", None
        if self._watch.down_since is not None:
            return "down", self._watch.reason, self._watch.down_since
        return ("up" if self._watch.up.is_set() else "starting"), "", None

    async def reach(self) -> None:
        """Kafka answers, and has every topic: Faust ignores one that is missing for ever."""
        app, settings = self.app, self.settings
        self._watch = Watch(self.told)
        self._watch.listen()
        while not app.should_stop:
            await self._watch.until_it_answers(lambda: app.should_stop)
            if not app.conf.topic_allow_declare or app.should_stop:
                return
            try:
                differ = await kafka_topics.declare(
                    self.told,
                    app.topic_names,
                    self.journal.log.topic,
                    settings.partitions,
                    settings.replication,
                    settings.max_event_bytes,
                )
                await kafka_topics.require_group(self.told, settings.app_id)
            except KafkaError as exc:
                log.debug("declaring topics again: %s", exc)
                await app.sleep(1.0)
            else:
                for sentence in differ:
                    log.warning("Kafka: %s", sentence)
                return

    async def watch_group(self) -> None:
        """What the group refuses is said, and asked for again; what no waiting mends ends the
        worker with a `SettingsError`."""
        app_id, said = self.settings.app_id, ""
        while not self.app.should_stop:
            await self.app.sleep(LOOK_S)
            error = None if self.app.should_stop else await consumer_of(self.app).refusal()
            if isinstance(error, InvalidSessionTimeoutError):
                raise SettingsError(
                    f"PENSTOCK_SESSION_S={self.settings.session_s:g}: Kafka does not allow it. Its"
                    " brokers say what they do: group.min.session.timeout.ms (6000 when it is not"
                    " set) and group.max.session.timeout.ms (1800000)"
                )
            if isinstance(error, InconsistentGroupProtocolError):
                raise SettingsError(
                    f"another program is in the group '{app_id}' on Kafka, and shares work out in"
                    " another way. Give this app a PENSTOCK_APP_ID of its own"
                )
            if error is not None and str(error) != said:
                said = str(error)
                log.warning("Kafka: the group '%s' refuses this worker: %s", app_id, said)

    async def watch_lease(self) -> None:
        """After a suspension no call is made before the group has said what is ours."""
        await self.journal.held.watch(self._begin_again)

    async def _begin_again(self) -> None:
        """Nothing that was in flight goes on: its events are somebody else's by now, or they are
        delivered again."""
        log.warning("This worker was suspended; it asks Kafka what is still its own")
        stages = self.app.stages.values()
        for stage in stages:
            stage.hold()
        for stage in stages:
            await stage.release(())
        consumer = consumer_of(self.app)
        # Else a rebalance comes, and with it another seek.
        with contextlib.suppress(IllegalStateError):
            if await consumer.is_member() and not self._giving_up:
                await consumer.perform_seek()
                consumer.resume_flow()

    async def watch_broker(self) -> None:
        """Says when Kafka goes and when it is back; while it is away no new work is taken."""
        assert self._watch is not None
        await self._watch.run(lambda: self.app.should_stop, self.journal.log.look)

    # -- partitions

    async def give_up(self, consumer: Consumer) -> None:
        """Before partitions are given up: nothing new is taken, and what has ended is committed."""
        app = self.app
        self._giving_up = True
        for stage in app.stages.values():
            stage.hold()
        if app.should_stop:
            await app.drain()
            taken = await self.farewell.wait(self._tell(consumer))
        else:
            # What is left goes on: where its partition comes back, its redelivery joins it.
            limit_s = self.settings.drain_s
            await asyncio.gather(*(stage.pause(limit_s) for stage in app.stages.values()))
            taken = await Farewell(FLUSH_S).wait(self._tell(consumer))
        if not taken:
            log.warning("Kafka does not take what is finished; it will be found finished again")

    async def _tell(self, consumer: Consumer) -> None:
        """What has ended is written and committed."""
        await self.journal.give_up()
        await consumer.commit()

    @property
    def farewell(self) -> Farewell:
        """What is left of a stopping worker's time for Kafka."""
        return farewell_of(self.app)

    async def assigned(self, *_: Any, **__: Any) -> None:
        """After each rebalance, before anything is delivered."""
        app = self.app
        self._giving_up = False
        consumer = consumer_of(app)
        kept = set() if consumer.missed_generation else consumer.assignment()
        lost = [await stage.release(kept) for stage in app.stages.values()]
        if sum(lost):
            log.warning("%d events in flight went to other workers and are done there", sum(lost))
        pause_s = 0.2
        while not app.should_stop:
            try:
                await self.journal.load()
                await self.journal.log.read(
                    {tp.partition for tp in consumer.assignment()},
                    lambda _, key, __: app.cancelled.add(key),
                    cancels.topic_name(self.settings.app_id),
                )
                return
            except KafkaError as exc:
                log.debug("reading the journal again: %s", exc)
            await app.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)

    def sought(self) -> None:
        """The consumer delivers again, from the group's commit on."""
        self.journal.sought()
        if self._giving_up:
            return  # that was the seek of the rebalance before
        for stage in self.app.stages.values():
            stage.resume()

    async def lag(self, topic: str) -> int:
        """How many events of `topic` are not finished by all of its readers, in the whole group.
        Raises `BrokerUnavailable`."""
        return await self._lag.of(topic, self.app.readers.get(topic, ()))

    async def close(self) -> None:
        await self._lag.close()
        if self._watch is not None:
            self._watch.close()

    # -- retention

    async def trim_topics(self, every_s: float) -> None:
        """Now and then, from the beginning of each partition that this worker has: a run's events
        may go before it is over, as each of them carries all that the next step needs."""
        app = self.app
        ends = {
            name
            for chain in app.project.chains.values()
            for name in chain.topics
            if name not in app.readers
        }
        cancelled = cancels.topic_name(self.settings.app_id)
        while not app.should_stop:
            await app.sleep(every_s)
            if app.should_stop:
                return
            self.journal.forget_claims(time.time() - self.settings.retention_s)
            topics: dict[str, dict[int, int | None]] = {}
            for tp, tracker in consumer_of(app).trackers.items():
                if tp.topic == cancelled and tracker.committed is not None:
                    topics.setdefault(tp.topic, {})[tp.partition] = tracker.committed
                elif tp.topic in app.readers and tracker.committed is not None:
                    topics.setdefault(tp.topic, {})[tp.partition] = tracker.committed
                    for name in ends:
                        topics.setdefault(name, {})[tp.partition] = None
            try:
                count = await kafka_topics.trim(
                    self.told, topics, time.time() - self.settings.retention_s
                )
            except KafkaError as exc:
                log.warning("Retention is put off: %s", exc)
            else:
                if count:
                    log.info("Retention: deleted %d records of finished runs", count)
