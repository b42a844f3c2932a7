"""Branches: where a stage's answer goes, by what it says; and loops, which have an end."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import pydantic

from penstock.errors import StepFailed

#: The outcome for every answer that no other names.
OTHERWISE = "else"


class Outcome(pydantic.BaseModel):
    """Where an answer goes: to `writes`, the end of the run's branch when that is None; after
    `at_most` times in a run, to `then`.

    It goes there before that when the part `while_new` is as it was in an earlier round, or the
    part `unless` is true: going round again would lead to the same.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    writes: str | None = None
    at_most: Annotated[int, pydantic.Field(ge=1, le=1000)] | None = None
    then: str | None = None
    while_new: str | None = None
    unless: str | None = None


@dataclasses.dataclass(frozen=True)
class Way:
    """The way that an answer takes: its topic, how often each bounded way was gone by then, by
    stage and outcome, what each was gone with, and why it is not gone again, where something other
    than its bound says so."""

    topic: str | None
    rounds: Mapping[str, int]
    seen: Mapping[str, list[str]]
    ended: str = ""


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
        """The outcomes that end a run after these `rounds`, or can."""
        found = []
        for name, way in self.outcomes.items():
            over = self._is_over(way, f"{stage}/{name}", rounds)
            may_be = [way.then] if over or way.while_new or way.unless else []
            if None in (may_be if over else [way.writes, *may_be]):
                found.append(name)
        return found

    @staticmethod
    def _is_over(way: Outcome, name: str, rounds: Mapping[str, int]) -> bool:
        """Whether the way was gone as often as it may be."""
        return way.at_most is not None and rounds.get(name, 0) >= way.at_most

    def choose(
        self,
        stage: str,
        value: Any,
        rounds: Mapping[str, int],
        seen: Mapping[str, list[str]],
        find: Callable[[str], Any],
    ) -> Way:
        """The way for `value`. `find` gives the run's part, or the field of one, of that name.
        Raises `StepFailed` when the chain does not say where it goes."""
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
            return Way(way.then, rounds, seen)
        if way.at_most is None:
            return Way(way.writes, rounds, seen)
        if way.unless is not None and find(way.unless):
            return Way(way.then, rounds, seen, f"{way.unless} is true")
        if way.while_new is not None and (part := find(way.while_new)) is not None:
            digest, before = _digest(part), seen.get(gone, [])
            if digest in before:
                ended = f"{way.while_new} is the same as in round {before.index(digest) + 1}"
                return Way(way.then, rounds, seen, ended)
            seen = {**seen, gone: [*before, digest]}
        return Way(way.writes, {**rounds, gone: rounds.get(gone, 0) + 1}, seen)


def _digest(part: Any) -> str:
    """What two parts share that differ at most in the white space at the ends of their lines."""
    text = part if isinstance(part, str) else json.dumps(part, sort_keys=True)
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return hashlib.blake2b(lines.encode("utf-8", "replace"), digest_size=8).hexdigest()
