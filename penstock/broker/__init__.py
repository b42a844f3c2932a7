"""Where topics live: the embedded broker (one SQLite file) or Kafka. The settings choose, here."""

from typing import TYPE_CHECKING

from penstock.errors import SettingsError
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.broker.contract import Broker, Membership, Plan
    from penstock.signals import Signals


def _require_no_prefix(settings: Settings) -> None:
    if settings.topic_prefix:
        raise SettingsError(
            f"PENSTOCK_TOPIC_PREFIX={settings.topic_prefix} is for topics on Kafka, which apps may"
            " share; those of the embedded broker are in a file of their own (PENSTOCK_DATA)"
        )


def open_broker(settings: Settings, plan: "Plan") -> "Broker":
    """Open the broker for a process that is not a worker."""
    if settings.embedded:
        from penstock.broker.embedded.broker import EmbeddedBroker

        _require_no_prefix(settings)
        return EmbeddedBroker(settings, plan)
    # Its driver takes a tenth of a second to import.
    from penstock.broker.kafka.broker import KafkaBroker

    return KafkaBroker(settings, plan)


def join(settings: Settings, plan: "Plan", signals: "Signals") -> "Membership":
    """Return a worker's membership of the broker; nothing is opened or joined yet."""
    if settings.embedded:
        from penstock.broker.embedded.membership import SoleWorker

        _require_no_prefix(settings)
        return SoleWorker(settings, plan, signals)
    from penstock.broker.kafka.membership import GroupMember

    return GroupMember(settings, plan, signals)
