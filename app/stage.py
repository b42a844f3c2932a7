"""A stage: consume, step, produce. The only code behind the app's Faust agents.

Events of one key are processed in their order, those of different keys at the same time, up to
the stage's limit. A step ends in `finish`: its outputs, or a dead letter.
"""

import asyncio
import collections
import dataclasses
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import msgspec

from app import deadletters, events
from app.chains import StageSpec
from app.errors import EventTooLarge, MalformedEvent, StepFailed
from app.events import Event
from app.journal import Calls, Journal, Places
from app.outputs import make_outputs
from app.suspects import KilledWorker, Suspects
from app.turns import Turn
from app.work import PASSING, Answer, Do, StepWork, Tries

if TYPE_CHECKING:
    from app.application import PenstockApp

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Flight:
    """One event on its way through the stage, and every message that brought it."""

    message: Any
    repeats: list[Any] = dataclasses.field(default_factory=list)


class Stage:
    """One stage of a chain, bound to the app that runs it."""

    def __init__(self, app: "PenstockApp", spec: StageSpec, do: Do, limit: int) -> None:
        self.app = app
        self.spec = spec
        self.name = spec.name
        self._do = do
        self._limit = limit
        self._live = 0
        self._free = asyncio.Event()
        self._flights: dict[tuple[Any, int], Flight] = {}
        self._lanes: dict[Any, collections.deque[tuple[Flight, Any]]] = {}
        # asyncio keeps only weak references to tasks: one that nobody holds can vanish.
        self._tasks: dict[asyncio.Task[None], Any] = {}
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._paused = False
        self.turn = Turn(app, spec.reads)

    @property
    def in_flight(self) -> int:
        return self._live

    # -- taking events

    async def consume(self, stream: Any) -> None:
        """Every event of `stream` is taken, in order, as soon as there is room for it."""
        # Looked at by stages that wait for this one, also before its first event.
        turn = self.turn
        buffer = turn.queue = stream.channel.queue
        async for event in stream.noack().events():
            if buffer is not stream.channel.queue:
                buffer = turn.queue = stream.channel.queue
            while True:
                turn.in_hand = True
                await self._admit()
                turn.in_hand = False
                self._take(event.message)
                # What else is in the buffer is taken without another trip through the stream
                # (13,800 -> 16,300 steps a second).
                if buffer.empty():
                    break
                event = buffer.get_nowait()
            turn.look()

    def sought(self) -> None:
        """What was not finished is delivered again from here on."""
        self.turn.dropped = False

    async def _admit(self) -> None:
        """There is room for one more event, here, at the broker and in the event log, and it is
        this stage's turn."""
        while True:
            while self._live >= self._limit:
                self._free.clear()
                await self._free.wait()
            if not await self.turn.come():
                break
        for room in (self.app.journal.room, self.app.event_log.room):
            if not room.is_set():
                await room.wait()

    def _take(self, message: Any) -> None:
        journal = self.app.journal
        late = message.generation_id != self.app.consumer_generation_id
        if late or self._paused or not journal.owns(message):
            # Not acked: it is delivered again, here or to whoever comes next. For one of before a
            # rebalance the seek may have been made by now, and none would follow.
            self.turn.dropped = self.turn.dropped or not late
            return
        if journal.delivered(self.name, message):
            journal.again(self.name, message)
            return
        place = (message.tp, message.offset)
        flight = self._flights.get(place)
        if flight is not None:
            flight.repeats.append(message)
            return
        flight = self._flights[place] = Flight(message)
        self._live += 1
        key = message.key or place
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append((flight, place))
            return
        self._lanes[key] = collections.deque([(flight, place)])
        task = asyncio.get_running_loop().create_task(self._run_lane(key))
        self._tasks[task] = message.tp
        self._running[key] = task
        task.add_done_callback(self._tasks.pop)

    async def _run_lane(self, key: Any) -> None:
        """The events of one key, one after the other."""
        lane = self._lanes[key]
        waited = False
        try:
            # What is left when the stage pauses comes again.
            while lane and not (self._paused and waited):
                flight, place = lane[0]
                try:
                    # On Kafka a crash upstream can send an event twice: one waits for the other.
                    if waited and self.app.journal.is_done(self.name, flight.message):
                        for message in (flight.message, *flight.repeats):
                            self.app.journal.again(self.name, message)
                    elif key in self.app.cancelled:
                        await self._end_cancelled(flight)
                    else:
                        await self._process_watched(flight)
                except Exception:
                    # A fault of ours: the event stays un-acked, and a restart takes it up again.
                    log.exception(
                        "run %s: %s could neither finish nor bury an event",
                        (flight.message.key or b"").decode(errors="replace"),
                        self.name,
                        extra={"action": "stage_fault"},
                    )
                finally:
                    waited = True
                    lane.popleft()
                    del self._flights[place]
                    self._live -= 1
                    if not self._free.is_set():
                        self._free.set()
        finally:
            for _, place in lane:
                del self._flights[place]
                self._live -= 1
            del self._lanes[key], self._running[key]

    async def cancel(self, key: Any) -> int:
        """What is in flight of the run `key` has ended as cancelled, its calls cut off; how many
        events that were."""
        flights = [flight for flight, _ in self._lanes.get(key, ())]
        if flights:
            await _cancel([self._running[key]])
        for flight in flights:
            await self._end_cancelled(flight)
        return len(flights)

    async def _end_cancelled(self, flight: Flight) -> None:
        event = self._read(flight)
        step = None if event is None else f"{self.name}/{event.id}"
        await self._finish(flight, [], step, lambda _: None)

    def hold(self) -> None:
        """Nothing new is taken from here on, until `resume`."""
        self._paused = True

    async def pause(self, limit_s: float) -> int:
        """Nothing new is taken; what is in flight has ended, or `limit_s` has passed. How many are
        left."""
        self.hold()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)
        return self._live

    async def release(self, kept: Collection[Any]) -> int:
        """What is in flight of other partitions than `kept` was cancelled, and stays un-acked for
        whoever has them now. How many those were."""
        lost = [task for task, tp in self._tasks.items() if tp not in kept]
        await _cancel(lost)
        return len(lost)

    def resume(self) -> None:
        """Events are taken again."""
        self._paused = False

    async def drain(self, limit_s: float) -> int:
        """Nothing new is taken; what is in flight has ended, or was cancelled after `limit_s` and
        stays un-acked. How many were cancelled."""
        count = await self.pause(limit_s)
        await _cancel(list(self._tasks))
        return count

    # -- one event

    async def _process_watched(self, flight: Flight) -> None:
        """Processed where a crash leaves a trace of it; alone, when it was there at others."""
        suspects = self.app.suspects
        if suspects is None:
            await self._process(flight)
            return
        try:
            alone = suspects.check(self.name, flight.message)
        except KilledWorker as exc:
            await self._bury(flight, self._read(flight), exc, 0)
            return
        crew = suspects.crew
        if alone:
            async with crew.alone():
                await self._process_marked(flight, suspects, alone)
            return
        if not crew.join():
            await crew.joined()
        try:
            await self._process_marked(flight, suspects, alone)
        finally:
            crew.leave()

    async def _process_marked(self, flight: Flight, suspects: Suspects, alone: bool) -> None:
        slot = suspects.enter(self.name, flight.message, alone)
        try:
            writing = suspects.written(slot)
            if writing is not None:
                await writing
            await self._process(flight)
        finally:
            suspects.leave(slot)

    def _read(self, flight: Flight) -> Event | None:
        try:
            return events.load(flight.message.value)
        except MalformedEvent:
            return None

    async def _process(self, flight: Flight) -> None:
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
            event = events.load(raw)
            if event.only is not None and event.only != self.name:
                await self._finish(flight, [], None, lambda _: None)
                return
            if event.replay:
                log.info(
                    "run %s: replay %d for %s; what was recorded is not paid for again",
                    event.trace_id,
                    event.replay,
                    self.name,
                    extra={"action": "replay", "trace_id": event.trace_id},
                )
            self._log("consume", message.topic, event, message.partition, message.offset)
            step = f"{self.name}/{event.id}"
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
            for (topic, made, _), place in zip(outputs, places, strict=True):
                told = answer.instructions if self.app.settings.log_instructions else None
                self._log("produce", topic, made, *place, instructions=told)
            topics = dict.fromkeys(topic for topic, _, _ in outputs)
            self.app.finished(self, event, answer, ", ".join(topics))

        await self._finish(flight, rows, step, durable)

    async def _finish(
        self,
        flight: Flight,
        rows: list[tuple[str, bytes, bytes]],
        step: str | None,
        durable: Callable[[Places], None],
    ) -> None:
        journal: Journal = self.app.journal
        waiting = journal.finish(self.name, flight.message, rows, step, durable)
        if waiting is not None:
            await waiting
        for message in flight.repeats:
            journal.again(self.name, message)

    async def _answer(self, event: Event, step: str, message: Any, tries: Tries) -> Answer:
        """The step's answer, tried again while what it fails by may pass."""
        while True:
            tries.made += 1
            try:
                calls = Calls(self.app.journal, step, message)
                work = StepWork(event, calls, self.app.show, self.app.settings.data)
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
                    self.name,
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
            self.spec.pipeline, self.name, flight.message, event, error, attempts
        )
        redact = self.app.settings.redact
        letter = msgspec.structs.replace(
            letter, message=redact(letter.message), detail=redact(letter.detail)
        )
        log.error(
            "run %s ends as a dead letter in %s: %s: %s",
            letter.trace_id,
            self.name,
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
                stage=self.name,
                agent=self.spec.agent,
                card=self.app.card_label(self.spec.agent),
                partition=partition,
                offset=offset,
            )
            self.app.buried(self, letter)

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
            "stage": self.name,
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


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
