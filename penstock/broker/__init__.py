"""Where topics live: the embedded broker (one SQLite file) or Kafka. The settings choose, here."""

from typing import TYPE_CHECKING

from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.broker.contract import Broker, Membership, Plan
    from penstock.signals import Signals


def open_broker(settings: Settings, plan: "Plan") -> "Broker":
    """Open the broker for a process that is not a worker."""
    if settings.embedded:
        from penstock.broker.embedded.broker import EmbeddedBroker

        return EmbeddedBroker(settings, plan)
    # Its driver takes a tenth of a second to import.
    from penstock.broker.kafka.broker import KafkaBroker

    return KafkaBroker(settings, plan)


def join(settings: Settings, plan: "Plan", signals: "Signals") -> "Membership":
    """Return a worker's membership of the broker; nothing is opened or joined yet."""
    if settings.embedded:
        from penstock.broker.embedded.membership import SoleWorker

        return SoleWorker(settings, plan, signals)
    from penstock.broker.kafka.membership import GroupMember

    return GroupMember(settings, plan, signals)
