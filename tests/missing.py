"""What some tests need and not every machine has. Without it they are skipped on a laptop, and the
last lines of a run say how to have it; where CI is set they fail."""

import collections
import os
from collections.abc import Iterable, Iterator
from typing import NoReturn

import pytest

#: How the reason of such a skip begins: others say why a test has nothing to say there.
MISSING = "missing: "


def skip_without(what: object) -> NoReturn:
    """The test ends here. `what` says what is not there, and how to have it."""
    if os.environ.get("CI"):
        raise pytest.fail.Exception(str(what), pytrace=False) from None
    raise pytest.skip.Exception(f"{MISSING}{what}") from None


def lines(skipped: Iterable[pytest.TestReport]) -> Iterator[str]:
    """A line for each thing that is missing."""
    reasons = (report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple))
    for reason, count in collections.Counter(reasons).items():
        _, found, what = reason.partition(MISSING)
        if found:
            yield f"skipped: {count} tests. {what}"
