"""Conditions: how each thing that a worker needs is, for whoever has to know."""

import msgspec

#: With WARNING the work goes on, and somebody should look.
UP, DOWN, STARTING, WARNING = "up", "down", "starting", "warning"


class Condition(msgspec.Struct, frozen=True):
    """One thing that a worker needs. `reason` says which one it is and, while it is down, why;
    `since` is when the state began, in seconds since 1970."""

    what: str
    state: str
    # What workers write for `status` and `doctor` keeps its name: others share the folder.
    reason: str = msgspec.field(name="detail")
    since: float | None = None
