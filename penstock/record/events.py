"""The event: one record on a topic. Who made it, from which event, and what the run has so far."""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from penstock.errors import MalformedEvent, RunBegunBefore

#: The namespace of everything that Penstock derives rather than draws.
NAMESPACE = uuid.UUID("6a5d2c1e-7a54-4d8e-9d0c-3f6f0a1f5b11")


#: How a trace id is written on topics: other spellings of a UUID would be other keys.
TRACE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Characters of an event's id. Ours have 36.
ID_CHARS = 64
#: What a tag is called, and the characters of its value.
TAG_NAME = re.compile(r"[\w.-]{1,64}")
TAG_CHARS = 200

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARS)]
Count = Annotated[int, msgspec.Meta(ge=0)]
#: Seconds since 1970 UTC. What is larger than the bound was meant as milliseconds.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the step that made an event used: `seconds` is wall time, tokens as the model counts.
    `cut` is why the model stopped before its end, where it did: 'length' or 'content_filter'."""

    model: str = ""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cut: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def tokens(self) -> str:
        """What was read and written, for people: the same words wherever tokens are shown."""
        return f"{self.input_tokens} tokens in, {self.output_tokens} out"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record on a topic, keyed there by `trace_id`. `created` is in seconds since 1970 UTC.

    `replay` counts how often it was taken from the dead letters, and `only` is the stage that this
    is for: other stages that read the topic had finished it.
    """

    id: Id
    trace_id: str
    pipeline: str
    stage: str
    parts: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    created: Seconds
    parent_id: str | None = None
    agent: str | None = None
    card: str | None = None
    usage: Usage | None = None
    attempt: Count = 0
    replay: Count = 0
    only: str | None = None
    #: Of a replay, the calls whose recorded answers cannot be used.
    anew: list[str] = []
    forked_from: str | None = None
    #: What the run is to be found by. Kept along the run, and never in a prompt.
    tags: dict[str, str] = {}
    #: How often each way back was gone, by stage and outcome: see `penstock.project.branches`.
    rounds: dict[str, Count] = {}
    #: What each way back was gone with, where its outcome says `while_new`: digests.
    seen: dict[str, list[str]] = {}
    #: Why a way back was not gone again, where that was not its bound.
    ended: str = ""

    @property
    def key(self) -> bytes:
        """The partition key: a run stays in one partition on every topic of its pipeline."""
        return self.trace_id.encode()


class Unreadable(bytes):
    """What a broker delivers for a record that it has and cannot read; empty. `reason` is why."""

    reason: str

    def __new__(cls, reason: str) -> "Unreadable":
        self = super().__new__(cls)
        self.reason = reason
        return self


_decoder = msgspec.json.Decoder(Event)
_encode = msgspec.json.Encoder().encode


def load(raw: bytes | None) -> Event:
    """The event in `raw`. Raises `MalformedEvent` with the place that is wrong."""
    if isinstance(raw, Unreadable):
        raise MalformedEvent(raw.reason)
    if not raw:
        raise MalformedEvent("the record is empty")
    try:
        event = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedEvent(f"not an event: {exc}") from exc
    if TRACE_ID.fullmatch(event.trace_id) is None:
        raise MalformedEvent(
            f"not an event: its trace_id is {event.trace_id!r:.80}, and not a UUID in lower case"
            " with hyphens, so nobody could look at the run or cancel it"
        )
    return event


class _Envelope(msgspec.Struct):
    trace_id: msgspec.Raw
    parts: msgspec.Raw


_envelope = msgspec.json.Decoder(_Envelope)


