"""Positions: which records of a partition a topic reader (a stage) has finished."""

import zlib

#: Cut the finished head off the marks when it has grown to this many bytes.
TRIM_BYTES = 4096


class Position:
    """The records that one topic reader has finished in one partition: all below `low`, and those
    that are marked above it.

    Events finish in any order, so one offset cannot say what is done. `low` is the first record
    that is not finished, from which delivery begins after a restart.
    """

    __slots__ = ("above", "base", "low", "marks")

    def __init__(self, low: int = 0, marks: bytes = b"") -> None:
        self.low = low
        self.base = low  # the offset that marks[0] stands for
        self.marks = bytearray(zlib.decompress(marks) if marks else b"")
        self.above = sum(self.marks)  # how many are finished at or above low

    def is_done(self, offset: int) -> bool:
        index = offset - self.base
        return (
            index < 0 or offset < self.low or (index < len(self.marks) and self.marks[index] == 1)
        )

    def finish(self, offset: int) -> None:
        """Mark `offset` as finished. Again changes nothing."""
        if self.is_done(offset):
            return
        index = offset - self.base
        marks = self.marks
        if index >= len(marks):
            marks.extend(bytes(index - len(marks) + 64))
        marks[index] = 1
        self.above += 1
        if offset == self.low:
            end = marks.find(0, index)
            low = self.base + (end if end >= 0 else len(marks))
            self.above -= low - self.low
            self.low = low
            if self.low - self.base > TRIM_BYTES:
                del marks[: self.low - self.base]
                self.base = self.low

    def unfinished(self, end: int) -> int:
        """Return how many of the records below `end` are not finished."""
        return max(0, end - self.low - self.above)

    def dump(self) -> tuple[int, bytes]:
        """Return `low` and the marks above it, as they are stored."""
        marks = self.marks[self.low - self.base :].rstrip(b"\0")
        return self.low, zlib.compress(marks, 1) if marks else b""
