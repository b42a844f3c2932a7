"""Where Faust's compiled stream writes its acks: past `Consumer.ack`, into lists by partition."""

from collections.abc import Callable

from faust.types import TP

#: Told of each offset that a stream has acked.
Acked = Callable[[TP, int], None]


class Acks(dict[TP, "TopicAcks"]):
    """In place of Faust's lists and sets of acked offsets, by partition: without this the messages
    of an agent that is no stage would come again after every restart."""

    def __init__(self, acked: Acked) -> None:
        super().__init__()
        self._acked = acked

    def __missing__(self, tp: TP) -> "TopicAcks":
        acks = self[tp] = TopicAcks(self._acked, tp)
        return acks


class TopicAcks:
    """Those of one partition; each is passed on."""

    def __init__(self, acked: Acked, tp: TP) -> None:
        self._acked = acked
        self._tp = tp

    def __contains__(self, offset: int) -> bool:
        return False  # acking it again changes nothing

    def add(self, offset: int) -> None:
        self._acked(self._tp, offset)

    def append(self, offset: int) -> None:
        pass  # the same offset, for the other list
