"""Problems: what keeps a worker on Kafka from some of its work while Kafka itself answers."""

import time

from penstock.signals import KafkaProblem, KafkaProblemOver, Signals


class Problems:
    """Says each problem once, by what it is about, and knows those that last."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._reasons: dict[str, str] = {}
        #: When the first of them began (seconds since 1970), while there is one.
        self.since: float | None = None

    @property
    def reason(self) -> str:
        """All of them, in sentences; "" when there is none."""
        return "; ".join(self._reasons.values())

    def note(self, about: str, reason: str) -> None:
        """There is this problem, or `reason` is new about it."""
        if self._reasons.get(about) != reason:
            self._reasons[about] = reason
            self.since = self.since or time.time()
            self._signals.emit(KafkaProblem(reason))

    def over(self, about: str) -> None:
        """There is no such problem, or no longer."""
        reason = self._reasons.pop(about, None)
        if reason is not None:
            self._signals.emit(KafkaProblemOver(reason))
        if not self._reasons:
            self.since = None
