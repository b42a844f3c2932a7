"""The contract of a broker: what Penstock asks of where its topics live.

    Broker       what every process can do: begin runs, append, read, say how it is
    Membership   what a worker has beyond that: the journal, its partitions, lag, retention
    Stages       what a broker asks of those who work on its events

Two implementations, `embedded` and `kafka`. `penstock.broker` chooses one by the settings; nobody
else asks which it is.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from penstock.broker.suspects import Suspects
from penstock.conditions import Condition
from penstock.journal import Journal
from penstock.record import cancels
from penstock.record import dead_letters as deadletters

if TYPE_CHECKING:
    import faust

#: The partition of all events of a topic that one worker of the cluster reads.
ONE_WORKER = 0


class Location(NamedTuple):
    """Where a record stands on its topic."""

    partition: int
    offset: int


class Row(NamedTuple):
    """A record to append. Its key chooses the partition."""

    topic: str
    key: bytes
    value: bytes


class Beginning(NamedTuple):
    """The first event of a run. `id` is the event's: what was begun under it is not begun again."""

    topic: str
    id: str
    key: bytes
    value: bytes


@dataclasses.dataclass(frozen=True)
class Found:
    """A record as it stands on its topic; `ts` is in milliseconds since 1970 UTC."""

    topic: str
    partition: int
    offset: int
    ts: int
    key: bytes
    value: bytes


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A pipeline as a broker sees it: its topics have as many partitions as each other, so that a
    run stays in one. `file` is where a person finds its chain."""

    name: str
    file: str
    topics: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a project asks of its broker: topics, and which stages read them."""

    app_id: str
    pipelines: tuple[Pipeline, ...] = ()
    #: The stages that read each topic: an offset is done when all of them are.
    readers: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    #: Topics whose events all stand in partition `ONE_WORKER`.
    one_worker: frozenset[str] = frozenset()

    @property
    def stages(self) -> list[str]:
        """Every stage that reads."""
        return [name for names in self.readers.values() for name in names]

    @property
    def cancels(self) -> str:
        """The topic that says which runs are to end where they are."""
        return cancels.topic_name(self.app_id)

    @property
    def dead_letters(self) -> str:
        return deadletters.topic_name(self.app_id)

    @property
    def topics(self) -> list[str]:
        """Every topic of the pipelines, then those of dead letters and of cancelled runs."""
        names = [name for pipeline in self.pipelines for name in pipeline.topics]
        return [*names, self.dead_letters, self.cancels]


class Broker(Protocol):
    """What every process can do, beside the workers. Methods block; call them in a thread."""

    def begin(self, runs: Sequence[Beginning]) -> list[Location | None]:
        """Each of the runs has begun, durably; where its first event stands, or None where a run
        with the same content had begun under that id before. On the embedded broker all of them
        begin or none. On Kafka, where only the workers know what was begun, None is never returned:
        a run that had begun before is not run again, and one of another content is a dead letter.

        Raises `RunBegunBefore` for one that had begun with other content, `BrokerUnavailable`.
        """

    def append(self, rows: Sequence[Row]) -> list[Location]:
        """The rows are on their topics, durably and in their order: on the embedded broker all of
        them or none, on Kafka one after another. Raises `BrokerUnavailable`."""

    def cancel(self, key: bytes, value: bytes) -> None:
        """Whoever works on the events of `key`, now or later, learns that their run is cancelled.
        `value` says when. Raises `BrokerUnavailable`."""

    def worker_running(self) -> bool:
        """Whether a worker is there to do the work; true where the broker cannot say."""

    def version(self) -> int:
        """Changes whenever something was added."""

    def find(self, topic: str, key: bytes | None, start: int = 0) -> list[Found]:
        """The records of `key` on `topic` from offset `start` on; with no key, all of them."""

    def unfinished(self, reader: str, topic: str) -> int:
        """How many records of `topic` its reader has not finished: what is in flight counts."""

    def is_done(self, reader: str, record: Found) -> bool:
        """Whether `reader` has finished `record`."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Inside, what is read is as it stood at one moment, or later."""

    def check(self) -> tuple[bool, str]:
        """Whether the broker is as it should be, and a sentence about it or what to do."""

    def close(self) -> None:
        """Connections and threads are gone."""


class Stages(Protocol):
    """Those who work on a broker's events, as a broker sees them."""

    #: The keys of runs that end where they are.
    cancelled: set[bytes]

    def hold(self) -> None:
        """Nothing new is taken, until `resume`."""

    def resume(self) -> None:
        """Events are taken again."""

    def on_seek(self) -> None:
        """What was not finished is delivered again from here on."""

    async def pause(self, limit_s: float) -> None:
        """Nothing new is taken; what is in flight has ended, or `limit_s` has passed."""

    async def release(self, kept: Collection[Any]) -> int:
        """What is in flight of other partitions than `kept` was cancelled, and stays un-acked; how
        many events that were."""

    async def drain(self) -> None:
        """Nothing new is taken; what is in flight has ended, or was cancelled at the limit and is
        taken up by the next worker."""


class Membership(Protocol):
    """How a worker stands to its broker. The app calls each method in its turn."""

    @property
    def journal(self) -> Journal:
        """The durable record of calls, and the end of each step."""

    @property
    def suspects(self) -> Suspects:
        """What finds the event that kills its worker."""

    def faust_settings(self) -> dict[str, Any]:
        """What Faust is told of this broker. Raises `SettingsError`."""

    def attach(self, app: "faust.App", stages: Stages) -> Any:
        """The worker is `app`, and its events are worked on by `stages`; the Faust transport that
        it uses."""

    def check(self) -> None:
        """A worker can start here, as far as that can be known before it does. Raises
        `PenstockError` with what to do."""

    async def reach(self) -> None:
        """The broker answers and has every topic."""

    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs beside the stages for as long as the worker does."""

    async def assigned(self) -> None:
        """After each change of who has which partitions, before anything is delivered."""

    async def give_up(self, consumer: Any, stopping: bool) -> None:
        """Before partitions are given up: what is in flight has ended or was cancelled, and what
        has ended is written."""

    async def flush(self, flushing: Awaitable[None], stopping: bool) -> None:
        """Faust's producer has sent what it holds, or a stopping worker's time for that is over."""

    async def begin(
        self, topic: str, id_: str, key: bytes, value: bytes, *, kept: bool = False
    ) -> Location | None:
        """A run has begun with the event `id_`; None when it had before, or is another worker's to
        begin. A `kept` id is known for ever. Raises `RunBegunBefore` when it had with other
        content."""

    async def lag(self, topic: str) -> int:
        """How many events of `topic` are not finished by all of its readers: what is in flight
        counts, once. Raises `BrokerUnavailable`."""

    async def retire(self, before_s: float) -> int:
        """What belongs to finished runs and is older than `before_s` (seconds since 1970) is gone;
        how many records that were. Raises `BrokerUnavailable`, then it is put off."""

    @property
    def condition(self) -> Condition:
        """How the broker is now."""

    async def close(self) -> None:
        """Connections are closed, the file is free."""
