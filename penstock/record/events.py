"""The event: one record on a topic. Who made it, from which event, and what the run has so far."""

import hashlib
import json
import time
import uuid
from typing import Any

import msgspec

from penstock.errors import MalformedEvent, RunBegunBefore

#: The namespace of everything that Penstock derives rather than draws.
NAMESPACE = uuid.UUID("6a5d2c1e-7a54-4d8e-9d0c-3f6f0a1f5b11")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the step that made an event used: `seconds` is wall time, tokens as the model counts.
    `cut` is why the model stopped before its end, where it did: 'length' or 'content_filter'."""

    model: str = ""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cut: str | msgspec.UnsetType = msgspec.UNSET


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record on a topic, keyed there by `trace_id`. `created` is in seconds since 1970 UTC.

    `replay` counts how often it was taken from the dead letters, and `only` is the stage that this
    is for: other stages that read the topic had finished it.
    """

    id: str
    trace_id: str
    pipeline: str
    stage: str
    parts: dict[str, Any]
    created: float
    parent_id: str | None = None
    agent: str | None = None
    card: str | None = None
    usage: Usage | None = None
    attempt: int = 0
    replay: int = 0
    only: str | None = None
    #: Of a replay, the calls whose recorded answers cannot be used.
    anew: list[str] = []
    forked_from: str | None = None
    #: How often each way back was gone, by stage and outcome: see `penstock.project.branches`.
    rounds: dict[str, int] = {}

    @property
    def key(self) -> bytes:
        """The partition key: a run stays in one partition on every topic of its pipeline."""
        return self.trace_id.encode()


_decoder = msgspec.json.Decoder(Event)
_encode = msgspec.json.Encoder().encode


def load(raw: bytes | None) -> Event:
    """The event in `raw`. Raises `MalformedEvent` with the place that is wrong."""
    if not raw:
        raise MalformedEvent("the record is empty")
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedEvent(f"not an event: {exc}") from exc


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
    digest = bytearray(hashlib.sha1(NAMESPACE.bytes + name.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def first_event(
    pipeline: str, parts: dict[str, Any], trace_id: str | None = None, origin: str = "submit"
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
    whatever order of its parts; "" where its id says more than the trace id, as a job's does: such
    an id tells contents apart by itself."""
    event = _content.decode(raw)
    if event.id != derive_id(event.trace_id, event.stage, event.pipeline):
        return ""
    parts = msgspec.json.encode(msgspec.json.decode(event.parts), order="sorted")
    return hashlib.blake2b(parts, digest_size=8).hexdigest()


def begun_before(trace_id: str) -> RunBegunBefore:
    """What to say to whoever begins a run of that id anew, with other content."""
    return RunBegunBefore(
        f"run {trace_id} was begun before with other parts, and is not begun again. Leave the trace"
        " id out for a new run, or give it one of its own"
    )


def seed_trace_id(app_id: str, pipeline: str, seed: str) -> str:
    """The trace of a seed: derived, so that no second worker and no restart seeds again."""
    return str(uuid.uuid5(NAMESPACE, f"seed|{app_id}|{pipeline}|{seed}"))


def as_text(part: Any) -> str:
    """A part for people: text as it is, anything else as readable JSON."""
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=2)
