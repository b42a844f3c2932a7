"""Progress on Kafka: what a stage has finished in a partition above the group's commit.

Events finish in any order and a commit is one offset, so what is finished above it is recorded in
the journal's topic. A record describes a stretch of offsets. The records of several workers are all
true at the same time, a late one of a worker that was cut off included: what any of them calls
finished is finished.
"""

from collections.abc import Iterable

import msgspec


class Stretch(msgspec.Struct, array_like=True):
    """All offsets from `start` to before `end` are finished except those in `open`; beyond the
    stretch, those in `above` are."""

    start: int
    end: int
    open: list[int]
    above: list[int]

    def is_done(self, offset: int) -> bool:
        if self.start <= offset < self.end:
            return offset not in self.open
        return offset in self.above

    @property
    def first(self) -> int:
        """The first offset that it describes."""
        return min([self.start, *self.above])

    @property
    def last(self) -> int:
        """The offset after all that it describes."""
        return max(self.end, max(self.above, default=-1) + 1)


#: When more offsets than this are skipped at once, they are not listed one by one.
MOST_SKIPPED = 10_000


class Progress:
    """One stage in one partition since the last seek, which was to `start`, the group's commit.
    `earlier` are the stretches that were recorded before.

    A record's size depends on what is in flight, not on how much was finished.
    """

    __slots__ = ("above", "committed", "earlier", "end", "open", "start")

    def __init__(
        self, earlier: Iterable[tuple[bytes, Stretch]] = (), start: int | None = None
    ) -> None:
        #: Stretches of earlier workers and assignments, by the keys of their records.
        self.earlier: dict[bytes, Stretch] = dict(earlier)
        #: Nothing below it is delivered any more.
        self.committed = start or 0
        self.start = start
        self.end = start or 0
        self.open: set[int] = set()
        self.above: set[int] = set()

    def is_done(self, offset: int) -> bool:
        if self.start is not None and self.start <= offset < self.end:
            return offset not in self.open
        return offset in self.above or any(one.is_done(offset) for one in self.earlier.values())

    def deliver(self, offset: int) -> bool:
        """Note that the record at `offset` was delivered, and return whether it is finished. What
        was skipped is not called finished: it may not exist, or it was dropped on the way to the
        stage and is delivered again after the next seek."""
        done = self.is_done(offset)
        if self.start is None:
            self.start = self.end = offset
        if offset >= self.end:
            if offset > self.end:
                self._skip_to(offset)
            self.end = offset + 1
            if done:
                self.above.discard(offset)
            else:
                self.open.add(offset)
        return done

    def _skip_to(self, offset: int) -> None:
        if offset - self.end > MOST_SKIPPED:
            # What this stretch called finished is known by the events' ids from here on.
            self.start = self.end = offset
            self.open.clear()
        self.open.update(one for one in range(self.end, offset) if not self.is_done(one))

    def finish(self, offset: int) -> None:
        """Note that the event at `offset` is finished; it may be from before the last seek."""
        if self.start is not None and self.start <= offset < self.end:
            self.open.discard(offset)
        else:
            self.above.add(offset)

    def commit(self, offset: int) -> None:
        """Forget what is below `offset`, the group's new commit."""
        if offset <= self.committed:
            return
        self.committed = offset
        if self.start is not None and self.start < offset <= self.end:
            self.start = offset
            self.open = {one for one in self.open if one >= offset}

    def stretch(self) -> Stretch:
        """Return the stretch to record."""
        start = self.end if self.start is None else self.start
        return Stretch(start, self.end, sorted(self.open), sorted(self.above))

    def outlived(self) -> list[bytes]:
        """Forget earlier stretches that this one covers. Returns the keys of their records, to be
        deleted when this one is durable."""
        if self.start is None:
            return []
        gone = [
            key
            for key, one in self.earlier.items()
            if one.last <= self.end and self.start <= max(one.first, self.committed)
        ]
        for key in gone:
            del self.earlier[key]
        return gone
