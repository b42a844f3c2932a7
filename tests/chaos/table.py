"""The table of all trials, at the end of a run: a row is what a test was told of its verdict."""

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

#: The property of a test that is its row.
ROW = "verdict"
#: What the names of the comparisons begin with.
PLAIN = "test_plain_faust"
#: A verdict in numbers, as it can be sent to another process. The names are the table's heads.
Row = dict[str, list[float]]
COUNTED = ("kills", "terms", "runs", "calls", "lost", "recorded", "answered", "in flight")


def table(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """The lines of the table, or none without a trial."""
    rows: dict[str, Row] = {}
    for report in reports:
        properties: dict[str, Any] = dict(report.user_properties)
        if ROW in properties:
            rows[report.nodeid.rpartition("::")[2].partition("@")[0]] = properties[ROW]
    if not rows:
        return
    form = "long" if os.environ.get("PENSTOCK_TEST_LONG") == "1" else "short"
    yield f"chaos, {form} form, PENSTOCK_TEST_RANDOM={os.environ['PENSTOCK_TEST_RANDOM']}"
    yield "  ".join([*COUNTED, "recovery p50 / p99", "test"])
    ours = add(row for name, row in rows.items() if not name.startswith(PLAIN))
    for name, row in (rows | {"all but plain Faust": ours}).items():
        cells = [f"{sum(row[head]):{len(head)}.0f}" for head in COUNTED]
        recovery = row["recovery_s"]
        times = f"{share(recovery, 0.5):.1f} / {share(recovery, 0.99):.1f} s" if recovery else "-"
        yield "  ".join([*cells, times.rjust(18), name.removeprefix("test_").replace("_", " ")])
    yield "recorded: calls made again although their answer was durable; of Penstock's, must be 0."
    yield "answered: made again, answered before the kill but not recorded; in flight: unanswered."
    if ages := ours["answered_ms"]:
        yield (
            f"These answers had left the server {share(ages, 0.5):.0f} ms (p50),"
            f" {share(ages, 0.99):.0f} ms (p99), {max(ages):.0f} ms (most) before the kill."
        )


def add(rows: Iterable[Row]) -> Row:
    added: Row = {head: [] for head in (*COUNTED, "recovery_s", "answered_ms")}
    for row in rows:
        for head, values in row.items():
            added[head] += values
    return added


def share(values: list[float], part: float) -> float:
    """The value that `part` of all are not above."""
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)]
