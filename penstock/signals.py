"""Signals: what happens, in one closed vocabulary.

Whoever does something says so once, as a `Signal`: fields for programs, and a sentence for people.
The log, the event log, telemetry and the console subscribe to the kinds that they are about.
"""

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeVar

import msgspec

from penstock.record.dead_letters import DeadLetter
from penstock.record.events import Event, Usage

log = logging.getLogger(__name__)

#: Of each output its topic, its event and its record.
Outputs = Sequence[tuple[str, Event, bytes]]
#: Of each output its partition and offset, in the order of the outputs.
Positions = Sequence[tuple[int, int]]


class Signal(msgspec.Struct, frozen=True):
    """Something that happened. `action` is the word that programs match on: it stays when the
    sentence changes. `trace_id` and `stage` are None where it is about no run or no stage."""

    action: ClassVar[str]
    level: ClassVar[int] = logging.INFO

    @property
    def trace_id(self) -> str | None:
        return None

    @property
    def stage(self) -> str | None:
        return None

    @property
    def state(self) -> str | None:
        """Of something that has states, the one that it is in now."""
        return None

    @property
    def fault(self) -> BaseException | None:
        """The defect of ours that it is about: its traceback goes into the log."""
        return None

    def at(self, positions: Positions) -> "Signal":
        """The same, once it is known where its outputs stand."""
        return self


S = TypeVar("S", bound=Signal)


class Signals:
    """Who wants to know of what. Subscribers are called where a signal is emitted, one after the
    other, and must not wait."""

    def __init__(self) -> None:
        self._callbacks: dict[type[Signal], list[Callable[[Signal], object]]] = {}
        #: The callbacks of each kind that was emitted, those of what it derives from included.
        self._of: dict[type[Signal], tuple[Callable[[Signal], object], ...]] = {}

    def on(self, kind: type[S], callback: Callable[[S], object]) -> None:
        """Call `callback` with each signal of `kind` from here on; of all kinds for `Signal`."""
        self._callbacks.setdefault(kind, []).append(callback)  # type: ignore[arg-type]
        self._of.clear()

    def emit(self, signal: Signal) -> None:
        """Call the subscribers of `signal`. One that fails is logged, and stops nobody."""
        callbacks = self._of.get(type(signal))
        if callbacks is None:
            callbacks = self._of[type(signal)] = self._find(type(signal))
        for callback in callbacks:
            try:
                callback(signal)
            except Exception:
                log.exception("a subscriber of '%s' failed", signal.action)

    def _find(self, kind: type[Signal]) -> tuple[Callable[[Signal], object], ...]:
        return tuple(one for base in kind.__mro__ for one in self._callbacks.get(base, ()))


def write_to_log(signal: Signal) -> None:
    """Log `signal`: the subscriber of every kind."""
    if log.isEnabledFor(signal.level):
        extra = {
            "action": signal.action,
            "trace_id": signal.trace_id,
            "stage": signal.stage,
            "state": signal.state,
        }
        log.log(signal.level, "%s", signal, extra=extra, exc_info=signal.fault)


# -- steps


class StageLabel(msgspec.Struct, frozen=True):
    """A stage, for what happens in it: `does` is its agent or step, `card` the agent's card
    with its hash, `targets` the topics that its answers go to."""

    name: str
    pipeline: str
    reads: str
    does: str
    targets: tuple[str, ...] = ()
    agent: str | None = None
    card: str | None = None


class _OfAStage(Signal, frozen=True):
    where: StageLabel

    @property
    def stage(self) -> str:
        return self.where.name


class _OfAnEvent(_OfAStage, frozen=True):
    event: Event

    @property
    def trace_id(self) -> str:
        return self.event.trace_id


class EventTaken(_OfAnEvent, frozen=True):
    """A stage begins with an event."""

    action: ClassVar[str] = "consume"
    level: ClassVar[int] = logging.DEBUG
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        position = f"{self.topic}/{self.partition}/{self.offset}"
        return f"run {self.trace_id}: {self.stage} takes {position}"


