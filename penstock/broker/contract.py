"""The contract of a broker: what Penstock asks of it.

    Broker       for every process: begin runs, append, read, check
    Membership   for a worker: the journal, its partitions, lag, retention
    Stages       what a broker asks of the stages that work on its events

Two packages implement it, `embedded` and `kafka`. `penstock.broker` chooses one by the settings;
no other module asks which it is.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.broker.suspects import Suspects
from penstock.broker.tp import TP
from penstock.conditions import Condition
from penstock.journal import Journal
from penstock.record import cancels, steps
from penstock.record import dead_letters as deadletters

if TYPE_CHECKING:
    import faust

#: The partition of all events of a topic that only one worker of the cluster reads.
ONE_WORKER = 0


class Location(NamedTuple):
    """The partition and offset of a record on its topic."""

    partition: int
    offset: int


class Row(NamedTuple):
    """A record to append. Its key chooses the partition."""

    topic: str
    key: bytes
    value: bytes


class Beginning(NamedTuple):
    """The first event of a run. A run is begun once for each `id`, which is the event's."""

    topic: str
    id: str
    key: bytes
    value: bytes


@dataclasses.dataclass(frozen=True)
class Found:
    """A record that was read from its topic; `ts` is in milliseconds since 1970 UTC."""

    topic: str
    partition: int
    offset: int
    ts: int
    key: bytes
    value: bytes


class Extent(NamedTuple):
    """What a partition holds: offsets from `first` on, below `end`. `id` is another one when the
    topic was made anew."""

    id: str
    first: int
    end: int


#: Bytes of records that `Broker.follow` returns at once, or a little more.
FOLLOW_BYTES = 4_000_000
#: What is to be read: offsets by partition.
Spans = Mapping[TP, range]


@dataclasses.dataclass(frozen=True)
class Unread:
    """Events of `topic` that wait for `stages`, which no chain has any more. No stage reads it."""

    topic: str
    stages: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        wait = "event waits" if self.count == 1 else "events wait"
        return (
            f"{self.count} {wait} on '{self.topic}' for {', '.join(self.stages)}, which no chain"
            " has any more. Name the topic in a chain again, as an entry that a stage reads, until"
            f" it is worked off, or end these runs: penstock cancel --topic {self.topic}"
        )


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A pipeline's topics. All have the same number of partitions, so that a run stays in one.
    `file` is its chain's, for messages."""

    name: str
    file: str
    topics: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The topics that a project needs, and the stages that read them."""

    app_id: str
    pipelines: tuple[Pipeline, ...] = ()
    #: The names of the stages that read each topic. An offset is done when all of them are.
    readers: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    #: Topics whose events all stand in partition `ONE_WORKER`.
    one_worker: frozenset[str] = frozenset()
    #: What the pipelines' topics here begin with, and those of the chains do not.
    prefix: str = ""

    def prefixed(self, prefix: str) -> "Plan":
        """Return the plan with the names that the pipelines' topics have on a broker where they
        begin with `prefix`."""
        pipelines = [
            dataclasses.replace(one, topics=tuple(prefix + name for name in one.topics))
            for one in self.pipelines
        ]
        return dataclasses.replace(
            self,
            pipelines=tuple(pipelines),
            readers={prefix + topic: names for topic, names in self.readers.items()},
            one_worker=frozenset(prefix + topic for topic in self.one_worker),
            prefix=prefix,
        )

    def on_broker(self, topic: str) -> str:
        """Return the name that `topic` of a chain, or of the app, has on the broker."""
        own = topic in (self.dead_letters, self.cancels, self.steps)
        return topic if own else self.prefix + topic

    def in_chain(self, topic: str) -> str:
        """Return the name that a chain gives to `topic` of the broker."""
        return topic.removeprefix(self.prefix)

    @property
    def stages(self) -> list[str]:
        """The names of all stages."""
        return [name for names in self.readers.values() for name in names]

    def gone(self, known: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
        """Return those of the topics `known`, with the stages that read them once, that no stage
        reads now."""
        return {topic: tuple(names) for topic, names in known.items() if topic not in self.readers}

    @property
    def cancels(self) -> str:
        """The topic of cancelled runs."""
        return cancels.topic_name(self.app_id)

    @property
    def dead_letters(self) -> str:
        return deadletters.topic_name(self.app_id)

    @property
    def steps(self) -> str:
        """The topic of step records."""
        return steps.topic_name(self.app_id)

    @property
    def topics(self) -> list[str]:
        """The pipelines' topics, then those of dead letters, cancelled runs and step records."""
        names = [name for pipeline in self.pipelines for name in pipeline.topics]
        return [*names, self.dead_letters, self.cancels, self.steps]


