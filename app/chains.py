"""Chains: `topics/NAME.yaml`, a whole pipeline as data."""

import dataclasses
import difflib
import pathlib
from collections.abc import Collection
from typing import Annotated, Any

import pydantic

from app.branches import Branches, Outcome, OutcomeEntry
from app.documents import Document
from app.errors import ChainError

#: Kafka's own rule for the names of topics.
TOPIC_NAME = r"^[a-zA-Z0-9._-]{1,249}$"
TopicName = Annotated[str, pydantic.Field(pattern=TOPIC_NAME)]
Name = Annotated[str, pydantic.Field(pattern=r"^[a-zA-Z0-9_-]{1,100}$")]


class StageEntry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    reads: TopicName
    agent: Name | None = None
    task: str | None = None
    check: Name | None = None
    step: Name | None = None
    writes: TopicName | None = None
    part: Name | None = None
    by: str | None = None
    outcomes: dict[str, OutcomeEntry] | None = pydantic.Field(None, min_length=1)
    name: Name | None = None
    after: Name | None = None
    carries: list[str] | None = None
    concurrency: int | None = pydantic.Field(None, ge=1, le=100_000)

    @pydantic.model_validator(mode="after")
    def _one_thing_to_do(self) -> "StageEntry":
        if (self.agent is None) == (self.step is None):
            raise ValueError("a stage has either 'agent: CARD' or 'step: NAME', one of the two")
        if self.task and self.step:
            raise ValueError("'task' goes with 'agent', not with 'step'")
        if (self.by is None) != (self.outcomes is None):
            raise ValueError("'by: FIELD' and 'outcomes' go together")
        if self.outcomes is not None and (self.writes is not None or self.part is None):
            raise ValueError(
                "a stage with 'outcomes' has no 'writes' of its own, and a 'part': what its answer"
                " is called, whichever way it goes"
            )
        if self.check and self.step:
            raise ValueError("'check' goes with 'agent'; a step can check for itself")
        return self


class GovernorEntry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    topic: TopicName
    limit: int = pydantic.Field(ge=0, le=1_000_000)
    telemetry: TopicName | None = None


class ChainFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    pipeline: Name
    about: str = ""
    topics: dict[TopicName, str | None] = pydantic.Field(min_length=1)
    stages: list[StageEntry] = pydantic.Field(min_length=1)
    entry: TopicName | Annotated[list[TopicName], pydantic.Field(min_length=1)] | None = None
    seed: dict[str, Any] | None = None
    every_s: float = pydantic.Field(0.0, ge=0)
    governor: GovernorEntry | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage as the chain file declares it; `name` is the Faust agent's name.

    `check` is a step that looks at the event before the agent is asked; `after` names the stage
    that goes first.
    """

    pipeline: str
    name: str
    reads: str
    agent: str | None = None
    task: str | None = None
    check: str | None = None
    step: str | None = None
    writes: str | None = None
    branches: Branches | None = None
    part: str | None = None
    after: str | None = None
    carries: tuple[str, ...] | None = None
    concurrency: int | None = None
    place: str = ""

    @property
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
        return (
            f"{self.agent}{f' ({self.task})' if self.task else ''}"
            if self.agent
            else self.step or ""
        )


@dataclasses.dataclass(frozen=True)
class GovernorSpec:
    """While more than `limit` events of `topic` are not finished, the timer begins no run; each
    change is an event on `telemetry`."""

    topic: str
    limit: int
    telemetry: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """A pipeline: its topics in the order of the file, its stages, and what seeds it."""

    name: str
    about: str
    topics: dict[str, str]
    stages: tuple[StageSpec, ...]
    entries: tuple[str, ...]
    seed: dict[str, Any] | None
    every_s: float
    file: pathlib.Path
    governor: GovernorSpec | None = None

    @property
    def entry(self) -> str:
        """Where a run begins when nobody says otherwise."""
        return self.entries[0]

    def entry_of(self, parts: Collection[str]) -> str:
        """The topic on which a run of these parts begins."""
        return next((entry for entry in self.entries if entry in parts), self.entry)

    def read_parts(self, given: dict[str, Any]) -> dict[str, Any]:
        """What begins a run, checked. Raises `ChainError` that says what the pipeline takes."""
        begun = [entry for entry in self.entries if entry in given]
        if len(begun) != 1:
            known = " or ".join(f"'{entry}' ({self.topics[entry]})" for entry in self.entries)
            raise ChainError(
                f"a run of '{self.name}' begins with {known}{', with one of them' if begun else ''}"
                f"; found {', '.join(given) or 'nothing'}"
            )
        unknown = [name for name in given if name not in self.topics]
        if unknown:
            raise ChainError(
                f"'{self.name}' has no part '{unknown[0]}'; it knows {', '.join(self.topics)}"
            )
        if given[begun[0]] in (None, "", [], {}):
            raise ChainError(f"'{begun[0]}' is empty")
        return given


def read_chain(file: pathlib.Path) -> Chain:
    """The chain in `file`, checked by itself. Raises `ChainError` with file, line and key."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ChainError(f"{file}: cannot be read: {exc}") from exc
    document = Document(file, text, ChainError)
    read = document.check(ChainFile)
    entries = read.entry or next(iter(read.topics))
    stages = []
    for index, stage in enumerate(read.stages):
        doer = f"{stage.agent}_{stage.task}" if stage.task else stage.agent or stage.step
        stages.append(
            StageSpec(
                pipeline=read.pipeline,
                name=stage.name or f"{read.pipeline}_{doer}_{stage.reads}".replace(".", "_"),
                reads=stage.reads,
                agent=stage.agent,
                task=stage.task,
                check=stage.check,
                step=stage.step,
                writes=stage.writes,
                branches=_branches(stage),
                part=stage.part,
                after=stage.after,
                carries=None if stage.carries is None else tuple(stage.carries),
                concurrency=stage.concurrency,
                place=document.where("stages", index),
            )
        )
    chain = Chain(
        name=read.pipeline,
        about=read.about,
        topics={name: about or "" for name, about in read.topics.items()},
        stages=tuple(stages),
        entries=(entries,) if isinstance(entries, str) else tuple(entries),
        seed=read.seed,
        every_s=read.every_s,
        file=file,
        governor=_governor(read),
    )
    _check(chain, document)
    return chain


def _governor(read: ChainFile) -> GovernorSpec | None:
    found = read.governor
    return None if found is None else GovernorSpec(found.topic, found.limit, found.telemetry)


def _branches(stage: StageEntry) -> Branches | None:
    if stage.by is None or stage.outcomes is None:
        return None
    outcomes = {
        name: Outcome(way.writes, way.at_most, way.then) for name, way in stage.outcomes.items()
    }
    return Branches(stage.by, outcomes)


