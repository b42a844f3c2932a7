"""The journal: the durable record of each finished call, and the three verbs of a step.

    recall   the recorded answer of a call, or nothing
    record   a future that is done when the answer is durable
    finish   the step's end: outputs appended, its entries gone, the event done

One implementation a broker; the stage is the same on all of them.
"""

import asyncio
import contextvars
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from penstock import crash

#: An output: its topic, its key, its value.
Output = tuple[str, bytes, bytes]
#: The partition and offset of each output, in the order of the outputs.
Locations = Sequence[tuple[int, int]]


#: What the keys of claims begin with: no stage has such a name, so no step's end deletes them.
CLAIMS = ".claims/"
#: The same of the texts that steps began with, each by its digest.
TEXTS = ".texts/"
#: The entry of a step that names its text.
PIN = "pin"

#: Of the call that is being made: the journal's `lease`, to be asked once more right before its
#: request leaves the process, which can be suspended after the call has begun.
asking: contextvars.ContextVar[Callable[[], Awaitable[None] | None] | None] = (
    contextvars.ContextVar("asking", default=None)
)


#: What is called.
MODEL, TOOL, FUNCTION, MEMORY = "model", "tool", "function", "memory"


class Call(msgspec.Struct, omit_defaults=True):
    """One call of a step, made or recalled: of a model, a tool, a function or the memory.

    `key` is its name in the journal: the digest of its request and its occurrence. `cost` is in US
    dollars by `price`, None where no price is known; of a recalled call it is what was not paid
    again. Of tools `request` and `answer` are kept, cut to the limit of texts.
    """

    kind: str
    name: str
    key: str
    asked: float
    answered: float
    recalled: bool = False
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    #: Why the model stopped, where that was before its end.
    finish: str = ""
    cost: float | None = None
    price: str = ""
    request: str = ""
    answer: str = ""
    error: str = ""


def claimed_at(claim: bytes) -> float:
    """Return when a claim was made, in seconds since 1970 UTC."""
    return float(msgspec.json.decode(claim)[0])


