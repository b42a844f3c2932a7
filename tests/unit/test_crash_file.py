"""The crash file: what was in flight is found after the process."""

import contextlib
import pathlib
import resource
from collections.abc import Iterator

from penstock.broker.embedded.crash_file import NOWHERE, SLOT, InFlight


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that is full, for files longer than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_in_flight_is_found_by_the_next_process_once(tmp_path: pathlib.Path) -> None:
    first = InFlight(tmp_path / "in-flight")
    slots = [first.enter(7, record) for record in range(3)]
    first.leave(slots[1])
    first.close()

    second = InFlight(tmp_path / "in-flight")
    assert sorted(second.left_behind()) == [(7, 0), (7, 2)]
    assert second.left_behind() == []
    second.close()


def test_a_full_disk_leaves_an_event_out_and_the_next_one_with_room_is_in(
    tmp_path: pathlib.Path,
) -> None:
    in_flight = InFlight(tmp_path / "in-flight")
    with largest_file(SLOT.size * 10):
        slot = in_flight.enter(7, 1)
        in_flight.leave(slot)
    assert slot == NOWHERE
    # No hole is left behind: touching one on a full disk kills the process.
    assert in_flight.path.stat().st_size == 0

    assert in_flight.enter(7, 2) != NOWHERE
    in_flight.close()
    later = InFlight(in_flight.path)
    assert later.left_behind() == [(7, 2)]
    later.close()
