"""Cancelling: a topic of its own says which runs are to end where they are.

Whoever works on the run's partition is given the record at once, and whoever does later reads the
topic first, so no worker takes the run up again.
"""


def topic_name(app_id: str) -> str:
    return f"{app_id}-cancels"
