"""Backoff: how often something is tried, and the pauses between two tries."""

import random
from collections.abc import Callable

#: Seconds between the tries of one event: from the first pause to the longest.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 30.0


class Backoff:
    """Pauses that double from `first_s` to `last_s` seconds. Each is scattered by the share
    `scatter` either way, so that those who wait for one thing do not come back all at once."""

    __slots__ = ("_first_s", "_jitter", "_last_s", "_next_s", "_scatter")

    def __init__(
        self,
        first_s: float,
        last_s: float,
        *,
        scatter: float = 0.25,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = self._next_s = first_s
        self._last_s = last_s
        self._scatter = scatter
        self._jitter = jitter

    def pause_s(self, at_least_s: float | None = None) -> float:
        """Return the seconds until the next try, and never fewer than `at_least_s`: a server's own
        Retry-After. The pause after it is twice as long."""
        pause_s, self._next_s = self._next_s, min(self._last_s, self._next_s * 2)
        return max(pause_s * (1 + self._scatter * (2 * self._jitter() - 1)), at_least_s or 0.0)

    def reset(self) -> None:
        """The next pause is the first again."""
        self._next_s = self._first_s


class Tries:
    """How often an event was tried, and when again. A failure while its provider is down does not
    count (`counts` is False): that says nothing about the event."""

    __slots__ = ("_backoff", "counted", "limit", "made")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.made = 0
        self.counted = 0
        self._backoff: Backoff | None = None  # most events need one try

    def spent(self, error: BaseException) -> bool:
        """Count `error`; whether it was the last try."""
        self.counted += getattr(error, "counts", True)
        return self.counted >= self.limit

    def pause_s(self, error: BaseException) -> float:
        """Return the seconds until the next try after `error`."""
        if getattr(error, "gated", False):
            return 0.0  # it waits at the gate
        if self._backoff is None:
            self._backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S, scatter=0.5)
        return self._backoff.pause_s(getattr(error, "retry_after_s", None))
