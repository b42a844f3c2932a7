"""The Faust app of a project: its stages, its broker's journal, its event log, its life."""

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any

import faust

from penstock.broker import join
from penstock.broker.suspects import Suspects
from penstock.conditions import Condition
from penstock.errors import BrokerUnavailable, PenstockError
from penstock.installation import version
from penstock.journal import Journal
from penstock.models.gate import Gates
from penstock.project.chains import Chain, StageSpec
from penstock.project.project import Project, read_cards
from penstock.record.beginnings import encode, log_begun
from penstock.record.event_log import EventLog
from penstock.record.events import Event
from penstock.settings import Settings
from penstock.signals import (
    CardsRefused,
    CardsTaken,
    RetentionPutOff,
    RunsDeleted,
    Shown,
    Signal,
    Signals,
    write_to_log,
)
from penstock.under_way import UnderWay
from penstock.worker.clients import Clients
from penstock.worker.console import show
from penstock.worker.drift import Drift
from penstock.worker.env import Env
from penstock.worker.faust_parts import Boot, RawSchema, Tables
from penstock.worker.health import HealthFile, name_of
from penstock.worker.interactions import Interactions
from penstock.worker.life import Life
from penstock.worker.readiness import Readiness
from penstock.worker.stages import Stages, add_stages
from penstock.worker.startup import check_cards, check_startup
from penstock.worker.telemetry import Telemetry

#: Seconds between looks for finished runs that are old enough to go.
RETENTION_EVERY_S = 60.0
#: Objects made between two collections of the youngest garbage, and collections between those of
#: older garbage. A step leaves no circles behind, but events in flight are many objects that live
#: for a moment: with Python's own 700, the looking takes a fifth of a worker's time.
COLLECT_AFTER = (50_000, 20, 50)


