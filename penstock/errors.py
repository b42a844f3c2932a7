"""Every error that Penstock raises on purpose, ordered by who can act on it.

PenstockError
├── OperatorError            whoever starts the program
│   ├── SettingsError          a PENSTOCK_* variable
│   ├── WorkerRunning          a second worker on one embedded file
│   ├── DatabaseUnusable       a damaged or newer database file
│   ├── InstalledTwice         two distributions that both bring Penstock
│   ├── SandboxUnavailable     this machine cannot isolate what a model wrote
│   ├── NotFound               a run, a pipeline or a file that is not there
│   └── RunBegunBefore         a trace id that was used for another run
├── ProjectError             the author of cards, chains and steps
│   ├── ChainError
│   └── StepError
├── EventError               one event: it becomes a dead letter
│   ├── MalformedEvent
│   ├── EventTooLarge
│   ├── JobRefused
│   └── StepFailed
├── Unavailable              something that may pass: the event is tried again
├── ModelError               what a model provider did
│   ├── ModelUnavailable       not there (also Unavailable)
│   │   ├── ModelLocked        somebody must act: a key, a quota
│   │   ├── ModelBusy          too many calls: later, and fewer at a time
│   │   └── ModelFailed        this call failed, others may not: it counts against the event
│   ├── ModelRefused           will not pass: a dead letter at once
│   └── ModelMisbehaved        an answer that cannot be used
└── BrokerUnavailable        the place where topics live
"""

from collections.abc import Iterable
from typing import Any

import click


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the question that ends a message about an unknown `word`, with a space before it.

    It names the most similar of `known`, after `prefix`. Empty when none is similar.
    """
    close = closest(word, known)
    return f" Did you mean '{prefix}{close}'?" if close is not None else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the most similar of `known`, or None when none is similar."""
    import difflib  # only where something is wrong: commands do not pay for it

    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


class PenstockError(click.ClickException):
    """Something went wrong that a person can act on."""

    # A ClickException, so that every command line shows the sentence and exits with 1, and no
    # user's mistake ends in a traceback wherever in the program it is noticed.

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0])


class OperatorError(PenstockError):
    """The program cannot run like this."""


class SettingsError(OperatorError):
    """A setting has a value that cannot be used."""


class WorkerRunning(OperatorError):
    """Another worker already holds the embedded broker."""


class DatabaseUnusable(OperatorError):
    """The database file cannot be used."""


class InstalledTwice(OperatorError):
    """More than one distribution brings Penstock."""


class SandboxUnavailable(OperatorError):
    """This machine cannot run a model's code apart from everything else."""


class NotFound(OperatorError):
    """There is no such thing here."""


class RunBegunBefore(OperatorError):
    """A run was begun before under this trace id, with other content."""


class ProjectError(PenstockError):
    """A card, a chain or a step cannot be used."""


class ChainError(ProjectError):
    """A chain in topics/ cannot be used."""


class StepError(ProjectError):
    """A Python step cannot be used."""


class EventError(PenstockError):
    """An event cannot be processed."""


class MalformedEvent(EventError):
    """A record is not an event."""


class EventTooLarge(EventError):
    """An event is larger than the broker takes."""


class JobRefused(EventError):
    """A job cannot be taken."""


class StepFailed(EventError):
    """A step raised an error of its own."""


class Unavailable(PenstockError):
    """What a step needs is not there now; `retry_after_s`, in seconds, is when to try again.

    `counts` is False when the failure says nothing about the event, and `gated` is True when the
    event waits until what it needs is there again.
    """

    counts = True
    gated = False
    #: Whether nothing was reached at all: one such failure is enough to know.
    unreached = False

    def __init__(self, message: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelError(PenstockError):
    """A model call failed. `exchange` is what was asked and said, where that is known."""

    exchange: Any = None


class ModelUnavailable(Unavailable, ModelError):
    """The provider is not there now."""


class ModelLocked(ModelUnavailable):
    """The provider answers nobody with this key or quota until somebody acts."""


class ModelBusy(ModelUnavailable):
    """The provider takes no more calls for the moment."""


class ModelFailed(ModelUnavailable):
    """This call failed at a provider that may well answer others."""

    #: Whether the provider took the call, and was slower than its limits: that is no outage.
    timed_out = False
    #: Whether it gave an answer, which cannot be read: that is no outage either.
    answered = False


class ModelRefused(ModelError):
    """The provider will not answer this call, however often it is asked."""


class ModelMisbehaved(ModelError):
    """The model's answer cannot be used. `unusable` names the calls that gave it: a replay makes
    them anew, and recalls those before."""

    unusable: tuple[str, ...] = ()


class BrokerUnavailable(PenstockError):
    """The broker does not answer or cannot write."""
