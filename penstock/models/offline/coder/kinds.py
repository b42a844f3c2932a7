"""A kind of task: what is asked, a right program, and the slips that a first version makes."""

import dataclasses
import random
import string
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Variant:
    """One form of a kind. `detail` ends the title; `words` fill the statement and the program."""

    detail: str
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Slip:
    """A plausible fault: `right` stands in the program and `wrong` is written for it."""

    right: str
    wrong: str
    #: What went wrong, told when it is mended.
    lesson: str


@dataclasses.dataclass(frozen=True)
class Kind:
    """Tasks of one kind.

    `sample` draws an example input on which every slip shows, and `solve(detail, input)` is what
    it must give, worked out here and not by the program.
    """

    name: str
    about: str
    how: str
    program: str
    sample: Callable[[random.Random], str]
    solve: Callable[[str, str], str]
    variants: tuple[Variant, ...]
    slips: tuple[Slip, ...]

    def title(self, number: int) -> str:
        return f"{self.name}: {self.variants[number].detail}"

    def statement(self, number: int) -> str:
        return self._filled(self.about, number)

    def right(self, number: int) -> str:
        return self._filled(self.program.strip() + "\n", number)

    def slip(self, number: int) -> Slip | None:
        """The slip of this variant's first version; two variants of three have none."""
        return self.slips[number // 3 % len(self.slips)] if number % 3 == 1 else None

    def first(self, number: int) -> str:
        """What is written when no error was told: wrong for one variant of three."""
        slip = self.slip(number)
        return self.right(number).replace(slip.right, slip.wrong) if slip else self.right(number)

    def _filled(self, text: str, number: int) -> str:
        return string.Template(text).substitute(self.variants[number].words)


def whole(dice: random.Random, least: int, most: int) -> int:
    """A whole number from `least` to `most`, both included."""
    return least + int(dice.random() * (most - least + 1))


def shuffled(dice: random.Random, values: list[str]) -> list[str]:
    """`values` in an order that the dice choose."""
    return [value for _, value in sorted((dice.random(), value) for value in values)]