class StepFinished(_OfAnEvent, frozen=True):
    """A step has ended, and all that it made is durable."""

    action: ClassVar[str] = "step_finished"
    outputs: Outputs
    usage: Usage | None = None
    #: What the agent was asked with.
    instructions: str | None = None
    positions: Positions = ()

    def at(self, positions: Positions) -> "StepFinished":
        return msgspec.structs.replace(self, positions=positions)

    def __str__(self) -> str:
        where, usage = self.where, self.usage or Usage()
        topics = dict.fromkeys(topic for topic, _, _ in self.outputs if topic in where.targets)
        used = f", {usage.tokens}" if usage.requests else ""
        return (
            f"run {self.trace_id}: {where.reads} -> {', '.join(topics) or 'the end'}"
            f" ({where.does}, {usage.seconds:.1f} s{used})"
        )


class PlainBegun(_OfAnEvent, frozen=True):
    """A plain record has begun the run of `event`, which is durable on the record's topic."""

    action: ClassVar[str] = "plain_begun"
    outputs: Outputs
    positions: Positions = ()

    def at(self, positions: Positions) -> "PlainBegun":
        return msgspec.structs.replace(self, positions=positions)

    def __str__(self) -> str:
        tags = "".join(f", {name} {value}" for name, value in self.event.tags.items())
        return f"run {self.trace_id}: begun by a plain record on '{self.where.reads}'{tags}"


class DeadLettered(_OfAStage, frozen=True):
    """An event could not be processed, and its dead letter is durable on `topic`."""

    action: ClassVar[str] = "dead_letter"
    level: ClassVar[int] = logging.ERROR
    topic: str
    dead_letter: DeadLetter
    positions: Positions = ()

    @property
    def trace_id(self) -> str:
        return self.dead_letter.trace_id

    def at(self, positions: Positions) -> "DeadLettered":
        return msgspec.structs.replace(self, positions=positions)

    def __str__(self) -> str:
        found = self.dead_letter
        return (
            f"run {self.trace_id} ends as a dead letter in {self.stage}:"
            f" {found.cause}: {found.message}"
        )


class EventSkipped(_OfAnEvent, frozen=True):
    """An event is done without a step: a replay, or a plain record, that is for another stage."""

    action: ClassVar[str] = "skipped"
    level: ClassVar[int] = logging.DEBUG

    def __str__(self) -> str:
        return f"run {self.trace_id}: {self.stage} leaves it to {self.event.only}"


class EventCancelled(_OfAStage, frozen=True):
    """An event is done without outputs: its run was cancelled."""

    action: ClassVar[str] = "event_cancelled"
    level: ClassVar[int] = logging.DEBUG
    trace_id: str

    def __str__(self) -> str:
        return f"run {self.trace_id}: {self.stage} ends a cancelled event"


class LoopEnded(_OfAnEvent, frozen=True):
    """A way back is not gone again, although its bound would allow it: `why`."""

    action: ClassVar[str] = "loop_ended"
    topic: str
    why: str

    def __str__(self) -> str:
        return f"run {self.trace_id}: {self.stage} ends its loop, on to {self.topic}: {self.why}"


class Retried(_OfAnEvent, frozen=True):
    """A step failed by something that may pass, and is tried again after a pause."""

    action: ClassVar[str] = "retry"
    level: ClassVar[int] = logging.WARNING
    error: BaseException
    pause_s: float

    def __str__(self) -> str:
        failed = f"{self.stage} failed ({self.error})"
        gated = getattr(self.error, "gated", False)
        again = "again when it is there" if gated else f"again in {self.pause_s:.1f} s"
        return f"run {self.trace_id}: {failed}; {again}"


class Replayed(_OfAnEvent, frozen=True):
    """A dead letter's event is processed again."""

    action: ClassVar[str] = "replay"

    def __str__(self) -> str:
        replay = f"replay {self.event.replay} for {self.stage}"
        return f"run {self.trace_id}: {replay}; what was recorded is not paid for again"


