"""A small coder without a model: the same parts and seed always give the same task, code, review.

It answers when no real model is configured, so that agents that write, run, mend and review code
can be seen at work a minute after they are installed. Its programs are real: they are run, some
are wrong at first, and it mends them when it is told of the error.
"""

from penstock.models.offline.coder.coding import solve
from penstock.models.offline.coder.reviewing import glance, review
from penstock.models.offline.coder.tasks import KINDS, Task, brainstorm, titles
from penstock.models.offline.coder.writing import PARTS, as_text, write

__all__ = [
    "KINDS",
    "PARTS",
    "Task",
    "as_text",
    "brainstorm",
    "glance",
    "review",
    "solve",
    "titles",
    "write",
]
