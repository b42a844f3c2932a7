"""The memory as its users see it: two calls that neither wait nor fail when Qdrant is away."""

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from penstock.errors import ModelRefused, PenstockError, Unavailable
from penstock.memory.embeddings import Embeddings, LocalEmbeddings, MiniLMEmbeddings, choose
from penstock.memory.outbox import Outbox
from penstock.memory.points import Points
from penstock.record.notes import KINDS, Found, Note, checked, clean
from penstock.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds before a memory that is down is asked again: doubled each time, up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 30.0
#: Notes that are delivered at once. Few, because a look waits for the batch that is under way.
BATCH = 16
#: Seconds between looks into the outbox for notes of other processes.
GLANCE_S = 5.0
#: Seconds that `close` waits for a call that is under way.
CLOSE_S = 2.0
#: A text that every model can embed, to see whether it answers and how long its vectors are.
PROBE = "Reverse the words of a sentence"

State = Literal["closed", "opening", "up", "down"]


@dataclasses.dataclass(frozen=True)
class Status:
    """How the memory is. `points` is as of the last look, None before the first."""

    state: State
    where: str
    embeddings: str
    points: int | None
    #: Notes that are still to be delivered.
    waiting: int
    #: When `state` began, in seconds since 1970.
    since: float
    #: Why it is down.
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.where}, embeddings {self.embeddings}"
        if self.points is not None:
            text += f", {self.points} points"
        if self.waiting:
            text += f", {self.waiting} notes wait"
        if self.state == "down":
            began = time.strftime("%H:%M:%S", time.localtime(self.since))
            return f"{text}; down since {began}: {self.reason}"
        return text if self.state == "up" else f"{text}; {self.state}"


def _outbox_of(settings: Settings) -> Outbox:
    return Outbox(settings.data / "memory" / "outbox.db", settings.memory_notes)


def has_notes_to_deliver(settings: Settings) -> bool:
    """Return whether notes of earlier processes wait here. Blocks for the disk; an outbox that
    cannot be read may hold some."""
    outbox = _outbox_of(settings)
    if not outbox.path.exists():
        return False
    try:
        return outbox.waiting() > 0
    except Unavailable:
        return True
    finally:
        outbox.close()


