"""Dead letters: events that could not be processed, kept whole, with the cause, for replay."""

import base64
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.errors import MalformedEvent, PenstockError, StepFailed
from penstock.record.events import Event, Unreadable, derive_id

#: Characters of a text of a model's, or for it, that a dead letter keeps.
LONGEST = 50_000


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model was asked last in a step, and all that it said there, each up to LONGEST."""

    model: str
    instructions: str
    input: str
    answers: list[str]

    def redacted(self, redact: Callable[[str], str]) -> "Exchange":
        """Return the same without secrets."""
        return Exchange(
            model=self.model,
            instructions=redact(self.instructions),
            input=redact(self.input),
            answers=[redact(answer) for answer in self.answers],
        )


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What could not be processed, and why. `raw` is the record as it stood on the topic; when it
    is not UTF-8 it is in `raw_base64` instead. One that could not be read, or makes its dead letter
    too large for the topic, is in neither: it stands on `topic` alone. `failed` is in seconds since
    1970 UTC.

    Written again with `resolved`, it is no longer open: REPLAYED or DROPPED.
    """

    id: str
    trace_id: str
    pipeline: str
    stage: str
    topic: str
    partition: int
    offset: int
    cause: str
    message: str
    attempts: int
    failed: float
    detail: str = ""
    event_id: str | None = None
    replay: int = 0
    raw: str | None = None
    raw_base64: str | None = None
    resolved: str = ""
    #: The calls whose answers were judged unusable.
    unusable: list[str] = []
    #: Where a model was asked: the question and the answers.
    exchange: Exchange | None = None

    @property
    def position(self) -> str:
        """Where the record stood: TOPIC/PARTITION/OFFSET."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def record(self) -> bytes | None:
        """The record, byte by byte; None when it stands on its topic alone."""
        if self.raw is not None:
            return self.raw.encode()
        return None if self.raw_base64 is None else base64.b64decode(self.raw_base64)


#: Characters of a message in the short form of a dead letter.
MESSAGE_CHARS = 400
REPLAYED, DROPPED = "replayed", "dropped"

_decoder = msgspec.json.Decoder(DeadLetter)
_encode = msgspec.json.Encoder().encode


def topic_name(app_id: str) -> str:
    return f"{app_id}-dead-letters"


def load(raw: bytes) -> DeadLetter:
    if isinstance(raw, Unreadable):
        raise MalformedEvent(raw.reason)
    return _decoder.decode(raw)


def dump(dead_letter: DeadLetter) -> bytes:
    return _encode(dead_letter)


def write(
    pipeline: str,
    stage: str,
    message: Any,
    event: Event | None,
    error: BaseException,
    attempts: int,
) -> DeadLetter:
    """The dead letter of the record in `message`. `event` is what was read from it, if anything."""
    raw: bytes = b"" if message.value is None else message.value
    text: str | None = None
    coded: str | None = None
    if not isinstance(raw, Unreadable):
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            coded = base64.b64encode(raw).decode()
    location = f"{message.topic}/{message.partition}/{message.offset}"
    event_id = event.id if event is not None else location
    key = (message.key or b"").decode(errors="replace")
    # Whose message says it all, and where the code was that noticed it helps nobody: a record of
    # somebody else's, a provider. A step's author needs the place, and so do we for our own faults.
    says_all = isinstance(error, PenstockError) and not (
        isinstance(error, StepFailed) and error.__cause__ is not None
    )
    return DeadLetter(
        id=derive_id(event_id, stage, "dead letter", replay=event.replay if event else 0),
        trace_id=event.trace_id if event is not None else key or location,
        pipeline=pipeline,
        stage=stage,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        cause=type(error).__name__,
        message=_text(error.message if isinstance(error, PenstockError) else str(error)),
        detail="" if says_all else _text(_traceback(error)),
        attempts=attempts,
        failed=time.time(),
        event_id=event.id if event is not None else None,
        replay=event.replay if event is not None else 0,
        raw=text,
        raw_base64=coded,
        unusable=list(getattr(error, "unusable", ())),
    )


def without_record(dead_letter: DeadLetter, why: str) -> DeadLetter:
    """Return a short form of `dead_letter`, which does not hold its record because of `why`."""
    message = dead_letter.message[:MESSAGE_CHARS]
    return msgspec.structs.replace(
        dead_letter,
        message=f"{message}. The dead letter does not hold the record: {why[:MESSAGE_CHARS]}",
        detail="",
        raw=None,
        raw_base64=None,
        exchange=None,
    )


def _text(said: str) -> str:
    """`said` as JSON can hold it: the name of a file may have bytes in it that are not UTF-8."""
    return said.encode(errors="replace").decode()


def _traceback(error: BaseException) -> str:
    """The last lines of where it came from: the author of a step needs the place."""
    return "".join(traceback.format_exception(error)[-12:])[-4000:]