def unpinned(entries: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return the keys of texts among `entries` that no step names any more."""
    texts, named = [], set()
    for key, value in entries:
        if key.startswith(TEXTS):
            texts.append(key)
        elif key.rpartition("/")[2].partition("~")[0] == PIN:
            named.add(_text_key(value.decode()))
    return [key for key in texts if key not in named]


def _text_key(digest: str) -> str:
    return f"{TEXTS}{digest}/text"


class Journal(Protocol):
    """What a stage needs of a broker."""

    @property
    def room(self) -> asyncio.Event:
        """Set while new work may be taken; cleared while the broker is behind, full or away."""

    def owns(self, message: Any) -> bool:
        """Return whether this worker has the partition of `message` and has read its journal.
        Otherwise the partition is changing hands, and the message is delivered again."""

    def delivered(self, stage: str, message: Any) -> bool:
        """Note that `message` was delivered, and return whether `stage` has finished its event
        before. Called for the messages of a partition in their order."""

    def is_done(self, stage: str, message: Any) -> bool:
        """Return whether `stage` has finished the event of `message`, at this offset or another."""

    def refuse(self, stage: str, message: Any) -> None:
        """Refuse an event that begins a run which was begun with other content: raises
        `RunBegunBefore`."""

    def again(self, stage: str, message: Any) -> None:
        """Ack `message`, whose event was finished before, as soon as that is durable."""

    def recall(self, key: str, message: Any) -> bytes | None:
        """Return the recorded answer of a call, or None."""

    def lease(self) -> Awaitable[None] | None:
        """Return what to await before a call is made, if anything: that the event's partition is
        still this worker's."""

    def record(self, key: str, message: Any, answer: bytes) -> asyncio.Future[None]:
        """Record the answer of a call; the future is done when it is durable, and from then on the
        call is never made again. Others may wait for the same future."""

    def finish(
        self,
        stage: str,
        message: Any,
        outputs: Sequence[Output],
        step: str | None,
        then: Callable[[Locations], None],
        record: bytes = b"",
    ) -> Awaitable[None] | None:
        """End the step: append its outputs and its `record`, delete its entries, mark its event as
        done. `then` is called with the locations of the outputs when they are durable. Without
        `step` the entries stay (a dead letter's, so that its replay pays nothing again). Returns
        what to await before more work is taken, if anything."""


class Calls:
    """The journalled calls of one step over one event."""

    __slots__ = (
        "_anew",
        "_failed",
        "_number",
        "_pending",
        "_pin",
        "_redact",
        "_replay",
        "journal",
        "made",
        "message",
        "step",
    )

    def __init__(
        self,
        journal: Journal,
        step: str,
        message: Any,
        anew: Collection[str] = (),
        replay: int = 0,
        redact: Callable[[bytes], bytes] = bytes,
        made: list[Call] | None = None,
    ) -> None:
        self.journal = journal
        self.step = step
        self.message = message
        #: The calls that were answered, in their order.
        self.made: list[Call] = [] if made is None else made
        #: Calls whose recorded answers cannot be used; they are made once more in this `replay`.
        self._anew = anew
        self._replay = replay
        #: Takes secrets out of an answer, before anybody sees it.
        self._redact = redact
        #: How often each request was made.
        self._number: dict[str, int] = {}
        #: The numbers of calls that failed, by request: the next equal request is that call again.
        self._failed: dict[str, list[int]] = {}
        self._pending: list[asyncio.Future[None]] = []
        #: The text that is to be pinned with the first answer: key, digest, text.
        self._pin: tuple[str, str, str] | None = None

    def pin(self, digest: str, text: str) -> str:
        """Return the text that the step's recorded answers were made with. Without any it is `text`
        itself, which is kept by its `digest` from the first answer on. A replay begins anew."""
        key = f"{self.step}/{PIN}{f'~{self._replay}' if self._replay else ''}"
        held = self.journal.recall(key, self.message)
        kept = held and self.journal.recall(_text_key(held.decode()), self.message)
        if kept:
            return kept.decode()
        self._pin = (key, digest, text)
        return text

    def _record(self, key: str, answer: bytes) -> None:
        if self._pin is not None:
            (pin, digest, text), self._pin = self._pin, None
            if self.journal.recall(_text_key(digest), self.message) is None:
                kept = self.journal.record(_text_key(digest), self.message, text.encode())
                self._pending.append(kept)
            self._pending.append(self.journal.record(pin, self.message, digest.encode()))
        self._pending.append(self.journal.record(key, self.message, answer))

    @property
    def position(self) -> str:
        """The step's event: TOPIC/PARTITION/OFFSET."""
        return f"{self.message.topic}/{self.message.partition}/{self.message.offset}"

    async def claim(self, trace_id: str, value: Any) -> tuple[Any, str]:
        """Claim the run for `value`, durably, unless one of its events has done so before. Returns
        what the run is claimed for, and the position of the event that claimed it. Between looking
        and claiming nothing is awaited, and all events of a run are in one partition, whatever
        their topic: only one of them is first."""
        key = f"{CLAIMS}{trace_id}/claim"
        held = self.journal.recall(key, self.message)
        if held is None:
            held = msgspec.json.encode([time.time(), value, self.position])
            await self.journal.record(key, self.message, held)
        _, held_value, position = msgspec.json.decode(held)
        return held_value, position

    async def once(
        self,
        request: bytes,
        call: Callable[[], Awaitable[bytes]],
        kind: str = FUNCTION,
        name: str = "",
    ) -> bytes:
        """Return the answer to `request`: the recorded one, or else that of `call`, which is
        recorded. It is the last in `made` then, as a call of `name`, a `kind`.

        The key is the request's hash and its occurrence within the step. No call is made before
        the answers to earlier ones are durable.
        """
        digest = hashlib.blake2b(request, digest_size=16).hexdigest()
        if failed := self._failed.get(digest):
            number = failed.pop(0)
        else:
            number = self._number.get(digest, 0)
            self._number[digest] = number + 1
        request_name = f"{digest}-{number}"
        key = f"{self.step}/{request_name}"
        if request_name in self._anew:
            key += f"~{self._replay}"
        asked = time.time()
        answer = self.journal.recall(key, self.message)
        if answer is not None:
            self.made.append(Call(kind, name, request_name, asked, asked, recalled=True))
            return answer
        try:
            if self._pending:
                await self.recorded()
            lease = self.journal.lease()
            if lease is not None:
                await lease
            token = asking.set(self.journal.lease)
            try:
                answer = self._redact(await call())
                crash.at("answered")
            finally:
                asking.reset(token)
        except BaseException:
            self._failed.setdefault(digest, []).append(number)
            raise
        self._record(key, answer)
        self.made.append(Call(kind, name, request_name, asked, time.time()))
        return answer

    async def recorded(self) -> None:
        """Wait until the answers so far are durable. Several calls of a step may wait for the same
        ones (a model that asks for two tools), so each stays in the list until it is done, and is
        not cancelled with whoever waits."""
        for recorded in tuple(self._pending):
            if not recorded.done():
                await asyncio.wait((recorded,))
            recorded.result()
        self._pending = [recorded for recorded in self._pending if not recorded.done()]
