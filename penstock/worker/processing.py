"""Processing: what becomes of one event in a stage, decided before anything is written."""

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.backoff import Tries
from penstock.errors import EventTooLarge, MalformedEvent, StepFailed
from penstock.journal import Calls, Output
from penstock.project.chains import Chain, StageSpec
from penstock.project.plain import begin_plain
from penstock.record import dead_letters, events
from penstock.record.beginnings import encode
from penstock.record.events import Event
from penstock.record.steps import (
    CANCELLED,
    DEAD,
    DONE,
    QUEUE,
    SKIPPED,
    StepRecord,
    dead,
    dump,
    shortened,
)
from penstock.signals import (
    DeadLettered,
    EventCancelled,
    EventSkipped,
    EventTaken,
    LoopEnded,
    Outputs,
    PlainBegun,
    Replayed,
    Retried,
    Signal,
    StageLabel,
    StepFinished,
)
from penstock.under_way import UnderWay, step_under_way
from penstock.worker.env import Env
from penstock.worker.outputs import make_outputs
from penstock.worker.work import PASSING, Answer, Do, StepWork


class Ending(msgspec.Struct, frozen=True):
    """How an event ends in a stage: all of it is durable at once, and `signal` is emitted then.

    `outputs` go onto their topics, be they the step's or a dead letter. `step` is the one whose
    journal entries go; with None they stay, so that a replay of the event pays nothing again.
    """

    signal: Signal
    outputs: Sequence[Output] = ()
    step: str | None = None
    #: The step record; empty where there was no event to do a step with.
    record: bytes = b""


@dataclasses.dataclass(slots=True)
class Flight:
    """One event on its way through a stage, and every message that brought it."""

    message: Any
    #: When it was taken behind another event of its run, in seconds since 1970.
    taken: float | None = None
    #: What was done with it so far.
    step: UnderWay | None = None
    repeats: list[Any] = dataclasses.field(default_factory=list)


