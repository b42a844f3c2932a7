"""Chain files: `topics/NAME.yaml`, read and checked."""

import pathlib
from typing import Annotated, Any

import pydantic

from penstock.errors import ChainError
from penstock.project.branches import Branches, Outcome, OutcomeEntry
from penstock.project.chains import Chain, GovernorSpec, StageSpec, Start
from penstock.project.checks import check_chain
from penstock.project.documents import Document

#: Kafka's own rule for the names of topics.
TOPIC_NAME = r"^[a-zA-Z0-9._-]{1,249}$"
TopicName = Annotated[str, pydantic.Field(pattern=TOPIC_NAME)]
Name = Annotated[str, pydantic.Field(pattern=r"^[a-zA-Z0-9_-]{1,100}$")]


class StageEntry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    reads: TopicName
    agent: Name | None = None
    task: str | None = None
    again: str | None = None
    check: Name | None = None
    step: Name | None = None
    writes: TopicName | None = None
    part: Name | None = None
    by: str | None = None
    outcomes: dict[str, OutcomeEntry] | None = pydantic.Field(None, min_length=1)
    name: Name | None = None
    after: Name | None = None
    carries: list[str] | None = None
    one_worker: bool = False
    concurrency: int | None = pydantic.Field(None, ge=1, le=100_000)

    @pydantic.model_validator(mode="after")
    def _one_thing_to_do(self) -> "StageEntry":
        if (self.agent is None) == (self.step is None):
            raise ValueError("a stage has either 'agent: CARD' or 'step: NAME', one of the two")
        for key in ("task", "again"):
            if getattr(self, key) and self.step:
                raise ValueError(f"'{key}' goes with 'agent', not with 'step'")
        if (self.by is None) != (self.outcomes is None):
            raise ValueError("'by: FIELD' and 'outcomes' go together")
        if self.outcomes is not None and (self.writes is not None or self.part is None):
            raise ValueError(
                "with 'outcomes' a stage needs 'part: NAME', what its answer is called whichever"
                " way it goes, and has no 'writes' of its own"
            )
        if self.check and self.step:
            raise ValueError("'check' goes with 'agent'; a step can check for itself")
        return self


class GovernorEntry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    topic: TopicName
    limit: int = pydantic.Field(ge=0, le=1_000_000)


class ChainFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    pipeline: Name
    about: str = ""
    topics: dict[TopicName, str | None] = pydantic.Field(min_length=1)
    stages: list[StageEntry] = pydantic.Field(min_length=1)
    entry: TopicName | Annotated[list[TopicName], pydantic.Field(min_length=1)] | None = None
    seed: dict[str, Any] | None = None
    start: Start = "automatic"
    every_s: float = pydantic.Field(0.0, ge=0)
    governor: GovernorEntry | None = None
    telemetry: TopicName | None = None


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
                again=stage.again,
                check=stage.check,
                step=stage.step,
                writes=stage.writes,
                branches=_branches(stage),
                part=stage.part,
                after=stage.after,
                carries=None if stage.carries is None else tuple(stage.carries),
                one_worker=stage.one_worker,
                telemetry=read.telemetry if stage.agent is not None else None,
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
        start=read.start,
        telemetry=read.telemetry,
    )
    check_chain(chain, document)
    return chain


def _governor(read: ChainFile) -> GovernorSpec | None:
    found = read.governor
    return None if found is None else GovernorSpec(found.topic, found.limit)


def _branches(stage: StageEntry) -> Branches | None:
    if stage.by is None or stage.outcomes is None:
        return None
    outcomes = {
        name: Outcome(way.writes, way.at_most, way.then) for name, way in stage.outcomes.items()
    }
    return Branches(stage.by, outcomes)
