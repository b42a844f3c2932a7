"""Chains: `topics/NAME.yaml`, a whole pipeline as data. Each of its keys is written once, in one of
these models; what they read cannot be changed."""

import functools
import pathlib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import pydantic

from penstock.errors import ChainError
from penstock.project.branches import Branches, Outcome
from penstock.record.values import storable

#: Kafka's own rule for the names of topics.
TOPIC_NAME = r"^[a-zA-Z0-9._-]{1,249}$"
TopicName = Annotated[str, pydantic.Field(pattern=TOPIC_NAME)]
Name = Annotated[str, pydantic.Field(pattern=r"^[a-zA-Z0-9_-]{1,100}$")]
#: What an entry takes beside events.
Accept = Literal["plain"]
#: Whether each worker seeds and times the pipeline, or those only whose PENSTOCK_START names it.
Start = Literal["automatic", "manual"]


class Topic(pydantic.BaseModel):
    """A topic: a line about it, and the word that its part has in prompts, when that is not its
    name. In the file the line may stand alone."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str = ""
    word: Annotated[str | None, pydantic.Field(alias="as", pattern=r"^\w[\w-]{0,99}$")] = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _a_line_alone(cls, given: Any) -> Any:
        return {"about": given or ""} if given is None or isinstance(given, str) else given


class StageSpec(pydantic.BaseModel):
    """One stage as the chain file declares it.

    `again` is the agent's task for a run that holds an answer of this stage already. `check` is a
    step that looks at the event before the agent is asked; `after` names the stage that goes first.
    With `one_worker` one worker of the cluster does all of it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    reads: TopicName
    agent: Name | None = None
    task: str | None = None
    again: str | None = None
    check: Name | None = None
    step: Name | None = None
    writes: TopicName | None = None
    part: Name | None = None
    by: str | None = None
    outcomes: Annotated[dict[str, Outcome], pydantic.Field(min_length=1)] | None = None
    #: The Faust agent's name.
    name: Name = ""
    after: Name | None = None
    carries: list[str] | None = None
    one_worker: bool = False
    concurrency: Annotated[int, pydantic.Field(ge=1, le=100_000)] | None = None

    _pipeline: str = ""
    _telemetry: str | None = None
    _words: Mapping[str, str] = {}

    def within(
        self,
        pipeline: str,
        telemetry: str | None = None,
        words: Mapping[str, str] | None = None,
    ) -> "StageSpec":
        """The stage as part of `pipeline`, with a name. `telemetry` is the chain's topic for what
        its agents did, `words` are those of its parts."""
        doer = f"{self.agent}_{self.task}" if self.task else self.agent or self.step
        name = self.name or f"{pipeline}_{doer}_{self.reads}".replace(".", "_")
        made = self.model_copy(update={"name": name})
        made._pipeline = pipeline
        made._telemetry = telemetry if self.agent is not None else None
        made._words = words or {}
        return made

    @functools.cached_property
    def pipeline(self) -> str:
        return self._pipeline

    # Asked for by each event, and a private attribute is slow.
    @functools.cached_property
    def telemetry(self) -> str | None:
        return self._telemetry

    def word_for(self, part: str) -> str:
        """What `part`, or the field of one, is called in prompts: as the chain says, or the last
        word of its name."""
        return self._words.get(part) or part.rpartition(".")[2]

    @functools.cached_property
    def branches(self) -> Branches | None:
        """Where its answer goes, when its answer decides that."""
        if self.by is None or self.outcomes is None:
            return None
        return Branches(self.by, self.outcomes)

    @functools.cached_property
    def makes(self) -> str:
        """The part that its answer becomes: called as its topic, unless the chain says."""
        return self.part or self.writes or ""

    @property
    def targets(self) -> list[str]:
        """Every topic that it can write to."""
        if self.branches is not None:
            return self.branches.topics
        return [] if self.writes is None else [self.writes]

    @property
    def does(self) -> str:
        """Who does the work, for people: the agent and its task, or the step."""
        if not self.agent:
            return self.step or ""
        return f"{self.agent} ({self.task})" if self.task else self.agent


class GovernorSpec(pydantic.BaseModel):
    """While more than `limit` events of `topic` are not finished, the timer begins no run."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    topic: TopicName
    limit: int = pydantic.Field(ge=0, le=1_000_000)


class Chain(pydantic.BaseModel):
    """A pipeline: its topics in the order of the file, its stages, and what seeds it.

    `telemetry` is the topic for what its agents and its governor did.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    pipeline: Name
    about: str = ""
    topics: dict[TopicName, Topic] = pydantic.Field(min_length=1)
    stages: list[StageSpec] = pydantic.Field(min_length=1)
    declared_entry: Annotated[
        TopicName | Annotated[list[TopicName], pydantic.Field(min_length=1)] | None,
        pydantic.Field(alias="entry"),
    ] = None
    #: Entries on which a record that is no event begins a run: all of them, or those named.
    accept: Accept | dict[TopicName, Accept] | None = None
    seed: dict[str, Any] | None = None
    start: Start = "automatic"
    every_s: Annotated[float, pydantic.Field(ge=0)] = 0.0
    governor: GovernorSpec | None = None
    telemetry: TopicName | None = None
    #: The part that its runs are for, or the topic whose event holds that; by default, what was
    #: made last.
    result: str | None = None

    _file: pathlib.Path = pathlib.Path()

    @property
    def name(self) -> str:
        return self.pipeline

    @property
    def file(self) -> pathlib.Path:
        return self._file

    @property
    def entries(self) -> tuple[str, ...]:
        """Where its runs can begin."""
        found = self.declared_entry or next(iter(self.topics))
        return (found,) if isinstance(found, str) else tuple(found)

    @property
    def entry(self) -> str:
        """Where a run begins when nobody says otherwise."""
        return self.entries[0]

    def accepts_plain(self, topic: str) -> bool:
        """Whether a record on `topic` that is no event begins a run."""
        accepting = self.entries if isinstance(self.accept, str) else self.accept or ()
        return topic in accepting

    def entry_of(self, parts: Collection[str]) -> str:
        """The topic on which a run of these parts begins."""
        return next((entry for entry in self.entries if entry in parts), self.entry)

    def read_parts(self, given: dict[str, Any]) -> dict[str, Any]:
        """What begins a run, checked. Raises `ChainError` that says what the pipeline takes."""
        begun = [entry for entry in self.entries if entry in given]
        if len(begun) != 1:
            known = " or ".join(f"'{entry}' ({self.topics[entry].about})" for entry in self.entries)
            raise ChainError(
                f"a run of '{self.name}' begins with {known}{', with one of them' if begun else ''}"
                f"; found {', '.join(given) or 'nothing'}"
            )
        unknown = [name for name in given if name not in self.topics]
        if unknown:
            raise ChainError(
                f"'{self.name}' has no part '{unknown[0]}'; it knows {', '.join(self.topics)}"
            )
        first = given[begun[0]]
        if first in (None, "", [], {}) or (isinstance(first, str) and not first.strip()):
            raise ChainError(f"'{begun[0]}' is empty")
        try:
            parts: dict[str, Any] = storable(given)
        except (ValueError, RecursionError) as exc:
            raise ChainError(f"a run cannot begin with this: {exc}") from exc
        return parts