class CardEdited(Signal, frozen=True):
    """A step goes on with the card `began` that it began with, and not with `now`; or with `now`,
    where `began` cannot be used any more for that `reason`."""

    action: ClassVar[str] = "card_edited"
    trace_id: str
    stage: str
    began: str
    now: str
    reason: str = ""

    def __str__(self) -> str:
        where = f"run {self.trace_id}: {self.stage}"
        if self.reason:
            return (
                f"{where} began with {self.began}, which cannot be used any more ({self.reason}),"
                f" and goes on with {self.now}: what was recorded may be asked again"
            )
        return f"{where} goes on with {self.began}, which it began with; the card is {self.now} now"


class AnswerCut(Signal, frozen=True):
    """A model's answer goes on although it was cut off, `why`."""

    action: ClassVar[str] = "answer_cut"
    level: ClassVar[int] = logging.WARNING
    trace_id: str
    model: str
    card: str
    why: str
    #: What limits its tokens.
    limit: str

    def __str__(self) -> str:
        way_out = f"raise {self.limit}" if self.why == "length" else "its card's 'cut' decides"
        said = f"the answer of {self.model} was cut off ({self.why}) and goes on as it is"
        return f"run {self.trace_id}: {said}. Card '{self.card}': {way_out}"


class EchoTaken(Signal, frozen=True):
    """Tags or headings of its prompt that a model repeated around its answer were taken off."""

    action: ClassVar[str] = "echo_taken"
    trace_id: str
    model: str
    card: str

    def __str__(self) -> str:
        said = f"{self.model} repeated tags or headings of its prompt around its answer"
        return f"run {self.trace_id}: {said} for card '{self.card}'; they were taken off"


class ToolFailed(Signal, frozen=True):
    """A tool raised `error`; the model was told, and goes on."""

    action: ClassVar[str] = "tool_failed"
    level: ClassVar[int] = logging.WARNING
    trace_id: str
    tool: str
    error: BaseException

    def __str__(self) -> str:
        said = f"{type(self.error).__name__}: {self.error}"
        return f"run {self.trace_id}: the tool '{self.tool}' raised {said}. The model was told"


class StageFailed(_OfAStage, frozen=True):
    """A defect of ours: the event stays un-acked, and a restart takes it up again."""

    action: ClassVar[str] = "stage_fault"
    level: ClassVar[int] = logging.ERROR
    trace_id: str
    fault: BaseException

    def __str__(self) -> str:
        what = "could neither finish an event nor write its dead letter"
        return f"run {self.trace_id}: {self.stage} {what}"


class SuspectAlone(_OfAStage, frozen=True):
    """The last suspect runs, and nothing beside it."""

    action: ClassVar[str] = "suspect_alone"
    level: ClassVar[int] = logging.WARNING
    trace_id: str

    def __str__(self) -> str:
        return (
            f"run {self.trace_id}: {self.stage} runs with nothing beside it, to see whether this"
            " event kills its worker; all else waits until it has ended"
        )


class Shown(Signal, frozen=True):
    """A step shows `text` on the worker's console."""

    action: ClassVar[str] = "shown"
    level: ClassVar[int] = logging.DEBUG
    trace_id: str
    stage: str
    text: str

    def __str__(self) -> str:
        return f"run {self.trace_id}: {self.stage} shows {len(self.text)} characters"


class StepReady(Signal, frozen=True):
    """What the step `step` declares that it needs is there."""

    action: ClassVar[str] = "step_ready"
    step: str
    detail: str

    def __str__(self) -> str:
        return f"The step '{self.step}' is ready: {self.detail}"


class StepNotReady(Signal, frozen=True):
    """What the step `step` declares that it needs is not there."""

    action: ClassVar[str] = "step_not_ready"
    level: ClassVar[int] = logging.ERROR
    step: str
    reason: str

    def __str__(self) -> str:
        until = f"Until then the step '{self.step}' is not run: its events wait"
        return f"{self.reason.rstrip('.')}. {until}, and no runs are begun by a timer."


