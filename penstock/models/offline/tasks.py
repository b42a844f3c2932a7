"""Tasks: thought up without repeating what was made before, and known again by their words."""

import functools
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.models.offline import prose
from penstock.models.offline.data import load


@dataclass(frozen=True)
class Task:
    """One variant of a kind of task, which is a file of `data/tasks/`."""

    kind: str
    title: str
    statement: str
    how: str
    right: str
    #: The program that is written when no error was told, and what is learned from its slip.
    first: str
    lesson: str
    #: Recorded inputs and what each must give; a slip shows on every one.
    examples: list[tuple[str, str]]

    def described(self, seed: str) -> dict[str, str]:
        """Return the task as the mesh's producer tells it, with one of the examples."""
        dice = prose.dice_of("example", self.title, seed)
        given, expected = prose.pick(dice, self.examples)
        told = {"title": self.title, "task": self.statement}
        return told | {"input": given, "expected": expected}


@functools.cache
def tasks() -> dict[str, Task]:
    """Return all tasks by their titles."""
    kinds = load("tasks").values()
    made = (_task(kind, variant) for kind in kinds for variant in kind["variants"])
    return {task.title: task for task in made}


def _task(kind: dict[str, Any], variant: dict[str, Any]) -> Task:
    program, statement = map(string.Template, (kind["program"], kind["statement"]))
    right = program.substitute(variant["words"])
    slip = variant.get("slip", {"right": "", "wrong": "", "lesson": ""})
    return Task(
        kind=kind["name"],
        title=f"{kind['name']}: {variant['detail']}",
        statement=statement.substitute(variant["words"]),
        how=kind["how"],
        right=right,
        first=right.replace(slip["right"], slip["wrong"]),
        lesson=slip["lesson"],
        examples=list(zip(kind["inputs"], variant["expected"], strict=True)),
    )


def brainstorm(told: str, seed: str) -> dict[str, str]:
    """Return a task whose title is not in `told`, as long as there is one left.

    A kind that `told` does not name comes before another variant of one that it names.
    """
    dice = prose.dice_of("brainstorm", seed)
    order = sorted(tasks().values(), key=lambda _: dice.random())
    unmade = [task for task in order if not names(told, task.title)]
    fresh = [task for task in unmade if not names(told, task.kind)]
    return (fresh or unmade or order)[0].described(seed)


def known(part: object) -> Task | None:
    """Return the task that `part` is about: by its title, its statement, or a title in its text."""
    said = part if isinstance(part, str) else ""
    if isinstance(part, Mapping):
        said = f"{part.get('title', '')}\n{part.get('task', '')}"
        if task := tasks().get(str(part.get("title", "")).strip()):
            return task
    line = " ".join(said.split())
    found = (task for task in tasks().values() if task.statement in line or names(line, task.title))
    return next(found, None)


def names(text: str, title: str) -> bool:
    """Return whether `title` stands in `text`, and not only as the beginning of another one."""
    found = title.lower() in text.lower()  # most often not, and this is ten times as fast
    return found and re.search(rf"(?i)(?<!\w){re.escape(title)}(?!\w)", text) is not None
