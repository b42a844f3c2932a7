"""Acks of Faust's compiled stream, which writes them into lists by partition and does not call
`Consumer.ack`."""

from collections.abc import Callable

from faust.types import TP

#: Called with each offset that a stream has acked.
Acked = Callable[[TP, int], None]


class Acks(dict[TP, "TopicAcks"]):
    """Stands in for Faust's lists and sets of acked offsets, by partition, and passes each offset
    on. Without it the messages of an agent that is no stage would be delivered again after every
    restart."""

    def __init__(self, acked: Acked) -> None:
        super().__init__()
        self._acked = acked

    def __missing__(self, tp: TP) -> "TopicAcks":
        acks = self[tp] = TopicAcks(self._acked, tp)
        return acks


class TopicAcks:
    """Stands in for the list and the set of one partition."""

    def __init__(self, acked: Acked, tp: TP) -> None:
        self._acked = acked
        self._tp = tp

    def __contains__(self, offset: int) -> bool:
        return False  # acking it again changes nothing

    def add(self, offset: int) -> None:
        self._acked(self._tp, offset)

    def append(self, offset: int) -> None:
        pass  # the same offset, for the other list