class HistoryMended(Signal, frozen=True):
    """A row of a history that a crash had cut is out of the way."""

    action: ClassVar[str] = "history_mended"
    level: ClassVar[int] = logging.WARNING
    file: str
    size: int
    aside: str

    def __str__(self) -> str:
        return (
            f"{self.file} ended in the middle of a row: {self.size} bytes are now in"
            f" {self.aside}. The run is written again"
        )


# -- runs


class RunSeeded(Signal, frozen=True):
    """A pipeline's seed has begun its run."""

    action: ClassVar[str] = "seeded"
    trace_id: str
    pipeline: str

    def __str__(self) -> str:
        return f"run {self.trace_id}: seeded {self.pipeline}"


class RunSeededBefore(Signal, frozen=True):
    """A pipeline's seed had begun its run at an earlier start."""

    action: ClassVar[str] = "seeded_before"
    trace_id: str
    pipeline: str

    def __str__(self) -> str:
        again = "PENSTOCK_SEED=again seeds it anew"
        return f"{self.pipeline} was seeded before, as run {self.trace_id} ({again})"


class RunTimed(Signal, frozen=True):
    """A pipeline's timer has begun a run."""

    action: ClassVar[str] = "timed"
    trace_id: str
    pipeline: str

    def __str__(self) -> str:
        return f"run {self.trace_id}: started by the timer of {self.pipeline}"


class RunCancelled(Signal, frozen=True):
    """A run was cancelled, and what was in flight of it here has ended."""

    action: ClassVar[str] = "cancelled"
    trace_id: str
    in_flight: int

    def __str__(self) -> str:
        return f"run {self.trace_id}: cancelled, {self.in_flight} events in flight"


class GovernorChanged(Signal, frozen=True):
    """A governor throttles its pipeline's timer, or no longer does."""

    action: ClassVar[str] = "governor"
    level: ClassVar[int] = logging.WARNING
    pipeline: str
    topic: str
    state: Literal["ACTIVE", "THROTTLED"]
    lag: int
    limit: int

    def __str__(self) -> str:
        begun = (
            f"🛑 LAG TOO HIGH. Throttling... {self.pipeline}:"
            if self.state == "THROTTLED"
            else f"▶ Lag is down. {self.pipeline} goes on:"
        )
        limit = f"the limit is {self.limit}"
        return f"{begun} {self.lag} events of '{self.topic}' are not finished, {limit}"


class GovernorBlind(Signal, frozen=True):
    """A defect of ours: a governor cannot see the lag."""

    action: ClassVar[str] = "governor_blind"
    level: ClassVar[int] = logging.ERROR
    pipeline: str
    fault: BaseException

    def __str__(self) -> str:
        return f"{self.pipeline}: the governor cannot see the lag, and holds back"


# -- the worker


class Draining(Signal, frozen=True):
    """A worker that stops waits for what is in flight."""

    action: ClassVar[str] = "draining"
    in_flight: int
    limit_s: float

    def __str__(self) -> str:
        return f"Waiting up to {self.limit_s:g} s for {self.in_flight} events in flight"


class DrainCutOff(Signal, frozen=True):
    """A worker that stops has cancelled what was still in flight."""

    action: ClassVar[str] = "drain_cut_off"
    level: ClassVar[int] = logging.WARNING
    count: int
    limit_s: float

    def __str__(self) -> str:
        return (
            f"{self.count} events were not finished in {self.limit_s:g} s (PENSTOCK_DRAIN_S); they"
            " are taken up again by the next worker"
        )


class FilesChanged(Signal, frozen=True):
    """Files of the project are not as the worker has read them. None: they are again."""

    action: ClassVar[str] = "files_changed"
    level: ClassVar[int] = logging.WARNING
    files: tuple[str, ...]
    way_out: str

    def __str__(self) -> str:
        if not self.files:
            return "The project's files are again as this worker has read them"
        return (
            f"Changed since this worker has read them: {', '.join(self.files)}. It works with what"
            f" it has read; {self.way_out}"
        )


