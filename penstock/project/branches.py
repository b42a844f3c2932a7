"""Branches: where a stage's answer goes, by what it says; and loops, which have an end."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from penstock.errors import StepFailed

#: The outcome for every answer that no other names.
OTHERWISE = "else"


class Outcome(pydantic.BaseModel):
    """Where an answer goes: to `writes`, the end of the run's branch when that is None; after
    `at_most` times in a run, to `then`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    writes: str | None = None
    at_most: Annotated[int, pydantic.Field(ge=1, le=1000)] | None = None
    then: str | None = None


@dataclasses.dataclass(frozen=True)
class Branches:
    """A stage's outcomes, by the text of the field `by` of its answer."""

    by: str
    outcomes: Mapping[str, Outcome]

    @property
    def topics(self) -> list[str]:
        """Every topic that an answer can go to."""
        found = [one for way in self.outcomes.values() for one in (way.writes, way.then)]
        return list(dict.fromkeys(topic for topic in found if topic is not None))

    @property
    def unbounded(self) -> list[str]:
        """Those to which it can go any number of times."""
        found = [w.writes if w.at_most is None else w.then for w in self.outcomes.values()]
        return list(dict.fromkeys(topic for topic in found if topic is not None))

    def choose(
        self, stage: str, value: Any, rounds: Mapping[str, int]
    ) -> tuple[str | None, dict[str, int]]:
        """The topic for `value`, and how often each bounded way was gone then, by stage and
        outcome. Raises `StepFailed` when the chain does not say where it goes."""
        said = value.get(self.by) if isinstance(value, dict) else None
        name = str(said)
        if name not in self.outcomes or said is None:
            if OTHERWISE not in self.outcomes:
                known = ", ".join(self.outcomes)
                found = repr(said) if isinstance(value, dict) else "no JSON object"
                raise StepFailed(
                    f"'{self.by}' decides where the answer of '{stage}' goes, and the chain has"
                    f" {known}; the answer has {found}"
                )
            name = OTHERWISE
        way = self.outcomes[name]
        if way.at_most is None:
            return way.writes, dict(rounds)
        gone = rounds.get(f"{stage}/{name}", 0)
        if gone >= way.at_most:
            return way.then, dict(rounds)
        return way.writes, {**rounds, f"{stage}/{name}": gone + 1}
