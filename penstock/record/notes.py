"""What the memory holds: notes on what failed, what succeeded and what keeps coming back."""

import dataclasses
import json
import uuid
from typing import Any, Literal, get_args

from penstock.record.values import whole

Kind = Literal["failure", "success", "pattern"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Characters of a task or a lesson. A note is for a prompt; the whole text is in the run's events.
LONGEST = 20_000
#: What ids of points are derived from.
NAMESPACE = uuid.UUID("0e2ff8ab-3f6b-5d0c-9c5f-6d2c1c9a6c11")


@dataclasses.dataclass(frozen=True)
class Note:
    """One lesson: what was learnt, and the task that it was for. `id` is the caller's: a note with
    an id that is known replaces the earlier one."""

    id: str
    kind: Kind
    task: str
    lesson: str
    #: Seconds since 1970.
    created: float

    @property
    def point(self) -> str:
        """The point's id in Qdrant, which takes UUIDs and numbers only."""
        return str(uuid.uuid5(NAMESPACE, self.id))


@dataclasses.dataclass(frozen=True)
class Found:
    """A note that is near to a task. `score` is the cosine of the two tasks' vectors: 1 for the
    same words, and not to be compared between two models of embeddings."""

    kind: Kind
    task: str
    lesson: str
    score: float


def checked(kind: str) -> Kind:
    """`kind`. Raises `ValueError` when there is no such kind."""
    for known in KINDS:
        if kind == known:
            return known
    raise ValueError(f"{kind!r} is no kind of note: {', '.join(KINDS)}")


def clean(text: str) -> str:
    """`text` as it can be stored: no longer than LONGEST, and without halves of surrogate pairs,
    which models' JSON can hold and UTF-8 cannot."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return whole(text)


def about_text(*parts: Any) -> str:
    """What a note is about, in the form in which notes are found again: a title, then the task."""
    texts = [part if isinstance(part, str) else json.dumps(part) for part in parts if part]
    return "\n".join(texts)
