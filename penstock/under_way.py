"""Under way: the steps that a worker does now, for whoever waits for them."""

import contextvars
import time
from collections.abc import Callable

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One step as it is now. Times are in seconds since 1970; `until` is when it goes on at the
    earliest, if that is known."""

    trace_id: str
    who: str
    since: float
    tokens: int = 0
    first_token_at: float = 0.0
    waits_for: str = ""
    until: float | None = None


class UnderWay:
    """One step while it is done. `waits` says what it waits for, while it does, and until when."""

    __slots__ = ("first_token_at", "since", "tokens", "trace_id", "waits", "who")

    def __init__(self, trace_id: str, who: str) -> None:
        self.trace_id = trace_id
        self.who = who
        self.since = time.time()
        self.tokens = 0
        self.first_token_at = 0.0
        self.waits: Callable[[], tuple[str, float | None]] | None = None

    def token(self, number: int) -> None:
        """An answer has so many tokens by now."""
        if number == 1:
            self.first_token_at = time.time()
        self.tokens = number

    def next_try(self, error: BaseException, pause_s: float) -> None:
        """It failed, and is tried again after a pause. Until then it waits."""
        at = time.time() + pause_s
        self.tokens, self.waits = 0, lambda: (f"its next try, after: {error}", at)

    def as_it_is(self) -> Step:
        waits_for, until = self.waits() if self.waits is not None else ("", None)
        return Step(
            self.trace_id,
            self.who,
            self.since,
            self.tokens,
            self.first_token_at,
            waits_for,
            until,
        )


#: The step whose task it is.
step_under_way: contextvars.ContextVar[UnderWay | None] = contextvars.ContextVar(
    "step_under_way", default=None
)
