"""Progress on Kafka: what was finished is known after any crash, and nothing else is."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.broker.progress import Progress, Stretch

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Stretch).decode


def written(progress: Progress) -> Stretch:
    """What the next worker reads."""
    return _decode(_encode(progress.stretch()))


def test_what_is_in_flight_is_not_finished_and_all_else_below_it_is():
    progress = Progress()
    for offset in (3, 4, 7):
        assert not progress.deliver(offset)
    progress.finish(4)
    stretch = written(progress)
    assert [offset for offset in range(10) if stretch.is_done(offset)] == [4, 5, 6]


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


def test_earlier_stretches_are_outlived_when_all_they_speak_of_has_come_again():
    progress = Progress({b"old": Stretch(0, 4, [1], []), b"zombie": Stretch(0, 2, [], [8])}.items())
    done = [progress.deliver(offset) for offset in range(4)]
    assert done == [True, True, True, True]  # the zombie says that 1 is finished
    assert progress.outlived() == [b"old"]
    for offset in range(4, 9):
        progress.deliver(offset)
    assert progress.outlived() == [b"zombie"]
    assert progress.is_done(8) and not progress.is_done(7)


def test_nothing_is_outlived_before_anything_has_come():
    assert Progress({b"old": Stretch(0, 0, [], [])}.items()).outlived() == []


class Workers(RuleBasedStateMachine):
    """One stage in one partition, over workers that are killed, seek and write at any moment."""

    @initialize(holes=st.sets(st.integers(0, 25)))
    def begin(self, holes: set[int]) -> None:
        self.log = [offset for offset in range(26) if offset not in holes]
        self.records: dict[bytes, Stretch] = {}
        self.finished: set[int] = set()  # in the worker's memory
        self.durable: set[int] = set()  # written
        self.epoch = 0
        self.flying: set[int] = set()
        self.progress = Progress()
        self.read = 0

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
        self.progress = Progress(earlier.items())
        self.epoch += 1
        self._from_the_commit()

    @rule()
    def kill(self) -> None:
        self.finished, self.flying = set(self.durable), set()
        self.progress = Progress(self.records.items())
        self.epoch += 1
        self._from_the_commit()

    def _from_the_commit(self) -> None:
        self.read = next((one for one in self.log if one not in self.durable), 26)

    @invariant()
    def it_knows_what_is_finished_and_claims_nothing_else(self) -> None:
        for offset in self.log:
            if self.progress.is_done(offset):
                assert offset in self.finished
            elif offset in self.finished:
                assert offset < self.read  # below the commit nobody asks


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
