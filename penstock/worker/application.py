"""The Faust app of a project: its stages, its broker's journal, its event log, its life."""

import asyncio
import concurrent.futures
import gc
import logging
from typing import TYPE_CHECKING, Any

import faust

from penstock.broker.embedded.broker import SoleWorker
from penstock.broker.suspects import Suspects
from penstock.errors import ChainError, SettingsError
from penstock.journal import Journal
from penstock.memory import Memory
from penstock.memory import Status as MemoryStatus
from penstock.models.gate import Outage
from penstock.models.names import resolve
from penstock.project.chains import Chain, StageSpec
from penstock.project.project import Project
from penstock.record import cancels
from penstock.record import dead_letters as deadletters
from penstock.record.dead_letters import DeadLetter
from penstock.record.event_log import EventLog
from penstock.record.events import Event
from penstock.settings import Settings
from penstock.worker.console import show
from penstock.worker.faust_parts import Boot, RawSchema, Tables
from penstock.worker.health import HealthFile, try_sandbox
from penstock.worker.sdk import load_sdk
from penstock.worker.stage import Stage
from penstock.worker.work import Answer, Do, checked, python_step

if TYPE_CHECKING:
    from penstock.broker.kafka.broker import Membership

log = logging.getLogger(__name__)

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
            **_broker(settings),
        )
        self.settings = settings
        self.project = project
        self.seeding = settings.seed
        self.timers = True
        self.stages: dict[str, Stage] = {}
        #: The readers of each topic: an offset is done when all of them are.
        self.readers: dict[str, tuple[str, ...]] = {}
        self.one_worker_topics = project.one_worker_topics
        self.event_log = EventLog(
            settings.logs,
            max_bytes=settings.event_log_bytes,
            files=settings.event_log_files,
            redact=settings.redact if settings.secrets else None,
        )
        self.suspects: Suspects | None = None
        #: The keys of runs that end where they are.
        self.cancelled: set[bytes] = set()
        # One of the two: how this worker stands to its broker.
        self.kafka = None if settings.embedded else _membership(self)
        self.sole = SoleWorker(self) if settings.embedded else None
        self._providers: Any = None
        self._memory: Memory | None = None
        self._health = HealthFile(self)
        #: Whether the sandbox holds, and what is to be said of it; None when it was not tried.
        self.sandbox: tuple[bool, str] | None = None
        self._trying = asyncio.Lock()
        for spec in project.stages:
            self._declare(spec)
        for spec in project.stages:
            if spec.after in self.stages:
                self.stages[spec.name].turn.follow(self.stages[spec.after].turn)
        self._declare_cancels()
        self.task(self.delete_finished_runs)
        if self.kafka is not None:
            self.task(self.kafka.watch_broker)
            self.task(self.kafka.watch_lease)
            self.on_rebalance_complete.connect(self.kafka.assigned)

    # -- stages

    def _declare(self, spec: StageSpec) -> None:
        card = self.project.cards.get(spec.agent or "")
        limit = spec.concurrency or (card.front.concurrency if card else None)
        stage = Stage(self, spec, self._work(spec), limit or self.settings.concurrency)
        self.stages[spec.name] = stage
        self.readers[spec.reads] = (*self.readers.get(spec.reads, ()), spec.name)
        topic = self.topic(
            spec.reads,
            schema=RawSchema(),
            partitions=self.settings.partitions,
        )

        async def consume(stream: Any) -> None:
            await stage.consume(stream)

        consume.__name__ = consume.__qualname__ = spec.name
        consume.__doc__ = f"{spec.does}: {spec.reads} -> {' or '.join(spec.targets) or 'the end'}"
        self.agent(topic, name=spec.name)(consume)

    def _declare_cancels(self) -> None:
        topic = self.topic(
            cancels.topic_name(self.settings.app_id),
            schema=RawSchema(),
            partitions=self.settings.partitions,
        )

        async def cancel_agent_stream(stream: Any) -> None:
            """Ends runs that somebody has cancelled"""
            async for event in stream.events():
                await self.cancel(event.key)

        self.agent(topic, name="cancel_agent_stream")(cancel_agent_stream)

    async def cancel(self, key: bytes) -> None:
        """The run ends where it is: its calls are cut off, its events finished without outputs."""
        self.cancelled.add(key)
        count = sum([await stage.cancel(key) for stage in self.stages.values()])
        log.info(
            "run %s: cancelled, %d events in flight",
            key.decode(errors="replace"),
            count,
            extra={"action": "cancelled"},
        )

    def _work(self, spec: StageSpec) -> Do:
        if spec.step is not None:
            return python_step(self.project.registry.steps[spec.step])
        card = self.project.cards[spec.agent or ""]
        made: list[Do] = []
        look = None if spec.check is None else self.project.registry.steps[spec.check]

        async def do(work: Any) -> Answer:
            if not made:
                # The SDK takes a second to import: not for a command that only reads.
                from penstock.worker.runner import agent_step

                target = resolve(card.front.model, self.settings)
                made.append(agent_step(spec, card, target, self.providers, self.project.registry))
            return await made[0](work)

        return do if look is None else checked(look, do)

    @property
    def providers(self) -> Any:
        if self._providers is None:
            from penstock.models.providers import Providers

            self._providers = Providers(self.settings.redact)
        return self._providers

    @property
    def outages(self) -> list[Outage]:
        """Of each provider that has been called, whether it is up."""
        return [provider.outage for provider in self._providers or ()]

    @property
    def starts(self) -> list[Chain]:
        """The pipelines that this worker seeds and times: those that PENSTOCK_START names, or else
        all but those with `start: manual`."""
        named = self.settings.start
        return [
            chain
            for chain in self.project.chains.values()
            if (chain.name in named if named else chain.start == "automatic")
        ]

    async def can_run(self, chain: Chain) -> bool:
        """Whether all that the pipeline's steps do can be done here: a sandbox that does not hold
        runs no code, and that is said once."""
        if all(spec.step != "sandbox" for spec in chain.stages):
            return True
        async with self._trying:
            return await try_sandbox(self)

    async def open_memory(self) -> Memory:
        """The agents' memory. Opened for the first step that uses it: most pipelines have none."""
        if self._memory is None:
            self._memory = Memory(self.settings)
            await self._memory.start()
        return self._memory

    @property
    def memory_status(self) -> MemoryStatus | None:
        """None while nothing has used the memory."""
        return None if self._memory is None else self._memory.status

    def card_label(self, agent: str | None) -> str | None:
        card = self.project.cards.get(agent or "")
        return card.label if card else None

    # -- the broker

    @property
    def journal(self) -> Journal:
        worker = self.kafka or self.sole
        assert worker is not None
        return worker.journal

    async def lag(self, topic: str) -> int:
        """How many events of `topic` are not finished: what is in flight counts, once. Raises
        `BrokerUnavailable`."""
        worker = self.kafka or self.sole
        assert worker is not None
        return await worker.lag(topic)

    @property
    def topic_names(self) -> list[str]:
        """Every topic of the project, then those of dead letters and of cancelled runs."""
        names = [name for chain in self.project.chains.values() for name in chain.topics]
        app_id = self.settings.app_id
        return [*names, deadletters.topic_name(app_id), cancels.topic_name(app_id)]

    def prepare(self) -> None:
        """The worker can start: the project is sound, the models are named, the embedded file is
        ours and its topics are there. Raises `PenstockError` with what to do."""
        self.project.require_sound()
        for name in self.settings.start:
            try:
                self.project.chain(name)
            except ChainError as exc:
                raise SettingsError(f"PENSTOCK_START: {exc.message}") from exc
        try:
            self.settings.data.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SettingsError(f"PENSTOCK_DATA: the folder cannot be made: {exc}") from exc
        if self.settings.event_log:
            self.event_log.open()
        if any(card.front.recall is not None for card in self.project.cards.values()):
            Memory(self.settings)  # only to see whether its settings can be used
        for spec in self.project.stages:
            if spec.agent is not None:
                resolve(self.project.cards[spec.agent].front.model, self.settings)
        if self.kafka is not None:
            # On a loop of its own: here is one already when a command works by itself.
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, self.kafka.check()).result()
        if self.sole is not None:
            self.sole.open()

    # -- life

    async def on_start(self) -> None:
        # What is imported from here on stays, too: to look through it takes a tenth of a start.
        gc.set_threshold(*COLLECT_AFTER)
        if self.settings.event_log:
            self.event_log.start(asyncio.get_running_loop())
        self._health.start()
        if self.sole is not None:
            self.sole.tell()
        if any(spec.agent is not None for spec in self.project.stages):
            # At the first call the loop would stand still for seconds on a busy machine, and
            # Kafka take the worker for dead.
            await asyncio.to_thread(load_sdk)
        if self.kafka is not None:
            await self.kafka.reach()
            # Not as a task of the app's: those begin when the worker has its partitions.
            self.add_future(self.kafka.watch_group())
        await super().on_start()

    async def on_started(self) -> None:
        await super().on_started()
        # What is there now stays for the worker's life: no collection need look at it again.
        gc.collect()
        gc.freeze()

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        if self.kafka is None:
            await super()._consumer_wait_empty(consumer, logger)
        else:
            await self.kafka.give_up(consumer)

    async def _producer_flush(self, logger: Any) -> None:
        flush = super()._producer_flush(logger)
        if self.kafka is None or not self.should_stop:
            await flush
        else:
            await self.kafka.farewell.wait(flush)

    def sought(self) -> None:
        """Called by the consumer when it delivers again."""
        for stage in self.stages.values():
            stage.sought()
        if self.kafka is not None:
            self.kafka.sought()

    async def drain(self) -> None:
        """Nothing new is taken; calls in flight have ended, or were cancelled at the limit."""
        limit_s = self.settings.drain_s
        busy = sum(stage.in_flight for stage in self.stages.values())
        if busy:
            log.info("Waiting up to %g s for %d events in flight", limit_s, busy)
        left = await asyncio.gather(*(stage.drain(limit_s) for stage in self.stages.values()))
        if sum(left):
            log.warning(
                "%d events were not finished in %g s (PENSTOCK_DRAIN_S); they are taken up again"
                " by the next worker",
                sum(left),
                limit_s,
            )

    async def delete_finished_runs(self) -> None:
        """Now and then, what finished longer ago than the retention is deleted."""
        if not self.settings.retention_s:
            return
        every_s = min(RETENTION_EVERY_S, self.settings.retention_s)
        if self.kafka is not None:
            await self.kafka.trim_topics(every_s)
        if self.sole is not None:
            await self.sole.delete_finished_runs(every_s)

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self._health.stop()
        if self._providers is not None:
            await self._providers.close()
        if self._memory is not None:
            await self._memory.close()
        await asyncio.to_thread(self.event_log.stop)
        if self.kafka is not None:
            await self.kafka.close()
        if self.sole is not None:
            await asyncio.to_thread(self.sole.store.close)

    # -- what people see

    def show(self, text: str) -> None:
        """`text` on the console, past the redirection of print() into the log. It is a model's:
        what would work on the terminal instead of being shown is left out."""
        show(text)

    def finished(self, spec: StageSpec, event: Event, answer: Answer, topics: str) -> None:
        """Called when a step's end is durable, with where its answer went."""
        if log.isEnabledFor(logging.INFO):
            usage = answer.usage
            log.info(
                "run %s: %s -> %s (%s, %.1f s, %d tokens)",
                event.trace_id,
                spec.reads,
                topics or "the end",
                spec.does,
                usage.seconds if usage else 0.0,
                usage.output_tokens if usage else 0,
                extra={"action": "step_finished", "trace_id": event.trace_id},
            )

    def buried(self, spec: StageSpec, letter: DeadLetter) -> None:
        """Called when a dead letter is durable."""


# Kafka's driver takes a tenth of a second to import: for Kafka alone.


def _broker(settings: Settings) -> dict[str, Any]:
    """What Faust is told of the broker."""
    if settings.embedded:
        return {"broker": settings.broker_url}
    from penstock.broker.kafka.connection import credentials
    from penstock.broker.kafka.transport import faust_settings, faust_url

    return {
        "broker": faust_url(settings.broker_url),
        "broker_credentials": credentials(settings),
        **faust_settings(settings),
    }


def _membership(app: PenstockApp) -> "Membership":
    from penstock.broker.kafka.broker import Membership

    return Membership(app)
