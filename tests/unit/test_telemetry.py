"""Telemetry: what a governor does is an event of a run that is its own."""

import asyncio

from penstock.project.chains import Chain
from penstock.project.project import Project
from penstock.record.events import Event
from penstock.signals import GovernorChanged, Signals
from penstock.worker.telemetry import Telemetry


def reported(chain: Chain, *changes: GovernorChanged) -> list[tuple[str | None, Event]]:
    """What is begun on which topic for these changes."""
    begun: list[tuple[str | None, Event]] = []

    async def begin(
        chain: Chain, event: Event, *, kept: bool = False, topic: str | None = None
    ) -> bool:
        begun.append((topic, event))
        return True

    async def main() -> None:
        signals = Signals()
        Telemetry("penstock", {chain.name: chain}, begin).subscribe(signals)
        for change in changes:
            signals.emit(change)
        await asyncio.sleep(0)

    asyncio.run(main())
    return begun


def test_each_state_of_a_governor_is_reported_on_the_telemetry_topic(project: Project) -> None:
    chain = project.chain("tale").model_copy(update={"telemetry": "reports"})
    (topic, first), (_, second) = reported(
        chain,
        GovernorChanged("tale", "idea", "THROTTLED", 9, 3),
        GovernorChanged("tale", "idea", "ACTIVE", 3, 3),
    )
    assert topic == "reports"
    assert first.parts["reports"] == {
        "kind": "governor", "topic": "idea", "state": "THROTTLED", "lag": 9, "limit": 3,
    }  # fmt: skip
    assert first.trace_id == second.trace_id, "one run"
    assert first.id != second.id, "and no duplicate"
    assert (first.pipeline, first.stage) == ("tale", "governor")


def test_a_pipeline_without_a_telemetry_topic_reports_nothing(project: Project) -> None:
    changed = GovernorChanged("tale", "idea", "THROTTLED", 9, 3)
    assert reported(project.chain("tale"), changed) == []
