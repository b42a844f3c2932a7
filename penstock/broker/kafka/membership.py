"""A worker's membership of its group on Kafka: start, partitions, retention, stop."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
from aiokafka.errors import (
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
)

from penstock.broker.contract import Location, Plan, Stages, Unread
from penstock.broker.kafka import topics as kafka_topics
from penstock.broker.kafka.apps import require_alone
from penstock.broker.kafka.clients import ShutdownBudget
from penstock.broker.kafka.connection import check_access, connection, credentials
from penstock.broker.kafka.handover import Handover
from penstock.broker.kafka.journal import KafkaJournal
from penstock.broker.kafka.lag import Lag
from penstock.broker.kafka.lease import Lease
from penstock.broker.kafka.log import KafkaLog, Room
from penstock.broker.kafka.problems import Problems
from penstock.broker.kafka.standing import Standing
from penstock.broker.kafka.transport import Consumer, Transport, faust_settings, faust_url
from penstock.broker.kafka.watch import ANSWER_S, Watch
from penstock.conditions import DOWN, STARTING, UP, Condition
from penstock.errors import BrokerUnavailable, PenstockError, SettingsError
from penstock.settings import Settings
from penstock.signals import (
    GroupRefuses,
    PartitionsChanged,
    Signals,
    TopicMadeAnew,
    TopicsDiffer,
)

log = logging.getLogger(__name__)

#: Seconds that a worker waits for Kafka to take what is finished, before it gives partitions up.
FLUSH_S = 5.0
#: Seconds between looks for what the group refuses.
LOOK_S = 1.0
#: What keeps the worker from work while the topics are not as they must be.
TOPICS = "topics"
#: Why they cannot be made anew.
DECLARING = "declaring"


def _note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("while Kafka was asked: %s", context)


class GroupMember:
    """A worker as a member of its group."""

    _app: faust.App
    _stages: Stages
    _transport: Transport
    _handover: Handover

    def __init__(self, settings: Settings, plan: Plan, signals: Signals) -> None:
        self.settings = settings
        self.plan = plan = plan.prefixed(settings.topic_prefix)
        self._signals = signals
        self._connection = connection(settings)
        room = Room()
        self._log = KafkaLog(lambda: self._app.producer, self._connection, room)
        self.journal = KafkaJournal(
            plan,
            self._log,
            room,
            self._consumer,
            self._log.partition_of,
            Lease(settings.session_s),
            Problems(signals),
        )
        self.suspects = self.journal.suspects
        self._lag = Lag(self.journal, plan.app_id, self._connection)
        self._watch = Watch(self._connection, signals)

    def name_of(self, topic: str) -> str:
        return self.plan.on_broker(topic)

    def faust_settings(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "broker": faust_url(settings.broker_url),
            "broker_credentials": credentials(settings),
            **faust_settings(settings),
        }

    def attach(self, app: faust.App, stages: Stages) -> Transport:
        self._app = app
        self._stages = stages
        self._handover = Handover(self.journal, stages, self._consumer, self._signals)
        self._transport = Transport(
            app.conf.broker_consumer,
            app,
            problems=self._handover.problems,
            on_seek=self._handover.on_seek,
            on_lost=self._handover.on_lost,
            names={topic: self.plan.in_chain(topic) for topic in self.plan.readers},
        )
        return self._transport

    def _consumer(self) -> Consumer:
        consumer = self._app.consumer
        assert isinstance(consumer, Consumer)
        return consumer

    def _stopping(self) -> bool:
        return bool(self._app.should_stop)

    # -- before and at the start

    def check(self) -> None:
        """Find what waiting cannot mend: a password or a certificate that is refused, topics of
        unequal partitions. A Kafka that is away is no error here; `reach` waits for it."""
        # On a loop of its own: here is one already when a command works by itself.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self._check()).result()

    async def _check(self) -> None:
        # What it complains of is said by whoever waits, and so is what its connections leave
        # behind: this loop is the check's own.
        logging.getLogger("aiokafka").addHandler(logging.NullHandler())
        asyncio.get_running_loop().set_exception_handler(_note)
        await check_access(self._connection)
        names = (self.plan.topics, self.journal.topic)
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(kafka_topics.require_equal(self._connection, *names), ANSWER_S)
            await asyncio.wait_for(self._require_alone(), ANSWER_S)

    async def _require_alone(self) -> None:
        if not self.settings.shared_topics:
            await require_alone(self._connection, self.plan.app_id, self.plan.readers)

    async def reach(self) -> None:
        """Wait until Kafka answers, and make missing topics: Faust would ignore them for ever."""
        self._watch.listen()
        await self._declare()
        # Not as one of the app's tasks: those begin when the worker has its partitions.
        self._app.add_future(self._watch_group())
        self._app.add_future(self._watch_topics())

    async def _declare(self) -> None:
        app, settings = self._app, self.settings
        while not app.should_stop:
            await self._watch.until_it_answers(self._stopping)
            if not app.conf.topic_allow_declare or app.should_stop:
                return
            try:
                await self._declare_missing()
                await kafka_topics.require_group(self._connection, settings.app_id)
                await self._require_alone()
            except KafkaError as exc:
                log.debug("declaring topics again: %s", exc)
                await app.sleep(1.0)
            else:
                return

    async def _declare_missing(self) -> None:
        settings = self.settings
        differ = await kafka_topics.declare(
            self._connection,
            self.plan.topics,
            self.journal.topic,
            settings.partitions,
            settings.replication,
            settings.max_event_bytes,
        )
        for sentence in differ:
            self._signals.emit(TopicsDiffer(sentence))

    @property
    def condition(self) -> Condition:
        url, watch = self.settings.redact(self.settings.broker_url), self._watch
        if watch.down_since is not None:
            return Condition("broker", DOWN, f"{url}: {watch.reason}", watch.down_since)
        problems = self._handover.problems
        if problems.reason:
            return Condition("broker", DOWN, f"{url}: {problems.reason}", problems.since)
        return Condition("broker", UP if watch.up.is_set() else STARTING, url)

    # -- beside the stages

    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return self._watch_broker, self._watch_lease

    async def _watch_group(self) -> None:
        """Log why the group refuses this worker, while it asks again. What waiting cannot mend ends
        the worker with a `SettingsError`."""
        app_id, said = self.settings.app_id, ""
        while not self._app.should_stop:
            await self._app.sleep(LOOK_S)
            error = None if self._app.should_stop else await self._consumer().refusal()
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
                self._signals.emit(GroupRefuses(app_id, said))

    async def _watch_topics(self) -> None:
        """Notice when topics are deleted, made anew or given partitions, or lose records unread."""
        names = [*self.plan.topics, self.journal.topic]
        before: dict[str, Standing] = {}
        while not self._app.should_stop:
            await self._app.sleep(LOOK_S)
            with contextlib.suppress(KafkaError):  # `Watch` says when it does not answer
                there = await self._log.standing(names)
                if await self._can_work_on(names, there):
                    await self._compare(before, there)
                    before = there
                await self._consumer().explain_gaps()

    async def _can_work_on(self, names: list[str], there: Mapping[str, Standing]) -> bool:
        """Return whether all topics are there, with equal numbers of partitions. Until they are, no
        work is taken; those that were deleted are made anew."""
        problems, room = self._handover.problems, self.journal.room
        missing = [f"'{name}'" for name in names if name not in there]
        if missing and not self._app.conf.topic_allow_declare:
            return False  # whoever makes the topics may not have come to them yet
        counts = {name: topic.partitions for name, topic in there.items()}
        wrong = kafka_topics.unequal(counts)
        if missing:
            wrong = f"the topics {', '.join(missing)} were deleted, and are made anew, empty."
        if wrong is None:
            problems.over(TOPICS)
            room.open(TOPICS)
            return True
        problems.note(TOPICS, f"{wrong} No new work is taken until then.")
        room.shut(TOPICS)
        if missing:
            try:
                await self._declare_missing()
            except PenstockError as exc:
                problems.note(DECLARING, exc.message)
            else:
                problems.over(DECLARING)
        return False

    async def _compare(self, before: Mapping[str, Standing], there: Mapping[str, Standing]) -> None:
        """Find what changed since the topics stood as `before`."""
        read = self.plan.readers
        for name, topic in there.items():
            if name not in read and before and before[name].id != topic.id:
                is_journal = name == self.journal.topic
                if is_journal:
                    await self.journal.write_again()
                then = (
                    "This worker wrote again what it knew" if is_journal else "What it held is gone"
                )
                self._signals.emit(TopicMadeAnew(name, topic.id, then))
        partitions = next(iter(there.values())).partitions
        had = next(iter(before.values())).partitions if before else partitions
        if had != partitions:
            self._signals.emit(PartitionsChanged(had, partitions))
        await self._log.see({name: topic.partitions for name, topic in there.items()})
        shared = [*read, self.plan.cancels]
        await self._consumer().see({name: there[name].partitions for name in shared})
        if anew := self.journal.others({name: there[name] for name in read}):
            await self._handover.begin_anew(anew)

    async def _watch_lease(self) -> None:
        """Notice when this process was suspended, and ask the group what is still ours."""
        await self.journal.held.watch(self._handover.begin_again)

    async def _watch_broker(self) -> None:
        """Notice when Kafka goes away and when it is back. Meanwhile no new work is taken."""
        await self._watch.run(self._stopping, self._log.look)

    # -- partitions

    async def assigned(self) -> None:
        pause_s = 0.2
        await self._handover.assigned()
        while not self._app.should_stop:
            try:
                await self._handover.load()
                return
            except KafkaError as exc:
                log.debug("reading the journal again: %s", exc)
            await self._app.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)

    async def give_up(self, consumer: Consumer, stopping: bool) -> None:
        """Give the partitions up, within the time that there is for it."""
        # What is left of a member that goes on goes on, too: where its partition comes back, its
        # redelivery joins it.
        budget = self._transport.shutdown if stopping else ShutdownBudget(FLUSH_S)
        await self._handover.give_up(None if stopping else self.settings.drain_s, budget)

    async def flush(self, flushing: Awaitable[None], stopping: bool) -> None:
        if stopping:
            await self._transport.shutdown.wait(flushing)
        else:
            await flushing

    async def close(self) -> None:
        await self._lag.close()
        await self._log.close()
        self._watch.close()

    # -- what it does

    async def begin(
        self, topic: str, id_: str, key: bytes, value: bytes, *, kept: bool = False
    ) -> Location | None:
        return await self.journal.begin(topic, id_, key, value, kept)

    async def lag(self, topic: str) -> int:
        topic = self.plan.on_broker(topic)
        return await self._lag.of(topic, self.plan.readers.get(topic, ()))

    async def unread(self) -> list[Unread]:
        return [
            dataclasses.replace(one, topic=self.plan.in_chain(one.topic))
            for one in await self._lag.unread()
        ]

    async def retire(self, before_s: float) -> int:
        """Delete from the beginning of each partition that this worker has. A run's events may go
        before it is over, as each of them carries all that the next step needs."""
        self.journal.retire(before_s)
        topics = kafka_topics.finished(self.plan, self._consumer().trackers)
        try:
            return await kafka_topics.trim(self._connection, topics, before_s)
        except KafkaError as exc:
            raise BrokerUnavailable(str(exc)) from exc