class PenstockApp(faust.App):
    """One Faust app for all the pipelines of a project."""

    BootStrategy = Boot

    def __init__(self, settings: Settings, project: Project) -> None:
        plan = project.plan(settings.app_id)
        self.signals = Signals()
        self.signals.on(Signal, write_to_log)
        self.broker = join(settings, plan, self.signals)
        self.stages = Stages(self.signals, settings.drain_s)
        super().__init__(
            settings.app_id,
            topic_partitions=settings.partitions,
            topic_disable_leader=True,
            # Not next to the checkout: Faust makes its folders wherever the worker starts.
            datadir=str(settings.data / "faust"),
            autodiscover=False,
            # A stopping worker drains, see `drain`.
            stream_wait_empty=True,
            web_bind="127.0.0.1",
            TableManager=Tables,
            **self.broker.faust_settings(),
        )
        self.settings = settings
        self.project = project
        self.plan = plan
        #: The only pipeline that is worked on, where somebody asked for one run of it.
        self.only: str | None = None
        #: Whether SIGHUP is `reload_cards`.
        self.takes_cards = False
        self.gates = Gates(self.signals)
        self.clients = Clients(settings, self.gates, project.prices)
        self.readiness = Readiness(project.registry, settings, self.gates, self.signals)
        self.life = Life(lambda: self.should_stop, self.sleep)
        self.drift = Drift(project, self.broker.unread, self.life, self.signals)
        self.event_log = EventLog(
            settings.logs,
            max_bytes=settings.event_log_bytes,
            files=settings.event_log_files,
            redact=settings.redactor.json,
        )
        self._health: HealthFile | None = None
        self.under_way: set[UnderWay] = set()
        for spec in project.stages:
            self._declare(spec)
        self._declare_cancels()
        self.task(self.delete_finished_runs)
        self.task(self.drift.watch_topics)
        self.task(self.drift.watch_files)
        for watch in self.broker.background():
            self.task(watch)
        self.on_rebalance_complete.connect(self._assigned)

    def _new_transport(self) -> Any:
        return self.broker.attach(self, self.stages)

    async def _assigned(self, *_: Any, **__: Any) -> None:
        await self.broker.assigned()

    # -- stages

    def _declare(self, spec: StageSpec) -> None:
        topic = self.topic(
            self.broker.name_of(spec.reads),
            schema=RawSchema(),
            partitions=self.settings.partitions,
        )

        async def consume(stream: Any) -> None:
            await self.stages[spec.name].consume(stream)

        consume.__name__ = consume.__qualname__ = spec.name
        consume.__doc__ = f"{spec.does}: {spec.reads} -> {' or '.join(spec.targets) or 'the end'}"
        self.agent(topic, name=spec.name)(consume)

    def _declare_cancels(self) -> None:
        topic = self.topic(
            self.plan.cancels,
            schema=RawSchema(),
            partitions=self.settings.partitions,
        )

        async def cancel_agent_stream(stream: Any) -> None:
            """Ends runs that somebody has cancelled"""
            async for event in stream.events():
                await self.stages.cancel(event.key)

        self.agent(topic, name="cancel_agent_stream")(cancel_agent_stream)

    def conditions(self) -> Iterator[Condition]:
        """Each thing that the worker needs and has asked for, as it is now."""
        yield self.broker.condition
        yield from self.readiness.conditions
        yield from self.clients.conditions
        yield from self.drift.conditions

    # -- the broker

    @property
    def journal(self) -> Journal:
        return self.broker.journal

    @property
    def suspects(self) -> Suspects:
        return self.broker.suspects

    @property
    def cancelled(self) -> set[bytes]:
        """The keys of runs that end where they are."""
        return self.stages.cancelled

    async def lag(self, topic: str) -> int:
        """How many events of `topic` are not finished: what is in flight counts, once. Raises
        `BrokerUnavailable`."""
        return await self.broker.lag(topic)

    async def begin(
        self, chain: Chain, event: Event, *, kept: bool = False, topic: str | None = None
    ) -> bool:
        """The run has begun, at the chain's entry or on `topic`; or it had before, or is another
        worker's to begin (False)."""
        topic = topic or chain.entry_of(event.parts)
        raw = encode(event, self.settings)
        location = await self.broker.begin(topic, event.id, event.key, raw, kept=kept)
        if location is None:
            return False
        log_begun(self.event_log, topic, event, *location)
        return True

    def prepare(self) -> None:
        """The worker can start: the project is sound, the models are named, the embedded file is
        ours and its topics are there. Raises `PenstockError` with what to do."""
        check_startup(self.settings, self.project)
        if self.settings.event_log:
            self.event_log.open()
        assert self.transport is not None  # the broker knows its app from here on
        self.broker.check()

    async def reload_cards(self) -> None:
        """Use the cards as they are on disk now, for steps that begin from here on. When one of
        them cannot be used, all stay as they were, and the log says why."""
        project = self.project
        anew = await asyncio.to_thread(read_cards, project)
        answer: CardsTaken | CardsRefused
        try:
            check_cards(self.settings, anew)
        except PenstockError as exc:
            answer = CardsRefused(exc.message)
        else:
            former = {card.label for card in project.cards.values()}
            labels = (card.label for card in anew.cards.values())
            answer = CardsTaken(tuple(label for label in labels if label not in former))
            project.cards = anew.cards
            project.take_files(anew.files)
            self.stages.take_cards(project, self.settings)
        self.signals.emit(answer)
        if self._health is not None:
            self._health.say_of_reload(str(answer), isinstance(answer, CardsTaken))

    # -- life

    async def on_start(self) -> None:
        # What is imported from here on stays, too: to look through it takes a tenth of a start.
        gc.set_threshold(*COLLECT_AFTER)
        if self.settings.event_log:
            self.event_log.start(asyncio.get_running_loop())
        self._subscribe()
        pipelines = (self.only,) if self.only else tuple(sorted(self.project.chains))
        self._health = HealthFile(
            self.settings,
            pipelines,
            self.project,
            self.conditions,
            self.signals,
            takes_cards=self.takes_cards,
            under_way=self.under_way,
        )
        self._health.start()
        await self.broker.reach()
        add_stages(self.stages, self.project, self._env(), self.clients, self.only)
        self.add_future(self.clients.deliver_notes())
        await super().on_start()

    def _subscribe(self) -> None:
        settings, signals = self.settings, self.signals
        if settings.event_log:
            lines = Interactions(self.event_log, instructions=settings.log_instructions)
            lines.subscribe(signals)
        if self.only is None:
            signals.on(Shown, lambda shown: show(shown.text))
        Telemetry(settings.app_id, self.project.chains, self.begin).subscribe(signals)

    def _env(self) -> Env:
        journal = self.journal

        def undelivered(topic: str) -> bool:
            consumer: Any = self.consumer  # one of our two
            return bool(consumer.undelivered(self.broker.name_of(topic)))

        return Env(
            settings=self.settings,
            signals=self.signals,
            journal=journal,
            gates=self.gates,
            rooms=(journal.room, self.event_log.room),
            suspects=self.suspects,
            cancelled=self.cancelled,
            memory=self.clients.memory,
            worker=name_of(self.settings),
            version=version(),
            under_way=self.under_way,
            generation=lambda: self.consumer_generation_id,
            undelivered=undelivered,
        )

    async def on_started(self) -> None:
        await super().on_started()
        # What is there now stays for the worker's life: no collection need look at it again.
        gc.collect()
        gc.freeze()

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        await self.broker.give_up(consumer, self.should_stop)

    async def _producer_flush(self, logger: Any) -> None:
        await self.broker.flush(super()._producer_flush(logger), self.should_stop)

    async def delete_finished_runs(self) -> None:
        """Now and then, what finished longer ago than the retention is deleted."""
        if not self.settings.retention_s:
            return
        every_s = min(RETENTION_EVERY_S, self.settings.retention_s)
        while not self.should_stop:
            try:
                count = await self.broker.retire(time.time() - self.settings.retention_s)
            except BrokerUnavailable as exc:
                self.signals.emit(RetentionPutOff(str(exc)))
            else:
                if count:
                    self.signals.emit(RunsDeleted(count))
            await self.sleep(every_s)

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        if self._health is not None:
            await self._health.stop()
        await self.clients.close()
        await asyncio.to_thread(self.event_log.stop)
        await self.broker.close()
