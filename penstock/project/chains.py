"""Chains: a whole pipeline as data, as a worker has it."""

import dataclasses
import pathlib
from collections.abc import Collection
from typing import Any, Literal

from penstock.errors import ChainError
from penstock.project.branches import Branches

#: Whether each worker seeds and times the pipeline, or those only whose PENSTOCK_START names it.
Start = Literal["automatic", "manual"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage as the chain file declares it; `name` is the Faust agent's name.

    `again` is the agent's task for a run that holds an answer of this stage already. `check` is a
    step that looks at the event before the agent is asked; `after` names the stage that goes first.
    With `one_worker` one worker of the cluster does all of it. `telemetry` is the chain's topic for
    what its agents did.
    """

    pipeline: str
    name: str
    reads: str
    agent: str | None = None
    task: str | None = None
    again: str | None = None
    check: str | None = None
    step: str | None = None
    writes: str | None = None
    branches: Branches | None = None
    part: str | None = None
    after: str | None = None
    carries: tuple[str, ...] | None = None
    one_worker: bool = False
    telemetry: str | None = None
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
    """While more than `limit` events of `topic` are not finished, the timer begins no run."""

    topic: str
    limit: int


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
    start: Start = "automatic"
    #: The topic on which agents and the governor tell what they do.
    telemetry: str | None = None

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
