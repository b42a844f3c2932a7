"""Figures: what a measure takes and gives, and how several of them become one."""

import resource
from collections.abc import Sequence
from typing import Any

#: What a case asks of its measure; what the measure found, by name.
Options = dict[str, Any]
Result = dict[str, float]


def peak_mb() -> float:
    """The most memory that this process has had, in MB (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
