"""Progress on Kafka: what was finished is known after any crash, and nothing else is."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.broker.kafka.progress import Progress, Stretch

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Stretch).decode


def written(progress: Progress) -> Stretch:
    """What the next worker reads."""
    return _decode(_encode(progress.stretch()))


def test_only_what_was_finished_is_called_finished():
    progress = Progress()
    for offset in (3, 4, 7):
        assert not progress.deliver(offset)
    progress.finish(4)
    stretch = written(progress)
    assert [offset for offset in range(10) if stretch.is_done(offset)] == [4]


def test_what_was_passed_over_is_forgotten_with_the_commit_that_passes_it():
    progress = Progress(start=3)
    for offset in (4, 9):
        progress.deliver(offset)
    assert written(progress) == Stretch(3, 10, [3, 4, 5, 6, 7, 8, 9], [])
    progress.finish(4)
    progress.commit(9)
    assert written(progress) == Stretch(9, 10, [9], [])


def test_a_long_way_that_was_passed_over_is_not_written_down():
    progress = Progress(start=0)
    for offset in (0, 1, 10_000_000):
        progress.deliver(offset)
    progress.finish(1)
    progress.finish(10_000_000)
    assert written(progress) == Stretch(10_000_000, 10_000_001, [], [1])


def test_what_is_written_has_the_size_of_what_is_in_flight():
    progress = Progress()
    for offset in range(10_000):
        progress.deliver(offset)
        if offset != 17:
            progress.finish(offset)
    assert written(progress) == Stretch(0, 10_000, [17], [])


def test_a_step_that_ends_after_a_seek_is_finished_before_it_is_delivered_again():
    progress = Progress({b"old": Stretch(0, 5, [2], [])}.items())
    progress.finish(2)
    assert written(progress).above == [2]
    assert progress.deliver(2)
    assert written(progress) == Stretch(2, 3, [], [])


def test_earlier_stretches_are_outlived_when_all_they_speak_of_was_delivered_again():
    progress = Progress({b"old": Stretch(0, 4, [1], []), b"zombie": Stretch(0, 2, [], [8])}.items())
    done = [progress.deliver(offset) for offset in range(4)]
    assert done == [True, True, True, True]  # the zombie says that 1 is finished
    assert progress.outlived() == [b"old"]
    for offset in range(4, 9):
        progress.deliver(offset)
    assert progress.outlived() == [b"zombie"]
    assert progress.is_done(8) and not progress.is_done(7)


def test_nothing_is_outlived_before_anything_was_delivered():
    assert Progress({b"old": Stretch(0, 0, [], [])}.items()).outlived() == []


def test_a_stretch_that_began_in_the_middle_outlives_no_earlier_one():
    progress = Progress({b"old": Stretch(0, 4, [1], [])}.items())
    progress.deliver(3)  # it stood in a buffer during the seek
    assert progress.outlived() == []
    progress.commit(3)
    assert progress.outlived() == [b"old"]


class Workers(RuleBasedStateMachine):
    """One stage in one partition, over workers that are killed, seek and write at any moment."""

    @initialize(holes=st.sets(st.integers(0, 25)))
    def begin(self, holes: set[int]) -> None:
        self.log = [offset for offset in range(26) if offset not in holes]
        self.records: dict[bytes, Stretch] = {}
        self.finished: set[int] = set()  # in the worker's memory
        self.durable: set[int] = set()  # written
        self.epoch = 0
        self.dropped: set[int] = set()
        self.flying: set[int] = set()
        self.progress = Progress()
        self.read = self.committed = 0

    @property
    def key(self) -> bytes:
        return b"%d" % self.epoch

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for offset in [one for one in self.log if one >= self.read][:count]:
            self.read = offset + 1
            assert self.progress.deliver(offset) is (offset in self.finished)
            if offset not in self.finished:
                self.flying.add(offset)

    @rule(count=st.integers(1, 3))
    def drop(self, count: int) -> None:
        """On their way to the stage: they come again after the next seek."""
        for offset in [one for one in self.log if one >= self.read][:count]:
            self.read = offset + 1
            self.dropped.add(offset)

    @rule(back=st.integers(0, 5))
    def deliver_late(self, back: int) -> None:
        """What stood in a buffer while the worker sought."""
        for offset in [one for one in self.log if one < self.committed + 9][-back - 1 :]:
            if offset >= max(self.committed, self.read):
                assert self.progress.deliver(offset) is (offset in self.finished)
                if offset not in self.finished:
                    self.flying.add(offset)

    @rule()
    def commit(self) -> None:
        self.committed = self._next_commit()
        self.progress.commit(self.committed)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.flying)))
        self.flying.discard(offset)
        self.progress.finish(offset)
        self.finished.add(offset)

    @rule()
    def write(self) -> None:
        gone = self.progress.outlived()
        self.records[self.key] = written(self.progress)
        for key in gone:
            del self.records[key]
        self.durable = set(self.finished)

    @rule()
    def seek(self) -> None:
        """What is in flight goes on; everything above the commit comes again."""
        stretch = self.progress.stretch()
        earlier = dict(self.progress.earlier)
        if stretch.last > stretch.start:
            earlier[self.key] = self.records[self.key] = _decode(_encode(stretch))
            self.durable = set(self.finished)
        self._begin_at_the_commit(earlier)

    @rule()
    def kill(self) -> None:
        self.finished, self.flying = set(self.durable), set()
        self._begin_at_the_commit(self.records)

    def _begin_at_the_commit(self, earlier: dict[bytes, Stretch]) -> None:
        self.epoch += 1
        self.progress = Progress(earlier.items(), self.committed or None)
        self.dropped = set()
        self.read = self.committed

    def _next_commit(self) -> int:
        """The tracker's: no further than the first that was delivered and is not finished for good;
        what was dropped holds it, too."""
        held = self.durable - self.dropped
        return next((one for one in self.log if one not in held and one >= self.committed), 26)

    @invariant()
    def it_knows_what_is_finished_and_claims_nothing_else(self) -> None:
        for offset in self.log:
            if offset < self.committed:
                continue  # nobody asks
            assert self.progress.is_done(offset) is (offset in self.finished)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