class CardsTaken(Signal, frozen=True):
    """A worker has read its cards anew, and uses those of `cards` that have changed."""

    action: ClassVar[str] = "cards_taken"
    cards: tuple[str, ...]

    def __str__(self) -> str:
        if not self.cards:
            return "Cards read anew: none has changed"
        return f"Cards taken, for steps that begin from here on: {', '.join(self.cards)}"


class CardsRefused(Signal, frozen=True):
    """Cards that were read anew cannot be used; the former ones stay."""

    action: ClassVar[str] = "cards_refused"
    level: ClassVar[int] = logging.ERROR
    reason: str

    def __str__(self) -> str:
        return f"No card was taken, and the worker goes on with those it has: {self.reason}"


class HealthUnwritten(Signal, frozen=True):
    """The file that `status` reads cannot be written."""

    action: ClassVar[str] = "health_unwritten"
    level: ClassVar[int] = logging.WARNING
    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} cannot be written: {self.reason}"


# -- gates


class ProviderDown(Signal, frozen=True):
    """A provider, or what else calls wait for, does not answer."""

    action: ClassVar[str] = "provider_down"
    level: ClassVar[int] = logging.ERROR
    name: str
    reason: str

    def __str__(self) -> str:
        pause = "Its stages pause; asking again until it does"
        return f"{self.name} does not answer: {self.reason}. {pause}"


class ProviderUp(Signal, frozen=True):
    """It answers again, after `seconds`."""

    action: ClassVar[str] = "provider_up"
    level: ClassVar[int] = logging.WARNING
    name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name} answers again after {self.seconds:.0f} s; work goes on"


class ProviderBusy(Signal, frozen=True):
    """A provider has refused a call as one too many; calls are held to a rate from here on."""

    action: ClassVar[str] = "provider_busy"
    level: ClassVar[int] = logging.WARNING
    name: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.name} is busy: {self.reason}. Its calls go out one by one, as fast as it takes"
            " them; no try is counted"
        )


class ProviderSlow(Signal, frozen=True):
    """A call took too long beside others: `at_once` may be in flight from here on."""

    action: ClassVar[str] = "provider_slow"
    level: ClassVar[int] = logging.WARNING
    name: str
    at_once: int

    def __str__(self) -> str:
        calls = "1 call" if self.at_once == 1 else f"{self.at_once} calls"
        return f"{self.name} is slow: {calls} at once from here on, and slowly more again"


class SettingRefused(Signal, frozen=True):
    """A model refuses `setting`, and is asked without it, or with `instead`."""

    action: ClassVar[str] = "setting_refused"
    level: ClassVar[int] = logging.WARNING
    name: str
    setting: str
    instead: str | None = None

    def __str__(self) -> str:
        now = f"asked with '{self.instead}'" if self.instead else "asked without it"
        return f"{self.name} refuses '{self.setting}', and is {now} from here on"


class ModelLoading(Signal, frozen=True):
    """The weights of a local model are being loaded."""

    action: ClassVar[str] = "model_loading"
    name: str
    file: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} is being loaded: {self.file}, {self.size / 1e9:.2f} GB"


class ModelLoaded(Signal, frozen=True):
    """A local model answers, in the process `pid`."""

    action: ClassVar[str] = "model_loaded"
    name: str
    pid: int
    seconds: float
    threads: int

    def __str__(self) -> str:
        where = f"process {self.pid}, on {self.threads} of the cores"
        return f"{self.name} was loaded in {self.seconds:.1f} s: {where}"


class ModelEnded(Signal, frozen=True):
    """The process of a local model has ended by itself; `printed` is what it said last."""

    action: ClassVar[str] = "model_ended"
    level: ClassVar[int] = logging.WARNING
    name: str
    how: str
    printed: str

    def __str__(self) -> str:
        said = f". It said: {self.printed}" if self.printed else ""
        return f"{self.name} has ended: {self.how}. The next call loads it again{said}"


# -- the broker


