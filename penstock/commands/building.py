"""Building: what is said while the index of runs is filled for the first time, or after long."""

import time

from penstock.commands.printing import say

#: Records that are read without a word about it.
FEW = 5_000
#: Seconds between two words.
EVERY_S = 2.0


class BuildProgress:
    """Says how far the index is, for a person who waits for it."""

    def __init__(self) -> None:
        self._said = 0.0
        self._building = False

    def __call__(self, done: int, total: int) -> None:
        if total <= FEW:
            return
        now = time.monotonic()
        if done == total:
            if self._building:
                say(f"The index of runs is built: {total:,} records.")
        elif now - self._said > EVERY_S:
            self._said, self._building = now, True
            say(f"Building the index of runs: {done:,} of {total:,} records.")
