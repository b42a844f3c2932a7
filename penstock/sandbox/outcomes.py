"""What a run may use, what came of it, and whether that is a pass."""

import dataclasses
from typing import Literal

Limit = Literal["timeout", "memory", "output", "disk"]
Cause = Literal[
    "", "timeout", "memory", "output", "disk", "exit code", "unfinished", "output differs"
]

#: Characters of either output that a verdict quotes.
_QUOTED = 200


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one run may use. Beyond it the run is ended."""

    #: From its start to its end, by the clock.
    seconds: float = 10.0
    #: Address space. The interpreter itself takes about 30 of it, a thread's stack 8.
    memory_mb: int = 512
    #: Of stdout and stderr together.
    output_bytes: int = 1_000_000
    #: Of all files in the scratch folder together; each counts as 4 kB at least.
    disk_mb: int = 16

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.output_bytes < 0 or self.disk_mb < 1:
            raise ValueError(f"not limits that a run can have: {self}")
        if self.memory_mb < 64:
            raise ValueError(f"memory_mb is {self.memory_mb}; an interpreter needs 64")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run left behind. Text that was not UTF-8 has replacement characters."""

    #: Negative: the signal that ended it. None: it was ended for the limit in `limit`.
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    limit: Limit | None = None
    #: The bytes of stdout, where they are not UTF-8.
    stdout_base64: str | None = None
    #: The interpreter came to the end of the script, and was not made to leave before.
    finished: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    result: Literal["PASS", "FAIL"]
    #: Empty for a pass.
    cause: Cause = ""
    detail: str = ""


def verdict(outcome: Outcome, expected: str | None) -> Verdict:
    """PASS for exit code 0 within the limits, and the expected output.

    `expected` never was in the script's reach, so printing it is having it. White space at the end
    does not count. Without it, the script must have come to its end:
    `os._exit(0)` after the first line is no pass.
    """
    if outcome.limit is not None:
        return Verdict("FAIL", outcome.limit, f"ended after {outcome.seconds:.1f} s")
    if outcome.exit_code != 0:
        last = outcome.stderr.rstrip().rpartition("\n")[2]
        return Verdict("FAIL", "exit code", f"{outcome.exit_code}: {last[:_QUOTED]}".rstrip(": "))
    if expected is None:
        if not outcome.finished:
            return Verdict("FAIL", "unfinished", "exit code 0, but not at the end of the script")
    elif outcome.stdout.rstrip() != expected.rstrip():
        said = f"expected {_quote(expected)}, found {_quote(outcome.stdout)}"
        return Verdict("FAIL", "output differs", said)
    return Verdict("PASS")


def _quote(text: str) -> str:
    text = text.rstrip()
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")
