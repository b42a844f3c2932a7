"""Step records: what a finished step did, kept as long as its run.

One for each end of a step: done, a dead letter, cancelled. It is written inside the journal's
`finish`, so it is there when the step is finished, and never without. Several steps that end at the
same time share one record of the topic, without a key: a JSON list, in the partition of their runs.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.journal import MODEL, Call
from penstock.record.values import storable

#: How a step ended. `SKIPPED`: the event was for another stage, or began a run.
DONE, DEAD, CANCELLED, SKIPPED = "done", "dead", "cancelled", "skipped"
#: Why a step waited: for an earlier event of its run, and the kinds of gates.
QUEUE, OUTAGE, PACE, SLOTS = "queue", "outage", "pace", "slots"


def topic_name(app_id: str) -> str:
    """Return the name of an app's topic of step records."""
    return f"{app_id}-steps"


class Hold(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a step waited: `kind` is `QUEUE`, `OUTAGE`, `PACE` or `SLOTS` (calls at once), and `what`
    names what it waited for. Times are in seconds since 1970 UTC. That of the queue lies before the
    step was taken."""

    kind: str
    what: str
    since: float
    until: float


class Try(msgspec.Struct, frozen=True, omit_defaults=True):
    """A try that failed, and how long the pause after it was; 0 after the last."""

    began: float
    ended: float
    error: str
    pause_s: float = 0.0


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one step did with one event. Event, stage and replay are the record's identity, by which
    a repeat is known. Times are in seconds since 1970 UTC: the event was `created`, the stage has
    `taken` it, the step has `ended`."""

    trace_id: str
    #: The event's id.
    event: str
    pipeline: str
    stage: str
    #: The agent or the step.
    does: str
    topic: str
    partition: int
    offset: int
    end: str = DONE
    created: float = 0.0
    taken: float = 0.0
    ended: float = 0.0
    replay: int = 0
    card: str | None = None
    worker: str = ""
    version: str = ""
    #: Workers that died while the step was under way. A call that was in flight then is lost, and
    #: is among `calls` only as it was made again.
    deaths: int = 0
    holds: list[Hold] = []
    tries: list[Try] = []
    calls: list[Call] = []
    #: Of each output its topic and the id of its event.
    outputs: list[tuple[str, str]] = []
    #: What a step without outputs gave, as JSON, cut to the limit of texts.
    result: str = ""
    #: Of a dead letter its cause and message; of a way back that was not gone why.
    error: str = ""

    @property
    def id(self) -> str:
        """What two records of the same end of a step have in common."""
        return f"{self.stage}/{self.event}~{self.replay}"

    @property
    def paid(self) -> list[Call]:
        """The calls of models that were paid for, each once: those that were made, and those that
        are only recalled here. A worker has made these that did not come to the step's end, unless
        this is a replay: then they are on the record of the step that ended as a dead letter."""
        paid: dict[str, Call] = {}
        for call in self.calls:
            if call.kind == MODEL and not (call.recalled and self.replay):
                paid.setdefault(call.key, call)
        return list(paid.values())

    @property
    def recalled(self) -> list[Call]:
        """The calls of models that were recalled, and not paid again."""
        return [call for call in self.calls if call.kind == MODEL and call.recalled]


class Spent(msgspec.Struct):
    """What steps have cost together: seconds that they waited (for the queue, for gates, between
    tries) and worked, calls of models that were paid and answers that were recalled, and US dollars
    for the first and not for the second. The calls without a known price are counted apart."""

    waited_s: float = 0.0
    worked_s: float = 0.0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    recalled: int = 0
    saved: float = 0.0
    saved_unpriced: int = 0

    @classmethod
    def of(cls, steps: Sequence[StepRecord]) -> "Spent":
        spent = cls()
        for step in steps:
            queued = sum(hold.until - hold.since for hold in step.holds if hold.kind == QUEUE)
            waited = sum(hold.until - hold.since for hold in step.holds if hold.kind != QUEUE)
            waited += sum(one.pause_s for one in step.tries)
            spent.waited_s += queued + waited
            spent.worked_s += max(0.0, step.ended - step.taken - waited)
            for call in step.paid:
                spent.calls += 1
                spent.input_tokens += call.input_tokens
                spent.output_tokens += call.output_tokens
                spent.cost += call.cost or 0.0
                spent.unpriced += call.cost is None
            for call in step.recalled:
                spent.recalled += 1
                spent.saved += call.cost or 0.0
                spent.saved_unpriced += call.cost is None
        return spent


_decoder = msgspec.json.Decoder(list[StepRecord])
_encoder = msgspec.json.Encoder()


def dump(record: StepRecord) -> bytes:
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:  # what a server said may be no Unicode
        return _encoder.encode(storable(msgspec.to_builtins(record)))


def dead(raw: bytes, error: str) -> bytes:
    """Return the record `raw` of a step whose outputs the broker does not take: it has ended as a
    dead letter, with all that it called."""
    (record,) = _decoder.decode(joined([raw]))
    return dump(msgspec.structs.replace(record, end=DEAD, outputs=[], result="", error=error))


def joined(records: Sequence[bytes]) -> bytes:
    """Return the records, each as `dump` gives it, as one record of the topic holds them."""
    return b"[" + b",".join(records) + b"]"


def load(raw: bytes) -> list[StepRecord]:
    """Return the records in `raw`. Raises `msgspec.DecodeError` for what is none of ours."""
    return _decoder.decode(raw)


class _Run(msgspec.Struct):
    trace_id: str


_runs = msgspec.json.Decoder(list[_Run])


def runs_of(raw: bytes | None) -> set[bytes]:
    """Return the keys of the runs whose steps are in `raw`; none for what is none of ours."""
    try:
        return {one.trace_id.encode() for one in _runs.decode(raw or b"")}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return set()


def shortened(value: Any, limit: int) -> str:
    """Return `value` as text, JSON where it is that, cut to `limit` characters with a word about
    it."""
    try:
        text = value if isinstance(value, str) else _encoder.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    more = len(text) - limit
    return text if more <= 0 else f"{text[:limit]}... ({more} characters more)"
