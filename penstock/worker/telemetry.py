"""Telemetry: what governors do, as events on the telemetry topics of their pipelines."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.project.chains import Chain
from penstock.record.events import NAMESPACE, first_event
from penstock.signals import GovernorChanged, Signals
from penstock.worker.life import Begin


class Telemetry:
    """Reports each state of a governor, as an event of a run that is the governor's own."""

    def __init__(self, app_id: str, chains: Mapping[str, Chain], begin: Begin) -> None:
        self._app_id = app_id
        self._chains = chains
        self._begin = begin
        # asyncio keeps only weak references to tasks.
        self._reporting: set[asyncio.Future[bool]] = set()

    def subscribe(self, signals: Signals) -> None:
        signals.on(GovernorChanged, self.governor_changed)

    def governor_changed(self, signal: GovernorChanged) -> None:
        chain = self._chains[signal.pipeline]
        if chain.telemetry is None:
            return
        trace_id = uuid.uuid5(NAMESPACE, f"governor|{self._app_id}|{chain.name}")
        report: dict[str, Any] = {
            "kind": "governor",
            "topic": signal.topic,
            "state": signal.state,
            "lag": signal.lag,
            "limit": signal.limit,
        }
        event = first_event(chain.name, {chain.telemetry: report}, str(trace_id), "governor")
        event = msgspec.structs.replace(event, id=str(uuid.uuid4()))
        # A state that cannot be reported is in the log; the work does not wait for it.
        reporting = asyncio.ensure_future(self._begin(chain, event, topic=chain.telemetry))
        self._reporting.add(reporting)
        reporting.add_done_callback(self._reporting.discard)