def is_envelope(raw: bytes | None) -> bool:
    """Return whether the record `raw` is meant as an event: an object with a trace_id and parts.
    One that cannot be read counts as such: it is no plain text either."""
    if isinstance(raw, Unreadable):
        return True
    try:
        _envelope.decode(raw or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def require_key(event: Event, key: bytes | None) -> None:
    """Check that `event` stands under the key of its run. Raises `MalformedEvent`."""
    if key != event.key:
        found = "no key" if key is None else f"the key {key.decode(errors='replace')!r:.80}"
        raise MalformedEvent(
            f"the record has {found}, and its event the trace_id {event.trace_id}: a record's key"
            " is the trace_id, else nobody could look at the run or cancel it"
        )


def as_trace_id(text: object) -> str:
    """`text`, any spelling of a UUID, as trace ids are written. Raises `ValueError`."""
    said = str(text)
    trace_id = str(uuid.UUID(said))
    # It takes spaces and underscores among the digits.
    if trace_id.replace("-", "") not in said.lower().replace("-", ""):
        raise ValueError(f"{said!r} is no UUID")
    return trace_id


def is_trace_id(text: str) -> bool:
    """Return whether `text` is a whole UUID, in any spelling."""
    try:
        as_trace_id(text)
    except ValueError:
        return False
    return True


def dump(event: Event) -> bytes:
    return _encode(event)


def derive_id(parent_id: str, stage: str, topic: str, index: int = 0, replay: int = 0) -> str:
    """The id of an output: the same work always makes the same id.

    A redelivered event is thereby recognised, and a fan-out (`index`) or a replay is not mistaken
    for one.
    """
    return _uuid5(f"{parent_id}|{stage}|{topic}|{index}|{replay}")


def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, name))` without the object between (RFC 9562, section 5.5): one is
    made on every step, and the object costs 6 us."""
    text = hashlib.sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


def first_event(
    pipeline: str,
    parts: dict[str, Any],
    trace_id: str | None = None,
    origin: str = "submit",
    tags: Mapping[str, str] | None = None,
) -> Event:
    """The event that begins a run. Its id follows from `trace_id`, so a run begins once."""
    trace_id = trace_id or str(uuid.uuid4())
    return Event(
        id=derive_id(trace_id, origin, pipeline),
        trace_id=trace_id,
        pipeline=pipeline,
        stage=origin,
        parts=parts,
        created=time.time(),
        tags=dict(tags or {}),
    )


class _Content(msgspec.Struct):
    id: str
    trace_id: str
    pipeline: str
    stage: str
    parts: msgspec.Raw


_content = msgspec.json.Decoder(_Content)


def content_of(raw: bytes) -> str:
    """Return a digest of what the first event in `raw` begins its run with, whenever, and in
    whatever order of its parts. An id that says more than the trace id, as a job's does, tells
    contents of its run apart by itself: then it is one of the run."""
    event = _content.decode(raw)
    content = event.trace_id.encode()
    if event.id == derive_id(event.trace_id, event.stage, event.pipeline):
        content = msgspec.json.encode(msgspec.json.decode(event.parts), order="sorted")
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise `ValueError` with a sentence for a tag that a run cannot have."""
    for name, value in tags.items():
        if not isinstance(name, str) or TAG_NAME.fullmatch(name) is None:
            raise ValueError(
                f"the tag {name!r:.80}: a name is 1 to 64 letters, digits, '_', '.' and '-'"
            )
        if not isinstance(value, str) or not value or len(value) > TAG_CHARS:
            raise ValueError(
                f"the tag '{name}' is {value!r:.80}: expected text of 1 to {TAG_CHARS} characters"
            )


def begun_before(trace_id: str) -> RunBegunBefore:
    """What to say to whoever begins a run of that id anew, with other content."""
    return RunBegunBefore(
        f"run {trace_id} was begun before with other parts, and is not begun again. Leave the trace"
        " id out for a new run, or give it one of its own, and its first event an id of its own"
    )


def seed_trace_id(app_id: str, pipeline: str, seed: str) -> str:
    """The trace of a seed: derived, so that no second worker and no restart seeds again."""
    return str(uuid.uuid5(NAMESPACE, f"seed|{app_id}|{pipeline}|{seed}"))


def as_text(part: Any) -> str:
    """A part for people: text as it is, anything else as readable JSON."""
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=2)
