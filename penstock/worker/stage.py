"""A stage: consume, step, produce. The only code behind the app's Faust agents.

Events of one run are processed in their order, those of different runs at the same time, up to
the stage's limit. How each ends is decided in `penstock.worker.processing`, and written here.
"""

import asyncio
import collections
import time
from collections.abc import Collection
from typing import Any

from penstock.broker.suspects import KilledWorker, Suspects
from penstock.errors import EventTooLarge
from penstock.project.chains import Chain, StageSpec
from penstock.signals import Positions, StageFailed, SuspectAlone
from penstock.worker.backlog import Backlog
from penstock.worker.env import Env
from penstock.worker.processing import Ending, Flight, Processing
from penstock.worker.work import Do


class Stage:
    """One stage of a chain, in one worker. With `idle` it takes nothing, ever: it is here for
    another pipeline. `accepting` is the chain where plain records on the stage's topic begin
    runs."""

    def __init__(
        self,
        env: Env,
        spec: StageSpec,
        do: Do,
        limit: int,
        *,
        accepting: Chain | None = None,
        idle: bool = False,
    ) -> None:
        self.env = env
        self.spec = spec
        self.name = spec.name
        self.idle = idle
        self.backlog = Backlog(spec.reads, env.undelivered)
        self._waits_for: Backlog | None = None
        self._processing = Processing(spec, do, accepting)
        self._limit = limit
        self._live = 0
        self._free = asyncio.Event()
        self._flights: dict[tuple[Any, int], Flight] = {}
        #: The events in flight of each run, in their order. A record without a key is a run.
        self._queues: dict[Any, collections.deque[tuple[Flight, Any]]] = {}
        # asyncio keeps only weak references to tasks: one that nobody holds can vanish.
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._paused = False

    @property
    def in_flight(self) -> int:
        return self._live

    def take_card(self, label: str | None, limit: int) -> None:
        """From here on, the agent's card is called `label`, and `limit` events may be in flight."""
        self._processing.use_card(label)
        self._limit = limit
        self._free.set()

    def wait_for(self, ahead: "Stage") -> None:
        """From here on, take nothing while `ahead` has events to take."""
        self._waits_for = ahead.backlog
        ahead.backlog.is_watched = True

    # -- taking events

    async def consume(self, stream: Any) -> None:
        """Every event of `stream` is taken, in order, as soon as there is room for it."""
        # Looked at by stages that wait for this one, also before its first event.
        backlog = self.backlog
        buffer = backlog.queue = stream.channel.queue
        async for event in stream.noack().events():
            if buffer is not stream.channel.queue:
                buffer = backlog.queue = stream.channel.queue
            while True:
                backlog.in_hand = True
                await self._admit()
                backlog.in_hand = False
                self._take(event.message)
                # What else is in the buffer is taken without another trip through the stream
                # (13,800 -> 16,300 steps a second).
                if buffer.empty():
                    break
                event = buffer.get_nowait()
            backlog.look()

    def on_seek(self) -> None:
        """What was not finished is delivered again from here on."""
        self.backlog.dropped = False

    async def _admit(self) -> None:
        """Wait until there is room for one more event here, at the broker and in the event log, and
        the stage that goes first has none to take."""
        while True:
            while self._live >= self._limit:
                self._free.clear()
                await self._free.wait()
            if self._waits_for is None or not self._waits_for.is_open():
                break
            await self._waits_for.clear()
        for room in self.env.rooms:
            if not room.is_set():
                await room.wait()

    def _take(self, message: Any) -> None:
        journal = self.env.journal
        late = message.generation_id != self.env.generation()
        if late or self._paused or self.idle or not journal.owns(message):
            # Not acked: it is delivered again, here or to whoever comes next. For one of before a
            # rebalance the seek may have been made by now, and none would follow.
            self.backlog.dropped = self.backlog.dropped or not late
            return
        if journal.delivered(self.name, message):
            journal.again(self.name, message)
            return
        position = (message.tp, message.offset)
        flight = self._flights.get(position)
        if flight is not None:
            flight.repeats.append(message)
            return
        flight = self._flights[position] = Flight(message)
        self._live += 1
        key = message.key or position
        queue = self._queues.get(key)
        if queue is not None:
            flight.taken = time.time()
            queue.append((flight, position))
            return
        self._queues[key] = collections.deque([(flight, position)])
        self._running[key] = asyncio.get_running_loop().create_task(self._run(key))

    def _close(self, key: Any) -> None:
        """Forget the run's queue; what is left in it is delivered again."""
        del self._running[key]
        for _, position in self._queues.pop(key):
            del self._flights[position]
            self._live -= 1
        self._free.set()

    # -- processing them

    async def _run(self, key: Any) -> None:
        """The events of one run have ended, one after the other."""
        queue = self._queues[key]
        waited = False
        try:
            # What is left when the stage pauses is delivered again.
            while queue and not (self._paused and waited):
                flight, position = queue[0]
                try:
                    # On Kafka a crash upstream can send an event twice: one waits for the other.
                    if waited and self.env.journal.is_done(self.name, flight.message):
                        for message in (flight.message, *flight.repeats):
                            self.env.journal.again(self.name, message)
                    elif key in self.env.cancelled:
                        ending = self._processing.cancelled(flight.message, self.env)
                        await self._finish(flight, ending)
                    else:
                        await self._process(flight)
                except Exception as exc:
                    # A fault of ours: the event stays un-acked, and a restart takes it up again.
                    trace_id = (flight.message.key or b"").decode(errors="replace")
                    label = self._processing.label
                    self.env.signals.emit(StageFailed(label, trace_id, exc))
                finally:
                    waited = True
                    queue.popleft()
                    del self._flights[position]
                    self._live -= 1
                    if not self._free.is_set():
                        self._free.set()
        finally:
            self._close(key)

    async def _process(self, flight: Flight) -> None:
        """Process the event, marked so that a crash leaves a trace of it; one that was in flight at
        deaths of a worker when it may."""
        suspects = self.env.suspects
        if suspects is None:
            ending = await self._processing.process(flight.message, self.env, flight)
            await self._finish(flight, ending)
            return
        try:
            suspect = suspects.find(self.name, flight.message)
        except KilledWorker as exc:
            await self._finish(flight, self._processing.killed(flight.message, exc, self.env))
            return
        if suspect is not None:
            async with suspects.search.admitted(suspect) as alone:
                if alone:
                    trace_id = (flight.message.key or b"").decode(errors="replace")
                    self.env.signals.emit(SuspectAlone(self._processing.label, trace_id))
                await self._end_marked(flight, suspects, alone)
            return
        concurrency = suspects.search.concurrency
        if not concurrency.join():
            await concurrency.joined()
        try:
            await self._end_marked(flight, suspects, alone=False)
        finally:
            concurrency.leave()

    async def _end_marked(self, flight: Flight, suspects: Suspects, alone: bool) -> None:
        slot, ended = suspects.enter(self.name, flight.message, alone), False
        try:
            writing = suspects.written(slot)
            if writing is not None:
                await writing
            message, deaths = flight.message, 0
            if suspects.search.knows_deaths:
                deaths = suspects.deaths(self.name, message)
            ending = await self._processing.process(message, self.env, flight, deaths)
            await self._finish(flight, ending)
            ended = True
        finally:
            suspects.leave(slot, ended)

    async def _finish(self, flight: Flight, ending: Ending) -> None:
        """Write `ending`, and emit its signal when it is durable. Nothing else finishes events."""
        env = self.env

        def durable(positions: Positions) -> None:
            env.signals.emit(ending.signal.at(positions))

        while True:
            try:
                waiting = env.journal.finish(
                    *(self.name, flight.message, ending.outputs, ending.step, durable),
                    ending.record,
                )
                if waiting is not None:
                    await waiting
                break
            except EventTooLarge as exc:
                ending = self._processing.refused(flight.message, ending, exc, env)
        for message in flight.repeats:
            env.journal.again(self.name, message)

    # -- letting go of them

    async def cancel(self, key: Any) -> int:
        """What is in flight of the run `key` has ended as cancelled, its calls cut off; how many
        events that were."""
        queue = self._queues.get(key)
        if queue is None:
            return 0
        flights = {position: flight for flight, position in queue}
        await self._cancel([key])
        # Those that came while its calls were cut off are in no queue any more.
        flights |= {position: flight for flight, position in queue}
        for flight in flights.values():
            ending = self._processing.cancelled(flight.message, self.env, flight.step)
            await self._finish(flight, ending)
        return len(flights)

    def hold(self) -> None:
        """Nothing new is taken from here on, until `resume`."""
        self._paused = True

    async def pause(self, limit_s: float) -> int:
        """Nothing new is taken; what is in flight has ended, or `limit_s` has passed. How many are
        left."""
        self.hold()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=limit_s)
        return self._live

    async def release(self, kept: Collection[Any]) -> int:
        """What is in flight of other partitions than `kept` was cancelled, and stays un-acked for
        whoever has them now. How many those were."""
        lost = [key for key, queue in self._queues.items() if queue[0][0].message.tp not in kept]
        await self._cancel(lost)
        return len(lost)

    def resume(self) -> None:
        """Events are taken again."""
        self._paused = False

    async def drain(self, limit_s: float) -> int:
        """Nothing new is taken; what is in flight has ended, or was cancelled after `limit_s` and
        stays un-acked. How many were cancelled."""
        count = await self.pause(limit_s)
        await self._cancel(list(self._running))
        return count

    async def _cancel(self, keys: list[Any]) -> None:
        tasks = {key: self._running[key] for key in keys}
        for task in tasks.values():
            task.cancel()
        if tasks:
            await asyncio.wait(tasks.values())
        for key, task in tasks.items():
            if self._running.get(key) is task:
                self._close(key)  # it had not begun