class Memory:
    """Notes by the likeness of their tasks. One for a process, used on one loop.

    Raises `SettingsError` when QDRANT_URL or PENSTOCK_EMBEDDINGS cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        embeddings: Embeddings | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._recall_s = settings.recall_s
        self._embeddings = choose(settings) if embeddings is None else embeddings
        self._points = Points(settings)
        self._outbox = _outbox_of(settings)
        # Two threads, because a note must not wait for a folder of Qdrant's that is being read.
        self._folder_thread = ThreadPoolExecutor(1, "memory-qdrant")
        self._outbox_thread = ThreadPoolExecutor(1, "memory-outbox")
        self._jitter = jitter
        self._keeper: asyncio.Task[None] | None = None
        self._state: State = "closed"
        self._since = time.time()
        self._reason = ""
        self._points_known: int | None = None
        self._waiting = 0
        #: Set when there is something for the keeper to do: a note, or a doubt.
        self._wake = asyncio.Event()
        self._doubt: PenstockError | None = None
        #: Set and replaced at each change of the state or of the number of notes that wait.
        self._changed = asyncio.Event()

    @property
    def status(self) -> Status:
        return Status(
            state=self._state,
            where=self._points.where,
            embeddings=self._embeddings.label,
            points=self._points_known,
            waiting=self._waiting,
            since=self._since,
            reason=self._reason,
        )

    async def start(self) -> None:
        """The memory is being opened, and notes that wait will be delivered. Returns at once."""
        if self._keeper is None:
            self._become("opening", "")
            self._keeper = asyncio.create_task(self._keep(), name="memory")

    async def close(self) -> None:
        """Nothing of the memory is under way; notes that are not delivered wait on the disk."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        self._become("closed", "")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(
                    self._ask(self._points.close), self._on_disk(self._outbox.close)
                )
        await self._embeddings.close()

    async def remember(self, kind: str, task: str, lesson: str, *, id: str) -> None:
        """The note is on this machine's disk, and will be in the memory. Waits for the disk only.

        `id` makes it one note however often it is remembered. Raises `Unavailable` when the disk
        does not take it, and `ValueError` for a kind that there is not.
        """
        note = Note(id, checked(kind), clean(task), clean(lesson), time.time())
        self._waiting = await self._on_disk(self._outbox.put, note)
        self._wake.set()

    async def recall(
        self, task: str, kinds: Sequence[str] = KINDS, limit: int = 3, *, without: str = ""
    ) -> list[Found]:
        """The `limit` notes whose tasks are nearest to `task`, the nearest first: none below the
        embeddings' floor, and none whose id begins with `without`.

        Nothing while the memory is down, at once, and nothing when it takes longer than
        PENSTOCK_RECALL_S. Raises only `ValueError`, for a kind that there is not.
        """
        return await self._look(task, kinds, limit, without)

    async def latest(
        self, kinds: Sequence[str] = KINDS, limit: int = 3, *, without: str = ""
    ) -> list[Found]:
        """The `limit` notes that were remembered last, the latest first; else as `recall`."""
        return await self._look(None, kinds, limit, without)

    async def _look(
        self, task: str | None, kinds: Sequence[str], limit: int, without: str
    ) -> list[Found]:
        only = [checked(kind) for kind in kinds]
        if limit <= 0 or not self._recall_s:
            return []
        started, asked = time.monotonic(), None
        try:
            async with asyncio.timeout(self._recall_s):
                while self._state == "opening":
                    await self._changed.wait()
                if self._state != "up":
                    return []
                vector = None
                if task is not None:
                    [vector] = await self._embeddings.embed([clean(task)])
                asked = time.monotonic()
                floor = self._embeddings.floor
                return await self._ask(self._points.find, vector, only, limit, floor, without)
        except TimeoutError:
            if self._state == "up" and self._hangs(started, asked):
                self._doubts(PenstockError(f"no answer within {self._recall_s:g} s"))
            return []
        except ModelRefused:
            return []  # this text; others may do
        except PenstockError as exc:
            self._doubts(exc)
            return []

    def _hangs(self, started: float, asked: float | None) -> bool:
        """Whether a look that began at `started` was in vain because something does not answer.
        Else many were waiting, or this process was busy itself. `asked` is when Qdrant was asked,
        None when there was no vector yet."""
        if asked is None:
            local = (LocalEmbeddings, MiniLMEmbeddings)
            return not isinstance(self._embeddings, local) and self._points.answered_at < started
        waited_s = time.monotonic() - max(asked, self._points.answered_at)
        return waited_s >= self._recall_s / 2

    async def _ask(self, job: Callable[..., Coroutine[Any, Any, T]], *given: Any) -> T:
        """What `job` of the points returns. With a folder it blocks, and runs in a thread: to its
        end when the caller is cancelled, or not at all where it had not begun."""
        if self._points.on_server:
            return await job(*given)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._folder_thread, lambda: asyncio.run(job(*given)))

    async def _on_disk(self, job: Callable[..., T], *given: Any) -> T:
        """What `job` of the outbox returns: its thread waits for the disk, and not the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._outbox_thread, job, *given)

    async def settled(self) -> Status:
        """The status, once the memory is down, or up with nothing left to deliver."""
        while self._state == "opening" or (self._state == "up" and self._waiting):
            await self._changed.wait()
        return self.status

    # The keeper: the only one that opens, delivers, and says what the state is.

    async def _keep(self) -> None:
        """Keeps the memory open and the outbox empty for as long as it runs."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._open()
                # It counts as up when it has taken what waits: one that reads and cannot write
                # would go up and down all the time.
                await self._deliver()
                pause_s = FIRST_PAUSE_S
                self._is_up()
                while True:
                    while await self._deliver() or await self._embed_anew():
                        pass
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(GLANCE_S):
                            await self._wake.wait()
                    self._wake.clear()
                    if self._doubt is not None:
                        raise self._doubt
            except PenstockError as exc:
                self._is_down(exc.message)
            except Exception as exc:
                # A defect of ours must not end the keeping: notes would wait for ever, in silence.
                log.exception("the memory's keeper failed")
                self._is_down(f"{type(exc).__name__}: {exc}")
            await asyncio.sleep(pause_s * (0.75 + self._jitter() / 2))
            pause_s = min(LAST_PAUSE_S, pause_s * 2)
            self._doubt = None

    async def _open(self) -> None:
        [vector] = await self._embeddings.embed([PROBE])
        label, dimension = self._embeddings.label, len(vector)
        self._points_known = await self._ask(self._points.open, label, dimension)
        if self._points.missing:
            log.warning(
                "The memory has %d notes that were made with other embeddings; they are embedded"
                " anew with %s, in the background",
                self._points.missing,
                label,
                extra={"action": "memory_embedded_anew"},
            )

    async def _deliver(self) -> bool:
        """A batch of the notes that wait is in the memory; False when none waited."""
        batch = await self._on_disk(self._outbox.first, BATCH)
        if not batch:
            self._has_waiting(await self._on_disk(self._outbox.waiting))
            return False
        notes = [note for _, note in batch]
        try:
            vectors = await self._embeddings.embed([note.task for note in notes])
        except ModelRefused:
            await self._deliver_singly(batch)
            return True
        await self._put([number for number, _ in batch], notes, vectors)
        return True

    async def _deliver_singly(self, batch: list[tuple[int, Note]]) -> None:
        """All of a batch is delivered but what the model refuses; that is set aside."""
        for number, note in batch:
            try:
                vectors = await self._embeddings.embed([note.task])
            except ModelRefused as exc:
                # Is it this text? A model that refuses every text is a model that is down.
                await self._embeddings.embed([PROBE])
                log.error(
                    "The memory keeps a note back, because its task has no vector (%s): %.200s",
                    exc.message,
                    note.task,
                    extra={"action": "memory_refused"},
                )
                await self._on_disk(self._outbox.refuse, number, exc.message)
            else:
                await self._put([number], [note], vectors)

    async def _embed_anew(self) -> bool:
        """A batch of the notes that were made with other embeddings is in the memory; False when
        there were none. One that the model refuses stays where it is."""
        if not self._points.missing:
            return False
        notes = await self._ask(self._points.take_missing, BATCH)
        for note in notes:
            try:
                vectors = await self._embeddings.embed([note.task])
            except ModelRefused as exc:
                said = (
                    "The memory finds a note no more, because its task has no vector (%s): %.200s"
                )
                log.error(said, exc.message, note.task, extra={"action": "memory_refused"})
            else:
                await self._ask(self._points.put, [note], vectors)
        self._points_known = await self._ask(self._points.count)
        return True

    async def _put(self, numbers: list[int], notes: list[Note], vectors: list[list[float]]) -> None:
        await self._ask(self._points.put, notes, vectors)
        left = await self._on_disk(self._outbox.remove, numbers)
        self._points_known = await self._ask(self._points.count)
        self._has_waiting(left)

    def _doubts(self, error: PenstockError) -> None:
        """A look failed: the memory is down until the keeper has found that it is not."""
        if self._state == "up":
            self._doubt = error
            self._is_down(error.message)
            self._wake.set()

    def _is_up(self) -> None:
        before, since = self._state, self._since
        self._become("up", "")
        if before == "down":
            log.warning(
                "The memory at %s is back after %.0f s; %d notes are still to be delivered",
                self._points.where,
                time.time() - since,
                self._waiting,
                extra={"action": "memory_up"},
            )
        else:
            log.info("Memory at %s", self.status, extra={"action": "memory_up"})

    def _is_down(self, reason: str) -> None:
        if self._state != "down":
            log.warning(
                "The memory at %s is down: %s. Notes wait in %s, and looks find nothing;"
                " asking again until it answers",
                self._points.where,
                reason,
                self._outbox.path,
                extra={"action": "memory_down"},
            )
            self._become("down", reason)
        self._reason = reason

    def _become(self, state: State, reason: str) -> None:
        self._state, self._since, self._reason = state, time.time(), reason
        self._stir()

    def _has_waiting(self, count: int) -> None:
        self._waiting = count
        self._stir()

    def _stir(self) -> None:
        """Whoever waits for a change looks again."""
        self._changed.set()
        self._changed = asyncio.Event()
