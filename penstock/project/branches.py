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

    def ends(self, stage: str, rounds: Mapping[str, int]) -> list[str]:
        """The outcomes that end a run after these `rounds`."""
        return [
            name
            for name, way in self.outcomes.items()
            if (way.then if self._is_over(way, f"{stage}/{name}", rounds) else way.writes) is None
        ]

    @staticmethod
    def _is_over(way: Outcome, name: str, rounds: Mapping[str, int]) -> bool:
        """Whether the way was gone as often as it may be."""
        return way.at_most is not None and rounds.get(name, 0) >= way.at_most

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
        gone = f"{stage}/{name}"
        if self._is_over(way, gone, rounds):
            return way.then, dict(rounds)
        if way.at_most is None:
            return way.writes, dict(rounds)
        return way.writes, {**rounds, gone: rounds.get(gone, 0) + 1}
