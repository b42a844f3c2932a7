"""Progress on Kafka: what a stage has finished in a partition, beyond the group's commit.

Events finish in any order and a commit is one offset, so what is finished above it is written down
beside the journal. A record says what it knows of a stretch of offsets, and all records are true at
once: however many workers wrote some, a late one of a worker that was cut off among them, what any
of them calls finished is finished.
"""

from collections.abc import Iterable

import msgspec


class Stretch(msgspec.Struct, array_like=True):
    """Of the offsets from `start` to before `end`, all are finished but those in `open`; above it
    are those in `above`."""

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
        """The first offset that it speaks of."""
        return min([self.start, *self.above])

    @property
    def last(self) -> int:
        """The offset after all that it speaks of."""
        return max(self.end, max(self.above, default=-1) + 1)


#: More offsets than this that were passed over at once are not written down one by one.
MOST_SKIPPED = 10_000


class Progress:
    """One stage in one partition, since it was last sought to `start`, the group's commit;
    `earlier` is what was written before.

    What is written has the size of what is in flight, whatever has been finished.
    """

    __slots__ = ("above", "committed", "earlier", "end", "open", "start")

    def __init__(
        self, earlier: Iterable[tuple[bytes, Stretch]] = (), start: int | None = None
    ) -> None:
        #: The stretches of earlier workers and assignments, by the keys of their records.
        self.earlier: dict[bytes, Stretch] = dict(earlier)
        #: Below it nothing is delivered any more.
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
        """The record at `offset` has come; whether it is finished already. What was passed over is
        not called finished: it may not exist, or have been dropped on the way to the stage, to come
        again after the next seek."""
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
            # What this stretch has called finished is known by the events' ids from here on.
            self.start = self.end = offset
            self.open.clear()
        self.open.update(one for one in range(self.end, offset) if not self.is_done(one))

    def finish(self, offset: int) -> None:
        """What is at `offset` is finished; it may be of before the last seek."""
        if self.start is not None and self.start <= offset < self.end:
            self.open.discard(offset)
        else:
            self.above.add(offset)

    def commit(self, offset: int) -> None:
        """The group has committed `offset`: what is below is of no interest any more."""
        if offset <= self.committed:
            return
        self.committed = offset
        if self.start is not None and self.start < offset <= self.end:
            self.start = offset
            self.open = {one for one in self.open if one >= offset}

    def stretch(self) -> Stretch:
        """What there is to write down."""
        start = self.end if self.start is None else self.start
        return Stretch(start, self.end, sorted(self.open), sorted(self.above))

    def outlived(self) -> list[bytes]:
        """The keys of earlier stretches about which this one says everything: forgotten here, and
        to be deleted when this one is written."""
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
