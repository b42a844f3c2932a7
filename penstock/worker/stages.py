"""The stages of a worker: made from the project, and held, drained or cancelled all at once."""

import asyncio
from collections.abc import Collection
from typing import Any

from penstock.errors import PenstockError, ProjectError
from penstock.models.names import resolve
from penstock.project.cards import Card, parse_card
from penstock.project.chains import StageSpec
from penstock.project.project import Project
from penstock.settings import Settings
from penstock.signals import CardEdited, DrainCutOff, Draining, RunCancelled, Signals
from penstock.worker.clients import Clients
from penstock.worker.env import Env
from penstock.worker.stage import Stage
from penstock.worker.work import Answer, Do, StepWork, checked, python_step


class Stages(dict[str, Stage]):
    """The stages by their names. There are none until the worker begins."""

    def __init__(self, signals: Signals, drain_s: float) -> None:
        super().__init__()
        self._signals = signals
        #: How long calls in flight are waited for at the end.
        self._drain_s = drain_s
        #: The keys of runs that end where they are.
        self.cancelled: set[bytes] = set()

    def take_cards(self, project: Project, settings: Settings) -> None:
        """What the project's cards say of the stages holds from here on."""
        for stage in self.values():
            card = project.cards.get(stage.spec.agent or "")
            limit = stage.spec.concurrency or (card.front.concurrency if card else None)
            stage.take_card(card.label if card else None, limit or settings.concurrency)

    def hold(self) -> None:
        """Nothing new is taken from here on, until `resume`."""
        for stage in self.values():
            stage.hold()

    async def pause(self, limit_s: float) -> None:
        """Nothing new is taken; what is in flight has ended, or `limit_s` has passed."""
        await asyncio.gather(*(stage.pause(limit_s) for stage in self.values()))

    async def release(self, kept: Collection[Any]) -> int:
        """What is in flight of other partitions than `kept` was cancelled, and stays un-acked for
        whoever has them now. How many those were."""
        return sum([await stage.release(kept) for stage in self.values()])

    def resume(self) -> None:
        """Events are taken again."""
        for stage in self.values():
            stage.resume()

    def on_seek(self) -> None:
        """What was not finished is delivered again from here on."""
        for stage in self.values():
            stage.on_seek()

    async def cancel(self, key: bytes) -> None:
        """The run ends where it is: its calls are cut off, its events finished without outputs."""
        self.cancelled.add(key)
        count = sum([await stage.cancel(key) for stage in self.values()])
        self._signals.emit(RunCancelled(key.decode(errors="replace"), count))

    async def drain(self) -> None:
        """Nothing new is taken; what is in flight has ended, or was cancelled at the limit."""
        limit_s = self._drain_s
        in_flight = sum(stage.in_flight for stage in self.values())
        if in_flight:
            self._signals.emit(Draining(in_flight, limit_s))
        left = sum(await asyncio.gather(*(stage.drain(limit_s) for stage in self.values())))
        if left:
            self._signals.emit(DrainCutOff(left, limit_s))


def add_stages(
    stages: Stages, project: Project, env: Env, clients: Clients, only: str | None
) -> None:
    """Every stage of `project` is in `stages`; idle are those of other pipelines than `only`."""
    for spec in project.stages:
        chain = project.chains[spec.pipeline]
        stages[spec.name] = Stage(
            env,
            spec,
            work_of(spec, project, env.settings, clients),
            env.settings.concurrency,
            accepting=chain if chain.accepts_plain(spec.reads) else None,
            idle=only not in (None, spec.pipeline),
        )
    stages.take_cards(project, env.settings)
    for spec in project.stages:
        if spec.after is not None:
            stages[spec.name].wait_for(stages[spec.after])


def work_of(spec: StageSpec, project: Project, settings: Settings, clients: Clients) -> Do:
    """What the stage does: its step, or its agent once the stage's check lets it."""
    registry = project.registry
    if spec.step is not None:
        return python_step(registry.steps[spec.step])
    made: dict[str, Do] = {}

    async def step_of(card: Card) -> Do:
        if card.hash not in made:
            runner = await clients.runner()
            target = resolve(card.front.model, settings)
            providers = clients.providers
            made[card.hash] = runner.agent_step(spec, card, target, providers, registry, settings)
        return made[card.hash]

    async def do(work: StepWork) -> Answer:
        now = project.cards[spec.agent or ""]
        text = work.calls.pin(now.hash, now.text)
        if text == now.text:
            return await (await step_of(now))(work)
        # The card was edited, and what is recorded of this step was asked with its former text.
        trace_id, label, reason = work.event.trace_id, now.label, ""
        try:
            former = parse_card(now.file, text)
            label = former.label
            if former.document.problems:
                raise ProjectError(former.document.problems[0])
            began = await step_of(former)
        except (PenstockError, KeyError) as exc:  # of a task or a tool that is gone
            reason = str(exc)
            began = await step_of(now)
        work.signals.emit(CardEdited(trace_id, spec.name, label, now.label, reason))
        return await began(work)

    return do if spec.check is None else checked(registry.steps[spec.check], do)
