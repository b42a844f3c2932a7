"""Points at which tests kill the process: `crash.at("recorded")`. Outside of tests they do nothing.

A test sets `hook`, which is called with the name of each point that is passed and how many steps
pass it at once. The names are those of an event's life, see ARCHITECTURE.md.
"""

from collections.abc import Callable

hook: Callable[[str, int], None] | None = None


def at(point: str, steps: int = 1) -> None:
    """The process is at `point`, with so many steps."""
    if hook is not None:
        hook(point, steps)