class Processing:
    """Decides how the events of one stage end. Knows no broker: writing is the stage's."""

    def __init__(self, spec: StageSpec, do: Do, accepting: Chain | None = None) -> None:
        self.spec = spec
        self._do = do
        self._accepting = accepting
        self.label = StageLabel(
            spec.name, spec.pipeline, spec.reads, spec.does, tuple(spec.targets), spec.agent
        )

    def use_card(self, label: str | None) -> None:
        """The agent's card is called `label` from here on."""
        self.label = msgspec.structs.replace(self.label, card=label)

    async def process(
        self, message: Any, env: Env, flight: Flight | None = None, deaths: int = 0
    ) -> Ending:
        """Do the stage's step with the event in `message`, and return what came of it: its outputs,
        or a dead letter for whatever it raises. What is done is on `flight` meanwhile. So many
        workers have died in the step before."""
        event: Event | None = None
        now: UnderWay | None = None
        answer: Answer | None = None
        tries = Tries(env.settings.attempts)
        try:
            env.journal.refuse(self.spec.name, message)
            self._check_size(message, env.settings.max_event_bytes)
            if self._accepting is not None and not events.is_envelope(message.value):
                return self._begin(self._accepting, message, env)
            event = events.load(message.value)
            events.require_key(event, message.key)
            if event.only is not None and event.only != self.spec.name:
                record = self._record(message, event, env, SKIPPED)
                return Ending(EventSkipped(self.label, event), record=record)
            if event.replay:
                env.signals.emit(Replayed(self.label, event))
            env.signals.emit(
                EventTaken(self.label, event, message.topic, message.partition, message.offset)
            )
            step = f"{self.spec.name}/{event.id}"
            now = UnderWay(event.trace_id, self.label.does)
            if flight is not None:
                flight.step = now
                if flight.taken is not None:
                    now.held(QUEUE, "an earlier event of its run", flight.taken)
            env.under_way.add(now)
            step_under_way.set(now)
            try:
                answer = await self._answer(event, step, message, tries, env, now)
            finally:
                env.under_way.discard(now)
            outputs = make_outputs(self.spec, event, answer, tries.made, env.settings)
        except Exception as exc:
            exchange = getattr(exc, "exchange", None)
            if answer is not None and answer.exchange is not None:
                exchange = answer.exchange()
            if now is not None:
                now.failed(exc)
            return self.dead_letter(message, event, exc, tries.made, env, exchange, now, deaths)
        ended = result = ""
        for topic, output, _ in outputs:
            if output.ended and output.ended != event.ended:
                ended = output.ended
                env.signals.emit(LoopEnded(self.label, event, topic, ended))
        if answer.values and not outputs:
            result = shortened(answer.values[0], env.settings.record_text)
        return Ending(
            StepFinished(self.label, event, outputs, answer.usage, answer.instructions),
            [(topic, output.key, raw) for topic, output, raw in outputs],
            step,
            self._record(message, event, env, DONE, now, deaths, ended, outputs, result),
        )

    def _record(
        self,
        message: Any,
        event: Event,
        env: Env,
        end: str,
        now: UnderWay | None = None,
        deaths: int = 0,
        error: str = "",
        outputs: Outputs = (),
        result: str = "",
    ) -> bytes:
        """Return the step's record as it is written, without secrets."""
        label, ended = self.label, time.time()
        record = StepRecord(
            trace_id=event.trace_id,
            event=event.id,
            pipeline=label.pipeline,
            stage=label.name,
            does=label.does,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            end=end,
            created=event.created,
            taken=ended if now is None else now.since,
            ended=ended,
            replay=event.replay,
            card=outputs[0][1].card if outputs else label.card,
            worker=env.worker,
            version=env.version,
            deaths=deaths,
            holds=[] if now is None else now.holds,
            tries=[] if now is None else now.tries,
            calls=[] if now is None else now.calls,
            outputs=[(topic, output.id) for topic, output, _ in outputs],
            result=result,
            error=error,
        )
        return env.settings.redactor.record(dump(record))

    def dead_letter(
        self,
        message: Any,
        event: Event | None,
        error: Exception,
        attempts: int,
        env: Env,
        exchange: dead_letters.Exchange | None = None,
        now: UnderWay | None = None,
        deaths: int = 0,
    ) -> Ending:
        """Return the end of an event that cannot be processed. `event` is what was read of it, and
        `exchange` what a model was asked about it and said."""
        settings = env.settings
        written = dead_letters.write(
            self.spec.pipeline, self.spec.name, message, event, error, attempts
        )
        written = msgspec.structs.replace(
            written,
            message=settings.redact(written.message),
            detail=settings.redact(written.detail),
            exchange=None if exchange is None else exchange.redacted(settings.redact),
        )
        raw = dead_letters.dump(written)
        if len(raw) > 2 * settings.max_event_bytes:
            # The record is what must be kept, and a topic on Kafka takes little more than that.
            written = msgspec.structs.replace(written, exchange=None)
            raw = dead_letters.dump(written)
        topic = dead_letters.topic_name(settings.app_id)
        key = message.key or written.trace_id.encode()
        record = b""
        if event is not None:
            said = f"{type(error).__name__}: {error}"
            record = self._record(message, event, env, DEAD, now, deaths, said)
        return Ending(DeadLettered(self.label, topic, written), [(topic, key, raw)], record=record)

    def refused(self, message: Any, ending: Ending, error: EventTooLarge, env: Env) -> Ending:
        """Return the end of an event in the place of `ending`, which the broker does not take for
        its size: a dead letter, and in the place of a dead letter one that does not hold the
        record. Raises `error` when that is refused, too."""
        signal = ending.signal
        record = dead(ending.record, f"{type(error).__name__}: {error}") if ending.record else b""
        if not isinstance(signal, DeadLettered):
            ending = self.dead_letter(message, _readable(message), error, 1, env)
            return msgspec.structs.replace(ending, record=record)
        dead_letter = signal.dead_letter
        if dead_letter.record is None:
            raise error
        shorter = dead_letters.without_record(dead_letter, error.message)
        (topic, key, _), *_ = ending.outputs
        return Ending(
            DeadLettered(self.label, topic, shorter),
            [(topic, key, dead_letters.dump(shorter))],
            record=record,
        )

    def killed(self, message: Any, error: Exception, env: Env) -> Ending:
        """Return the end of an event that must not be processed, because it kills its worker."""
        return self.dead_letter(message, _readable(message), error, 0, env)

    def cancelled(self, message: Any, env: Env, now: UnderWay | None = None) -> Ending:
        """Return the end of an event whose run was cancelled, also in the middle of the step
        `now`."""
        event = _readable(message)
        if event is None:
            trace_id = (message.key or b"").decode(errors="replace")
            return Ending(EventCancelled(self.label, trace_id))
        step = f"{self.spec.name}/{event.id}"
        record = self._record(message, event, env, CANCELLED, now)
        return Ending(EventCancelled(self.label, event.trace_id), step=step, record=record)

    def _begin(self, chain: Chain, message: Any, env: Env) -> Ending:
        """Return the end of a plain record: its run begins, as an event on the same topic."""
        event = begin_plain(
            chain,
            f"{message.topic}/{message.partition}/{message.offset}",
            message.key,
            message.value,
        )
        first = next(stage.name for stage in chain.stages if stage.reads == self.spec.reads)
        if first != self.spec.name:
            return Ending(EventSkipped(self.label, msgspec.structs.replace(event, only=first)))
        raw = encode(event, env.settings)
        outputs = [(message.topic, event, raw)]
        return Ending(PlainBegun(self.label, event, outputs), [(message.topic, event.key, raw)])

    def _check_size(self, message: Any, max_bytes: int) -> None:
        raw = message.value
        if raw is not None and len(raw) > max_bytes:
            raise EventTooLarge(
                f"a record of {len(raw)} bytes on '{message.topic}'; the largest event is"
                f" {max_bytes} (PENSTOCK_MAX_EVENT_BYTES)"
            )

    async def _answer(
        self, event: Event, step: str, message: Any, tries: Tries, env: Env, now: UnderWay
    ) -> Answer:
        """The step's answer, tried again while what it fails by may pass."""
        while True:
            tries.made += 1
            try:
                redact = env.settings.redactor.record
                calls = Calls(
                    env.journal, step, message, event.anew, event.replay, redact, now.calls
                )
                return await self._do(StepWork(event, calls, env, self.spec.name))
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                raise StepFailed("the step was cancelled by something that it started") from exc
            except PASSING as exc:
                if tries.spent(exc):
                    raise
                pause_s = tries.pause_s(exc)
                now.failed(exc, pause_s)
                env.signals.emit(Retried(self.label, event, exc, pause_s))
                now.next_try(exc, pause_s)
                await asyncio.sleep(pause_s)
                now.waits, now.began = None, time.time()


def _readable(message: Any) -> Event | None:
    try:
        return events.load(message.value)
    except MalformedEvent:
        return None
