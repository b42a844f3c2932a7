"""Delivery on Kafka: which records of a partition are open, and what may be committed.

This stands in for Faust's read offsets, acked lists and gaps. Those let a commit pass an event in
flight when a later one is acked (faust-streaming issue 606), count what a seek has skipped as done,
and take an ack from before a rebalance for the partition as it was assigned after it.
"""

from typing import Any


class Tracker:
    """One partition since the last seek: records are delivered in order and acked in any.

    `open` holds what was delivered and is not acked, by offset and in order. `next` is the first
    offset that was not delivered, None before the first delivery. `committed` is the group's
    commit.
    """

    __slots__ = ("committed", "next", "open")

    def __init__(self, committed: int | None = None) -> None:
        self.committed = committed
        self.next = committed
        self.open: dict[int, Any] = {}  # Faust's messages

    def deliver(self, message: Any) -> bool:
        """Add `message` to those that are open. Returns False when it was delivered before. Offsets
        that are left out (transactions, compaction, retention) do not exist and block no commit."""
        if self.next is not None and message.offset < self.next:
            return False
        self.open[message.offset] = message
        self.next = message.offset + 1
        return True

    def ack(self, message: Any) -> bool:
        """Take `message` from those that are open. Returns False when another one is open at its
        offset: this one is from before a seek or a rebalance, and its record is delivered again,
        here or elsewhere."""
        offset: int = message.offset
        if self.open.get(offset) is not message:
            return False
        del self.open[offset]
        return True

    def committable(self) -> int | None:
        """Return the offset to commit, None when there is nothing new: the first that is open, else
        the next one."""
        offset = next(iter(self.open), self.next)
        if offset is None or offset == 0 or offset <= (self.committed or 0):
            return None
        return offset

    def commit(self, offset: int) -> None:
        """Note that the group has committed `offset`."""
        if self.committed is None or offset > self.committed:
            self.committed = offset
