"""Delivery on Kafka: which records of a partition are open, and what may be committed.

In place of Faust's read offsets, acked lists and gaps. Those let a commit pass an event in flight
when a later one is acked (faust-streaming issue 606), count what a seek has skipped as done, and
take an ack from before a rebalance for the partition as it was assigned after it.
"""

from typing import Any


class Tracker:
    """One partition since it was last sought: records are delivered in order, acked in any.

    `open` holds what was delivered and is not acked, by offset and in order; `next` is the first
    offset that is still to come, None before anything has; `committed` is what the group's
    coordinator was told.
    """

    __slots__ = ("committed", "next", "open")

    def __init__(self, committed: int | None = None) -> None:
        self.committed = committed
        self.next = committed
        self.open: dict[int, Any] = {}  # Faust's messages

    def deliver(self, message: Any) -> bool:
        """`message` is open from here on; False when it was delivered before. Offsets that are left
        out (transactions, compaction, retention) do not exist, and are not waited for."""
        if self.next is not None and message.offset < self.next:
            return False
        self.open[message.offset] = message
        self.next = message.offset + 1
        return True

    def ack(self, message: Any) -> bool:
        """`message` is done; False when it is not the very one that is open at its offset, but of
        before a seek or a rebalance: then its record comes again, or belongs to somebody else."""
        offset: int = message.offset
        if self.open.get(offset) is not message:
            return False
        del self.open[offset]
        return True

    def committable(self) -> int | None:
        """The offset that may be committed, when there is something new to commit: the first that
        is open, else the next one."""
        offset = next(iter(self.open), self.next)
        if offset is None or offset == 0 or offset <= (self.committed or 0):
            return None
        return offset

    def commit(self, offset: int) -> None:
        """The coordinator has taken `offset`."""
        if self.committed is None or offset > self.committed:
            self.committed = offset
