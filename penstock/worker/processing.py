"""What becomes of one event in a stage: a step that is tried, then its outputs or a dead letter."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.backoff import Tries
from penstock.broker.suspects import KilledWorker, Suspects
from penstock.errors import EventTooLarge, MalformedEvent, StepFailed
from penstock.journal import Calls, Journal, Places
from penstock.project.chains import StageSpec
from penstock.record import dead_letters as deadletters
from penstock.record import events
from penstock.record.events import Event
from penstock.worker.outputs import make_outputs
from penstock.worker.work import PASSING, Answer, Do, StepWork

if TYPE_CHECKING:
    from penstock.worker.application import PenstockApp

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Flight:
    """One event on its way through the stage, and every message that brought it."""

    message: Any
    repeats: list[Any] = dataclasses.field(default_factory=list)


class Processing:
    """A stage's work on one event after the other, several at a time."""

    def __init__(self, app: "PenstockApp", spec: StageSpec, do: Do) -> None:
        self.app = app
        self.spec = spec
        self._do = do

    async def process(self, flight: Flight) -> None:
        """Processed where a crash leaves a trace of it; alone, when it was there at others."""
        suspects = self.app.suspects
        if suspects is None:
            await self._step(flight)
            return
        try:
            alone = suspects.check(self.spec.name, flight.message)
        except KilledWorker as exc:
            await self._bury(flight, self._read(flight), exc, 0)
            return
        crew = suspects.crew
        if alone:
            async with crew.alone():
                await self._marked(flight, suspects, alone)
            return
        if not crew.join():
            await crew.joined()
        try:
            await self._marked(flight, suspects, alone)
        finally:
            crew.leave()

    async def _marked(self, flight: Flight, suspects: Suspects, alone: bool) -> None:
        slot = suspects.enter(self.spec.name, flight.message, alone)
        try:
            writing = suspects.written(slot)
            if writing is not None:
                await writing
            await self._step(flight)
        finally:
            suspects.leave(slot)

    def _read(self, flight: Flight) -> Event | None:
        try:
            return events.load(flight.message.value)
        except MalformedEvent:
            return None

    async def _step(self, flight: Flight) -> None:
        message = flight.message
        event: Event | None = None
        tries = Tries(self.app.settings.attempts)
        try:
            raw = message.value
            if raw is not None and len(raw) > self.app.settings.max_event_bytes:
                raise EventTooLarge(
                    f"a record of {len(raw)} bytes on '{message.topic}'; the largest event is"
                    f" {self.app.settings.max_event_bytes} (PENSTOCK_MAX_EVENT_BYTES)"
                )
            self.app.journal.refuse(self.spec.name, message)
            event = events.load(raw)
            if event.only is not None and event.only != self.spec.name:
                await self._finish(flight, [], None, lambda _: None)
                return
            if event.replay:
                log.info(
                    "run %s: replay %d for %s; what was recorded is not paid for again",
                    event.trace_id,
                    event.replay,
                    self.spec.name,
                    extra={"action": "replay", "trace_id": event.trace_id},
                )
            self._log("consume", message.topic, event, message.partition, message.offset)
            step = f"{self.spec.name}/{event.id}"
            answer = await self._answer(event, step, message, tries)
            outputs = make_outputs(
                self.spec, event, answer, tries.made, self.app.settings.max_event_bytes
            )
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            await self._bury(flight, event, exc, tries.made)
            return
        rows = [(topic, made.key, raw_) for topic, made, raw_ in outputs]

        def durable(places: Places) -> None:
            targets = self.spec.targets
            told = answer.instructions if self.app.settings.log_instructions else None
            for (topic, made, _), place in zip(outputs, places, strict=True):
                # Once: what is told of the agent stands beside its answer.
                said = told if topic in targets else None
                self._log("produce", topic, made, *place, instructions=said)
            topics = dict.fromkeys(topic for topic, _, _ in outputs if topic in targets)
            self.app.finished(self.spec, event, answer, ", ".join(topics))

        await self._finish(flight, rows, step, durable)

    async def _finish(
        self,
        flight: Flight,
        rows: list[tuple[str, bytes, bytes]],
        step: str | None,
        durable: Callable[[Places], None],
    ) -> None:
        journal: Journal = self.app.journal
        waiting = journal.finish(self.spec.name, flight.message, rows, step, durable)
        if waiting is not None:
            await waiting
        for message in flight.repeats:
            journal.again(self.spec.name, message)

    async def _answer(self, event: Event, step: str, message: Any, tries: Tries) -> Answer:
        """The step's answer, tried again while what it fails by may pass."""
        while True:
            tries.made += 1
            try:
                calls = Calls(self.app.journal, step, message)
                app = self.app
                work = StepWork(event, calls, app.show, app.settings, app.open_memory)
                return await self._do(work)
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                raise StepFailed("the step was cancelled by something that it started") from exc
            except PASSING as exc:
                if tries.spent(exc):
                    raise
                pause_s = tries.pause_s(exc)
                log.warning(
                    "run %s: %s failed (%s); again in %.1f s",
                    event.trace_id,
                    self.spec.name,
                    exc,
                    pause_s,
                    extra={"action": "retry", "trace_id": event.trace_id},
                )
                await asyncio.sleep(pause_s)

    async def _bury(
        self, flight: Flight, event: Event | None, error: Exception, attempts: int
    ) -> None:
        """The event ends as a dead letter, its journal entries kept for a replay."""
        letter = deadletters.write(
            self.spec.pipeline, self.spec.name, flight.message, event, error, attempts
        )
        redact = self.app.settings.redact
        letter = msgspec.structs.replace(
            letter, message=redact(letter.message), detail=redact(letter.detail)
        )
        log.error(
            "run %s ends as a dead letter in %s: %s: %s",
            letter.trace_id,
            self.spec.name,
            letter.cause,
            letter.message,
            extra={"action": "dead_letter", "trace_id": letter.trace_id},
        )
        topic = deadletters.topic_name(self.app.settings.app_id)
        key = flight.message.key or letter.trace_id.encode()

        def durable(places: Places) -> None:
            ((partition, offset),) = places
            self.app.event_log.write(
                "produce",
                topic,
                letter.trace_id,
                letter,
                stage=self.spec.name,
                agent=self.spec.agent,
                card=self.app.card_label(self.spec.agent),
                partition=partition,
                offset=offset,
            )
            self.app.buried(self.spec, letter)

        await self._finish(flight, [(topic, key, deadletters.dump(letter))], None, durable)

    def _log(
        self,
        what: str,
        topic: str,
        event: Event,
        partition: int,
        offset: int,
        instructions: str | None = None,
    ) -> None:
        if not self.app.event_log.writing:
            return
        fields: dict[str, Any] = {
            "stage": self.spec.name,
            "agent": event.agent if what == "produce" else self.spec.agent,
            "card": event.card if what == "produce" else self.app.card_label(self.spec.agent),
            "partition": partition,
            "offset": offset,
        }
        if what == "produce":
            fields["usage"] = event.usage
            if instructions is not None:
                fields["instructions"] = instructions
        self.app.event_log.write(what, topic, event.trace_id, event, **fields)

    async def end_cancelled(self, flight: Flight) -> None:
        """The event is finished without outputs: its run was cancelled."""
        event = self._read(flight)
        step = None if event is None else f"{self.spec.name}/{event.id}"
        await self._finish(flight, [], step, lambda _: None)