class BrokerDown(Signal, frozen=True):
    """The broker does not answer; no new work is taken."""

    action: ClassVar[str] = "broker_down"
    level: ClassVar[int] = logging.WARNING
    name: str
    reason: str

    def __str__(self) -> str:
        again = "Nothing is lost: asking again until it does"
        return f"{self.name} does not answer ({self.reason}). {again}"


class BrokerUp(Signal, frozen=True):
    """The broker answers again, after `seconds`."""

    action: ClassVar[str] = "broker_up"
    level: ClassVar[int] = logging.WARNING
    name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name} answers again, after {self.seconds:.0f} s"


class DiskRefuses(Signal, frozen=True):
    """The embedded broker's file cannot be written; no new work is taken."""

    action: ClassVar[str] = "disk_refuses"
    level: ClassVar[int] = logging.ERROR
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}. No new work is taken; trying again until it can be written"


class DiskTakes(Signal, frozen=True):
    """The embedded broker's file can be written again."""

    action: ClassVar[str] = "disk_takes"
    level: ClassVar[int] = logging.WARNING
    file: str

    def __str__(self) -> str:
        return f"{self.file}: writing again, work goes on"


class CrashFound(Signal, frozen=True):
    """The last worker on the embedded file died with work in flight."""

    action: ClassVar[str] = "crash_found"
    level: ClassVar[int] = logging.WARNING
    in_flight: int

    def __str__(self) -> str:
        return (
            f"The last worker died with {self.in_flight} events in flight; they are taken up again"
        )


class SuspectsFound(Signal, frozen=True):
    """`count` events were in flight at two deaths of a worker or more, the most suspect of them at
    `deaths`."""

    action: ClassVar[str] = "suspects_found"
    level: ClassVar[int] = logging.WARNING
    count: int
    deaths: int

    def __str__(self) -> str:
        return (
            f"{self.count} {'event was' if self.count == 1 else 'events were'} in flight at up to"
            f" {self.deaths} deaths of a worker. In case one of them kills it, at most half of"
            " those that died together run at the same time, everything else beside them"
        )


class StageJoined(Signal, frozen=True):
    """The stage `name` is new on `topic`: it replaces the stages that have vanished, or it begins
    where `source` is, or with the first record."""

    action: ClassVar[str] = "stage_joined"
    level: ClassVar[int] = logging.WARNING
    name: str
    topic: str
    source: str | None = None
    replaces: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.replaces:
            return f"{self.name} takes the place of {', '.join(self.replaces)} on '{self.topic}'"
        if self.source:
            return (
                f"{self.name} is new on '{self.topic}' and begins where {self.source} is; runs"
                " that have passed are not taken up (to send one on from there: rerun)"
            )
        return f"{self.name} is new on '{self.topic}', which nobody read, and takes all of it up"


class StageLeft(Signal, frozen=True):
    """The stage `name` is gone from `topic`, which others read. Kafka does not know how many events
    it had not finished (None)."""

    action: ClassVar[str] = "stage_left"
    level: ClassVar[int] = logging.WARNING
    name: str
    topic: str
    unfinished: int | None = None

    def __str__(self) -> str:
        gone = f"{self.name} does not read '{self.topic}' any more"
        if self.unfinished == 0:
            return f"{gone}, and had finished all that was there"
        count = "" if self.unfinished is None else f" ({self.unfinished} events)"
        return (
            f"{gone}: what it had not finished there{count} is left undone (to send a run on from"
            " there: rerun)"
        )


class EventsUnread(Signal, frozen=True):
    """Events wait on a topic that no stage reads any more."""

    action: ClassVar[str] = "events_unread"
    level: ClassVar[int] = logging.WARNING
    topic: str
    reason: str

    def __str__(self) -> str:
        return self.reason


class WorkerSuspended(Signal, frozen=True):
    """This worker stood still for longer than its lease."""

    action: ClassVar[str] = "worker_suspended"
    level: ClassVar[int] = logging.WARNING

    def __str__(self) -> str:
        return "This worker was suspended; it asks Kafka what is still its own"


