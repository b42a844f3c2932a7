"""Delivery on Kafka: no commit passes what is in flight, and nothing that is done stalls it."""

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.broker.kafka.delivery import Tracker


@dataclasses.dataclass(frozen=True, eq=False)
class Message:
    offset: int


def delivered(*offsets: int, committed: int | None = None) -> tuple[Tracker, list[Message]]:
    tracker = Tracker(committed)
    messages = [Message(offset) for offset in offsets]
    assert all(tracker.deliver(message) for message in messages)
    return tracker, messages


def test_a_commit_does_not_pass_an_event_in_flight_when_a_later_one_is_acked():
    tracker, messages = delivered(0, 1, 2)
    tracker.ack(messages[2])
    assert tracker.committable() is None
    tracker.ack(messages[0])
    assert tracker.committable() == 1


def test_offsets_that_are_left_out_are_not_waited_for():
    tracker, messages = delivered(5, 9, committed=3)
    for message in messages:
        tracker.ack(message)
    assert tracker.committable() == 10


def test_what_was_delivered_is_not_delivered_again():
    tracker, _ = delivered(5, committed=5)
    assert not tracker.deliver(Message(5)) and not tracker.deliver(Message(4))


def test_an_ack_of_before_a_seek_does_not_count_for_what_is_open_after_it():
    _, (before,) = delivered(0)
    new, (after,) = delivered(0)
    assert not new.ack(before)
    assert new.committable() is None
    assert new.ack(after) and new.committable() == 1


def test_what_is_committed_is_not_committed_again():
    tracker, (message,) = delivered(7, committed=7)
    tracker.ack(message)
    assert tracker.committable() == 8
    tracker.commit(8)
    assert tracker.committable() is None


class Partition(RuleBasedStateMachine):
    """One partition with holes, read by workers that seek, lose it and get it back, against the
    plain truth of what was ever acked."""

    @initialize(holes=st.sets(st.integers(0, 30)))
    def begin(self, holes: set[int]) -> None:
        self.log = [offset for offset in range(31) if offset not in holes]
        self.committed: int | None = None
        self.acked: set[int] = set()
        self.old: list[Message] = []
        self.seek()

    @rule()
    def seek(self) -> None:
        """Also a revoke and the next assignment, here or elsewhere."""
        self.old += getattr(self, "flying", [])
        self.tracker = Tracker(self.committed)
        self.flying: list[Message] = []
        self.read = self.committed or 0

    @rule(count=st.integers(1, 6), again=st.integers(0, 3))
    def deliver(self, count: int, again: int) -> None:
        """The next records, after some that a fetch of before the seek brings once more."""
        first = max(0, self.read - again)
        for offset in [one for one in self.log if one >= first][: count + again]:
            message = Message(offset)
            new = offset >= self.read
            assert self.tracker.deliver(message) is new
            if new:
                self.flying.append(message)
                self.read = offset + 1

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.flying))
        self.flying.remove(message)
        assert self.tracker.ack(message)
        assert not self.tracker.ack(message)
        self.acked.add(message.offset)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def ack_late(self, data: st.DataObject) -> None:
        assert not self.tracker.ack(data.draw(st.sampled_from(self.old)))

    @rule(arrives=st.booleans())
    def commit(self, arrives: bool) -> None:
        offset = self.tracker.committable()
        if offset is not None:
            assert offset >= (self.committed or 0)
            self.committed = offset
            if arrives:  # else the answer is lost, and it is committed once more
                self.tracker.commit(offset)

    @invariant()
    def nothing_open_is_passed(self) -> None:
        assert all(one in self.acked for one in self.log if one < (self.committed or 0))

    @invariant()
    def nothing_done_stalls(self) -> None:
        """With nothing in flight, all that was delivered may be committed."""
        if not self.flying:
            reached = max(self.tracker.committable() or 0, self.committed or 0)
            assert reached >= self.read or self.read == 0


TestPartition = Partition.TestCase
TestPartition.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
