"""Backoff: tries are counted, and the pauses between them double and scatter."""

import pytest

from penstock.backoff import Backoff, Tries
from penstock.errors import Unavailable


def pauses(count: int, jitter: float = 0.5) -> list[float]:
    backoff = Backoff(1.0, 10.0, jitter=lambda: jitter)
    return [backoff.pause_s() for _ in range(count)]


def test_pauses_double_up_to_the_last():
    assert pauses(6) == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_each_is_scattered_by_a_quarter_either_way(jitter, first):
    assert pauses(2, jitter) == [first, 2 * first]


def test_a_reset_begins_with_the_first_pause_again():
    backoff = Backoff(1.0, 10.0, jitter=lambda: 0.5)
    assert [backoff.pause_s(), backoff.pause_s()] == [1, 2]
    backoff.reset()
    assert backoff.pause_s() == 1


def test_a_servers_own_time_is_never_undercut_and_counts_as_one_pause():
    backoff = Backoff(1.0, 10.0, jitter=lambda: 0.5)
    assert [backoff.pause_s(120), backoff.pause_s(0), backoff.pause_s(None)] == [120, 2, 4]


# -- the tries of an event


def away(counts: bool = True, retry_after_s: float | None = None) -> Unavailable:
    error = Unavailable("away", retry_after_s)
    error.counts = counts
    return error


def test_tries_are_spent_after_the_limit():
    tries = Tries(3)
    assert [tries.spent(away()) for _ in range(3)] == [False, False, True]
    assert Tries(1).spent(ConnectionError())


def test_a_failure_that_does_not_count_leaves_the_tries():
    tries = Tries(2)
    assert not any(tries.spent(away(counts=False)) for _ in range(50))
    assert [tries.spent(away()), tries.spent(away())] == [False, True]


def test_what_waits_at_a_gate_pauses_nowhere_else():
    tries, gated = Tries(2), away(counts=False)
    assert tries.pause_s(gated) > 0
    gated.gated = True
    assert tries.pause_s(gated) == 0


def test_pauses_of_an_event_double_and_scatter_and_stay_under_a_minute():
    events = [Tries(100) for _ in range(20)]
    for count in range(1, 100):
        middle = min(30.0, 0.25 * 2.0**count)
        waits = [tries.pause_s(away()) for tries in events]
        assert all(0.5 * middle <= pause <= 1.5 * middle for pause in waits)
        assert len(set(waits)) > 1


def test_the_providers_own_time_is_never_undercut():
    tries = Tries(5)
    tries.spent(away())
    assert tries.pause_s(away(retry_after_s=120)) == 120
    assert tries.pause_s(away(retry_after_s=0)) > 0