class PartitionsLost(Signal, frozen=True):
    """Partitions went to other workers, with events of theirs in flight here."""

    action: ClassVar[str] = "partitions_lost"
    level: ClassVar[int] = logging.WARNING
    in_flight: int

    def __str__(self) -> str:
        return f"{self.in_flight} events in flight went to other workers and are done there"


class ProgressNotTaken(Signal, frozen=True):
    """Kafka did not take what is finished before partitions were given up."""

    action: ClassVar[str] = "progress_not_taken"
    level: ClassVar[int] = logging.WARNING

    def __str__(self) -> str:
        return "Kafka does not take what is finished; it will be found finished again"


class KafkaProblem(Signal, frozen=True):
    """Kafka answers, and something on it keeps this worker from some of its work."""

    action: ClassVar[str] = "kafka_problem"
    level: ClassVar[int] = logging.ERROR
    reason: str

    def __str__(self) -> str:
        return f"Kafka: {self.reason}"


class KafkaProblemOver(Signal, frozen=True):
    """What kept this worker from some of its work is over."""

    action: ClassVar[str] = "kafka_problem_over"
    level: ClassVar[int] = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"Kafka: work goes on; this is over: {self.reason}"


class TopicMadeAnew(Signal, frozen=True):
    """A topic was deleted, and there is another one of its name, with this `id`."""

    action: ClassVar[str] = "topic_made_anew"
    level: ClassVar[int] = logging.ERROR
    topic: str
    id: str
    then: str

    def __str__(self) -> str:
        return f"Kafka: the topic '{self.topic}' was deleted and made anew. {self.then}"


class EventsGone(Signal, frozen=True):
    """Events were in flight, and their topic was deleted."""

    action: ClassVar[str] = "events_gone"
    level: ClassVar[int] = logging.ERROR
    in_flight: int
    topics: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(f"'{name}'" for name in self.topics)
        return f"Kafka: {self.in_flight} events of {names} were in flight here; they are cut off"


class EventsLost(Signal, frozen=True):
    """Kafka deleted records before they were read."""

    action: ClassVar[str] = "events_lost"
    level: ClassVar[int] = logging.ERROR
    topic: str
    partition: int
    start: int
    end: int
    count: int

    def __str__(self) -> str:
        return (
            f"Kafka: of '{self.topic}', partition {self.partition}, the records from offset"
            f" {self.start} to {self.end - 1} were deleted before they were read here. Lost:"
            f" {self.count} that were not finished. Its retention.ms and retention.bytes must be"
            " -1 (kafka-configs.sh --alter), and no other program may delete its records"
        )


class PartitionsChanged(Signal, frozen=True):
    """The topics have another number of partitions than when this worker began."""

    action: ClassVar[str] = "partitions_changed"
    level: ClassVar[int] = logging.WARNING
    before: int
    now: int

    def __str__(self) -> str:
        return (
            f"Kafka: the topics have {self.now} partitions now, and had {self.before}. Runs that"
            " are under way go on in other partitions: their events may overtake each other, and"
            " a trace id that was begun before is not known there"
        )


class TopicsDiffer(Signal, frozen=True):
    """Topics that were there are not as Penstock would have made them."""

    action: ClassVar[str] = "topics_differ"
    level: ClassVar[int] = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"Kafka: {self.reason}"


class GroupRefuses(Signal, frozen=True):
    """The consumer group does not let this worker in."""

    action: ClassVar[str] = "group_refuses"
    level: ClassVar[int] = logging.WARNING
    group: str
    reason: str

    def __str__(self) -> str:
        return f"Kafka: the group '{self.group}' refuses this worker: {self.reason}"


class RunsDeleted(Signal, frozen=True):
    """What finished longer ago than the retention is gone."""

    action: ClassVar[str] = "retention"
    records: int

    def __str__(self) -> str:
        return f"Retention: deleted {self.records} records of finished runs"


class RetentionPutOff(Signal, frozen=True):
    """What finished longer ago than the retention could not be deleted now."""

    action: ClassVar[str] = "retention_put_off"
    level: ClassVar[int] = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"Retention is put off: {self.reason}"