class Broker(Protocol):
    """The broker for a process that is not a worker. Methods block; call them in a thread."""

    def begin(self, runs: Sequence[Beginning]) -> list[Location | None]:
        """Begin the runs, durably, each once for as long as it is kept.

        Returns the location of each first event, or None for a run that was begun before with the
        same content. Raises `RunBegunBefore` for one that was begun with other content, and
        `BrokerUnavailable`; on the embedded broker none of them has begun then. On Kafka only the
        workers know what was begun: None is never returned, a run that was begun before is not run
        again, and one of other content becomes a dead letter with the cause `RunBegunBefore`.
        """

    def append(self, rows: Sequence[Row]) -> list[Location]:
        """Append the rows, durably and in their order: on the embedded broker all of them or none,
        on Kafka one after another. Raises `BrokerUnavailable`."""

    def cancel(self, key: bytes, value: bytes) -> None:
        """Let whoever works on the events of `key`, now or later, know that the run is cancelled.
        `value` says when. Raises `BrokerUnavailable`."""

    def worker_running(self) -> bool:
        """Return whether a worker is running; True where the broker cannot say."""

    def version(self) -> int:
        """Return a number that changes whenever a record is added."""

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        """Return the records of `key` on `topic` from offset `start` on; with no key, all."""

    def extents(self, topics: Sequence[str]) -> dict[TP, Extent]:
        """Return the extent of each partition of those `topics` that are there, each topic's as it
        was at the same time as that of the topic before it, or later."""

    def follow(self, spans: Spans, limit: int) -> tuple[list[Found], dict[TP, int]]:
        """Return records in `spans`, in the order of their offsets, and where to go on in each
        partition. At most `limit` of them and some megabytes, so whoever follows a long topic needs
        little memory. Raises `BrokerUnavailable`."""

    def kept(self, topic: str, partition: int, offsets: Sequence[int]) -> set[int]:
        """Return those of `offsets` that retention has not deleted."""

    def unfinished(self, stage: str, topic: str) -> int:
        """Return how many records of `topic` the stage has not finished, with those in flight."""

    def is_done(self, stage: str, record: Found) -> bool:
        """Return whether `stage` has finished `record`."""

    def gone(self) -> Mapping[str, Sequence[str]]:
        """Return the topics that no stage reads any more, with the stages that did."""

    def unread(self) -> list[Unread]:
        """Return what waits on those topics, as of the `snapshot`."""

    def let_go(self, records: Sequence[Found]) -> None:
        """Finish `records`, of topics that no stage reads, for the stages that read them once.
        Raises `BrokerUnavailable`."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Inside, everything is read as it was at one moment or later: an output of a step that is
        finished is not missed."""

    def check(self) -> tuple[bool, str]:
        """Return whether the broker is sound, and a sentence: how it is, or what to do."""

    def close(self) -> None:
        """End connections and threads."""


class Stages(Protocol):
    """A worker's stages, as a broker sees them."""

    #: The keys of runs that end where they are.
    cancelled: set[bytes]

    def hold(self) -> None:
        """Take no new events, until `resume`."""

    def resume(self) -> None:
        """Take events again."""

    def on_seek(self) -> None:
        """Expect what was not finished to be delivered again from here on."""

    async def pause(self, limit_s: float) -> None:
        """Take no new events, and wait until those in flight have ended or `limit_s` has passed."""

    async def release(self, kept: Collection[Any]) -> int:
        """Cancel what is in flight of other partitions than `kept`; it stays un-acked. Returns how
        many events that were."""

    async def drain(self) -> None:
        """Take no new events, and wait for those in flight; those that have not ended at the limit
        are cancelled, for the next worker to take up."""


class Membership(Protocol):
    """A worker's side of its broker. The app calls the methods at the stages of its life."""

    @property
    def journal(self) -> Journal:
        """The durable record of calls, and what ends a step."""

    @property
    def suspects(self) -> Suspects:
        """What finds an event that kills its worker."""

    def name_of(self, topic: str) -> str:
        """Return the name that `topic` of a chain has on the broker."""

    def faust_settings(self) -> dict[str, Any]:
        """Return the settings of Faust for this broker. Raises `SettingsError`."""

    def attach(self, app: "faust.App", stages: Stages) -> Any:
        """Connect the broker with the worker: its app and its stages. Returns the app's Faust
        transport."""

    def check(self) -> None:
        """Find out whether a worker can start, as far as that can be known before it does. Raises
        `PenstockError` with what to do."""

    async def reach(self) -> None:
        """Wait until the broker answers, and make every topic that is missing."""

    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """Return what has to run beside the stages for as long as the worker does."""

    async def assigned(self) -> None:
        """Take over the partitions that were assigned; called after each rebalance, before anything
        is delivered."""

    async def give_up(self, consumer: Any, stopping: bool) -> None:
        """Give the partitions up: wait for what is in flight, within limits, and write what has
        ended. Called before each rebalance and when the worker stops."""

    async def flush(self, flushing: Awaitable[None], stopping: bool) -> None:
        """Wait for `flushing`, Faust's producer, or until a stopping worker's time is over."""

    async def begin(
        self, topic: str, id_: str, key: bytes, value: bytes, *, kept: bool = False
    ) -> Location | None:
        """Begin a run with the event `id_`. Returns its location, or None when the run was begun
        before or is another worker's to begin. A `kept` id is known for ever. Raises
        `RunBegunBefore` when it was begun with other content."""

    async def lag(self, topic: str) -> int:
        """Return how many events of `topic` are not finished by all stages that read it, those in
        flight included. Raises `BrokerUnavailable`."""

    async def unread(self) -> list[Unread]:
        """Return what waits on topics that no stage reads any more, in this worker's partitions.
        Raises `BrokerUnavailable`."""

    async def retire(self, before_s: float) -> int:
        """Delete what belongs to finished runs and is older than `before_s` (seconds since 1970),
        and forget that they were begun. Returns how many records were deleted. Raises
        `BrokerUnavailable`; then it is done another time."""

    @property
    def condition(self) -> Condition:
        """The state of the broker now."""

    async def close(self) -> None:
        """Close connections and let go of the file."""