def _check(chain: Chain, document: Document) -> None:
    written = {topic for stage in chain.stages for topic in stage.targets}
    parts = [*chain.topics, *(stage.makes for stage in chain.stages if stage.makes)]
    for entry in chain.entries:
        if entry not in chain.topics:
            raise _undeclared(document, chain, entry, "entry")
    begins = " and ".join(f"'{entry}'" for entry in chain.entries)
    for index, stage in enumerate(chain.stages):
        named: list[tuple[str | None, tuple[str, ...]]] = [(stage.reads, ("reads",))]
        named.append((stage.writes, ("writes",)))
        for name, way in (stage.branches.outcomes if stage.branches else {}).items():
            named.append((way.writes, ("outcomes", name, "writes")))
            named.append((way.then, ("outcomes", name, "then")))
        for topic, key in named:
            if topic is not None and topic not in chain.topics:
                raise _undeclared(document, chain, topic, "stages", index, *key)
        if stage.reads not in written and stage.reads not in chain.entries:
            close = difflib.get_close_matches(stage.reads, written, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise document.fail(
                f"stage '{stage.name}' reads '{stage.reads}', which no stage writes and which is"
                f" not the entry ({begins}).{hint}",
                "stages",
                index,
                "reads",
            )
        for part in stage.carries or ():
            if part not in parts:
                raise _undeclared(document, chain, part, "stages", index, "carries")
    for entry in chain.entries:
        if all(stage.reads != entry for stage in chain.stages):
            raise document.fail(f"no stage reads the entry, '{entry}'", "stages")
    names = [stage.name for stage in chain.stages]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise document.fail(
                f"two stages are named '{name}': give one of them another 'name'", "stages", index
            )
    _check_turns(chain, document)
    circle = _find_circle(chain)
    if circle:
        index = next(
            i
            for i, stage in enumerate(chain.stages)
            if stage.reads == circle[-2] and circle[-1] in _onward(stage)
        )
        raise document.fail(
            f"a cycle without an exit: {' -> '.join(circle)}. Every run would go round for ever."
            " A way back needs an end: {writes: TOPIC, at_most: 3, then: ANOTHER}.",
            "stages",
            index,
            "outcomes" if chain.stages[index].branches else "writes",
        )
    if chain.governor is not None:
        _check_governor(chain, chain.governor, document)
    if chain.seed is not None:
        try:
            chain.read_parts(chain.seed)
        except ChainError as exc:
            raise document.fail(f"seed: {exc.message}", "seed") from exc
    elif chain.every_s:
        raise document.fail("'every_s' starts runs from 'seed', and there is none", "every_s")


def _check_governor(chain: Chain, governor: GovernorSpec, document: Document) -> None:
    for key, topic in (("topic", governor.topic), ("telemetry", governor.telemetry)):
        if topic is not None and topic not in chain.topics:
            raise _undeclared(document, chain, topic, "governor", key)
    if all(stage.reads != governor.topic for stage in chain.stages):
        raise document.fail(
            f"no stage reads '{governor.topic}', so nothing of it is ever finished",
            "governor",
            "topic",
        )


def _check_turns(chain: Chain, document: Document) -> None:
    ahead = {stage.name: stage.after for stage in chain.stages}
    for index, stage in enumerate(chain.stages):
        if stage.after is None:
            continue
        if stage.after not in ahead:
            close = difflib.get_close_matches(stage.after, ahead, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise document.fail(
                f"'{stage.after}' is not one of the stages ({', '.join(ahead)}).{hint}",
                "stages",
                index,
                "after",
            )
        line = [stage.name]
        while (next_ := ahead[line[-1]]) is not None and next_ in ahead:
            line.append(next_)
            if next_ in line[:-1]:
                raise document.fail(
                    f"stages that wait for each other: {' after '.join(line)}. None would begin.",
                    "stages",
                    index,
                    "after",
                )


def _undeclared(document: Document, chain: Chain, topic: str, *place: str | int) -> Exception:
    close = difflib.get_close_matches(topic, chain.topics, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return document.fail(
        f"'{topic}' is not one of the topics ({', '.join(chain.topics)}).{hint}", *place
    )


def _onward(stage: StageSpec) -> list[str]:
    """The topics that it may write to any number of times in a run."""
    return stage.targets if stage.branches is None else stage.branches.unbounded


def _find_circle(chain: Chain) -> list[str]:
    """The topics of a cycle, first and last the same, or nothing."""
    onward: dict[str, list[str]] = {}
    for stage in chain.stages:
        onward.setdefault(stage.reads, []).extend(_onward(stage))
    done: set[str] = set()

    def visit(topic: str, path: list[str]) -> list[str]:
        if topic in path:
            return [*path[path.index(topic) :], topic]
        if topic in done:
            return []
        for after in onward.get(topic, ()):
            if found := visit(after, [*path, topic]):
                return found
        done.add(topic)
        return []

    return next((found for topic in onward if (found := visit(topic, []))), [])
