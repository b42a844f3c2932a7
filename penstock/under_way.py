"""Under way: the steps that a worker does now, for whoever waits for them."""

import contextvars
import time
from collections.abc import Callable

import msgspec

from penstock.journal import Call
from penstock.record.steps import Hold, Try

#: Seconds that a step has to wait before that is on its record.
WORTH_S = 0.001


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
    """One step while it is done. `waits` says what it waits for, while it does, and until when;
    `holds`, `tries` and `calls` are what it has waited for, how it has failed and what it has
    called so far; the try that is made now `began` when."""

    __slots__ = (
        "began",
        "calls",
        "first_token_at",
        "holds",
        "since",
        "tokens",
        "trace_id",
        "tries",
        "waits",
        "who",
    )

    def __init__(self, trace_id: str, who: str) -> None:
        self.trace_id = trace_id
        self.who = who
        self.since = self.began = time.time()
        self.tokens = 0
        self.first_token_at = 0.0
        self.waits: Callable[[], tuple[str, float | None]] | None = None
        self.holds: list[Hold] = []
        self.tries: list[Try] = []
        self.calls: list[Call] = []

    def token(self, number: int) -> None:
        """An answer has so many tokens by now."""
        if number == 1:
            self.first_token_at = time.time()
        self.tokens = number

    def held(self, kind: str, what: str, since: float) -> None:
        """It has waited from `since` until now, if that was long enough to be worth a word."""
        now = time.time()
        if now - since >= WORTH_S:
            self.holds.append(Hold(kind, what, since, now))

    def failed(self, error: BaseException, pause_s: float = 0.0) -> None:
        """This try has failed; the next one is after a pause, if there is one."""
        said = f"{type(error).__name__}: {error}"
        self.tries.append(Try(self.began, time.time(), said, pause_s))

    def next_try(self, error: BaseException, pause_s: float) -> None:
        """It is tried again after a pause. Until then it waits."""
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
