"""Tasks: thought up without repeating what was made before, and known again by their words."""

import dataclasses
import re
from collections.abc import Mapping

from penstock.models.offline.coder import arithmetic, numbers, signs, spans, tables, texts
from penstock.models.offline.coder.kinds import Kind, shuffled
from penstock.models.offline.storyteller import prose

KINDS: tuple[Kind, ...] = (
    *(*numbers.KINDS, *arithmetic.KINDS),
    *(*texts.KINDS, *signs.KINDS),
    *(*tables.KINDS, *spans.KINDS),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """One variant of a kind."""

    kind: Kind
    number: int

    @property
    def title(self) -> str:
        return self.kind.title(self.number)

    def described(self, seed: str) -> dict[str, str]:
        """Its title, statement, an example input drawn from `seed`, and what that must give."""
        example = self.kind.sample(prose.dice_of("example", self.title, seed))
        detail = self.kind.variants[self.number].detail
        return {
            "title": self.title,
            "task": self.kind.statement(self.number).replace("\n", " "),
            "input": example,
            "expected": self.kind.solve(detail, example) + "\n",
        }


_ALL = {
    task.title: task
    for kind in KINDS
    for task in (Task(kind, number) for number in range(len(kind.variants)))
}


def titles() -> list[str]:
    """The titles of all tasks that there are."""
    return list(_ALL)


def brainstorm(told: str, seed: str) -> dict[str, str]:
    """A task whose title is not in `told`, as long as there is one left.

    A kind that `told` does not name comes before another variant of one that it names.
    """
    dice = prose.dice_of("brainstorm", seed)
    order = shuffled(dice, titles())
    unmade = [title for title in order if not names(told, title)]
    fresh = [title for title in unmade if not names(told, _ALL[title].kind.name)]
    return _ALL[(fresh or unmade or order)[0]].described(seed)


def known(part: object) -> Task | None:
    """The task that `part` is about: by its title, by its statement, or by a title in its text."""
    if isinstance(part, Mapping):
        by_title = _ALL.get(str(part.get("title", "")).strip())
        said = f"{part.get('title', '')}\n{part.get('task', '')}"
    else:
        by_title, said = None, part if isinstance(part, str) else ""
    if by_title is not None:
        return by_title
    line = " ".join(said.split())
    for task in _ALL.values():
        statement = " ".join(task.kind.statement(task.number).split())
        if statement in line or names(line, task.title):
            return task
    return None


def names(text: str, title: str) -> bool:
    """Whether `title` stands in `text`, and not only as the beginning of another one."""
    found = title.lower() in text.lower()  # most often not, and this is ten times as fast
    return found and re.search(rf"(?i)(?<!\w){re.escape(title)}(?!\w)", text) is not None
