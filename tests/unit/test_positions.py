"""Positions: what a reader has finished, in whatever order."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.broker.embedded.positions import TRIM_BYTES, Position

#: Some offsets close together and some far away, in any order, some of them twice.
OFFSETS = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 3 * TRIM_BYTES)), max_size=60)


def first_missing(done: set[int], start: int) -> int:
    while start in done:
        start += 1
    return start


def agrees(position: Position, done: set[int], start: int) -> None:
    """`position` says what the set `done`, of offsets from `start` on, says."""
    low = first_missing(done, start)
    assert position.low == low
    end = max(done, default=start) + 3
    for offset in {*range(start, start + 45), *done, *(d + 1 for d in done), end}:
        assert position.is_done(offset) == (offset in done), offset
    assert position.unfinished(end) == sum(o not in done for o in range(start, end))
    assert position.unfinished(low) == 0


@settings(max_examples=40, deadline=None, database=None)
@given(OFFSETS, st.integers(0, 60), st.sampled_from([0, 7, 2 * TRIM_BYTES]))
@example(list(range(5000)), 4500, 0)
def test_any_order_of_finishing_agrees_with_a_plain_set(offsets, stored_after, start):
    position, done = Position(start), set()
    for count, offset in enumerate(offsets):
        position.finish(start + offset)
        done.add(start + offset)
        if count == stored_after:
            position = Position(*position.dump())
    agrees(position, done, start)
    agrees(Position(*position.dump()), done, start)


def test_a_new_position_has_finished_nothing():
    position = Position()
    assert (position.low, position.is_done(0), position.unfinished(3)) == (0, False, 3)
    assert position.dump() == (0, b"")


def test_everything_below_the_stored_low_is_done():
    position = Position(5)
    assert position.is_done(4) and not position.is_done(5)
    position.finish(3)
    assert position.dump() == (5, b"")


def test_finishing_again_changes_nothing():
    position = Position()
    for offset in (2, 0, 2, 0):
        position.finish(offset)
    assert (position.low, position.unfinished(3)) == (1, 1)


def test_nothing_is_unfinished_below_an_end_that_is_older_than_the_position():
    position = Position(10)
    assert position.unfinished(4) == 0


def test_a_long_life_takes_little_room():
    """Ten windows of events that finish out of order: the finished head is cut off."""
    position, shuffle = Position(), random.Random(1).shuffle
    for window in range(100):
        offsets = list(range(window * 200, window * 200 + 200))
        shuffle(offsets)
        for offset in offsets:
            position.finish(offset)
    assert position.low == 20_000
    assert len(position.marks) < 2 * TRIM_BYTES
    assert position.dump() == (20_000, b"")
