"""The mesh: its chain and cards in a place of their own, and what came of its runs."""

import asyncio
import csv
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from penstock.memory import KINDS, Found, Memory
from penstock.memory.outbox import Outbox
from penstock.models.offline.tasks import tasks
from penstock.settings import Settings
from tests.acceptance.homes import Home
from tests.programs import ROOT, wait_until
from tests.servers import ScriptedServer

CARDS = ("producer", "coder", "reviewer")
#: How a card's instructions begin: by that the scripted server knows who asks.
PRODUCER, CODER, REVIEWER = (
    "You think up small coding tasks",
    "You write Python",
    "You are a senior Python developer",
)
#: What only the coder's task `fix`, and the reviewer's `glance`, are told.
FIX, GLANCE = "Your program was run on the example and failed", "The program has not run yet"
#: A task that the offline coder gets right at once, and two at which it slips unless it was told of
#: others like them.
RIGHT, WRONG, WRONG_TOO = (
    tasks()[f"Fizz-buzz: {variant}"].described("a") for variant in ("3 and 5", "2 and 7", "4 and 6")
)
ECHO = {"title": "Echo", "task": "Print the input.", "input": "a\n", "expected": "a\n"}
#: Code that does that, as the coder's answer.
ECHOES = json.dumps({"code": "print(input())", "explanation": "It prints what it reads."})


class Mesh(Home):
    """A place whose project is the mesh alone. Nothing is seeded, and no task is thought up before
    a worker is asked to."""

    def __init__(self, folder: pathlib.Path, **settings: str) -> None:
        project = folder / "project"
        for name in ("topics/mesh.yaml", *(f"agents/{card}.md" for card in CARDS)):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
        # A look into memory has as long as it needs on a busy machine.
        super().__init__(
            folder, PENSTOCK_PROJECT=str(project), PENSTOCK_SEED="0", PENSTOCK_RECALL_S="20"
        )
        self.env |= settings

    @property
    def settings(self) -> Settings:
        return Settings.read(self.env)

    def begin(self, *tasks: dict[str, Any], ids: Sequence[str] = ()) -> list[str]:
        """Runs have begun with these tasks; their trace ids."""
        return self.submit_parts(*({"ai_topic": task} for task in tasks), ids=ids)

    def submit_parts(self, *parts: dict[str, Any], ids: Sequence[str] = ()) -> list[str]:
        """Runs have begun with these parts; their trace ids."""
        named: list[str | None] = [*ids] if ids else [None] * len(parts)

        async def main() -> list[str]:
            async with self.client() as client:
                return await client.submit_many("mesh", list(zip(parts, named, strict=True)))

        return asyncio.run(main())

    def rows(self, *folders: pathlib.Path) -> dict[str, dict[str, Any]]:
        """The rows of the history by their runs, each of which has one."""
        found: dict[str, dict[str, Any]] = {}
        for folder in folders or (self.data,):
            file = folder / "ai_history.csv"
            if not file.exists():
                continue
            with file.open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines):
                    assert row["trace_id"] not in found, f"two rows for run {row['trace_id']}"
                    found[row["trace_id"]] = row
        return found

    def telemetry(self, kind: str = "agent") -> list[dict[str, Any]]:
        """What is told on the telemetry topic, the earliest first."""
        events = sorted(self.begun("ai_telemetry"), key=lambda event: event.created)
        parts = [event.parts["ai_telemetry"] for event in events]
        return [part for part in parts if isinstance(part, dict) and part["kind"] == kind]

    def notes_waiting(self, *names: str) -> int:
        """How many notes have not gone to the memory yet: of this place's worker, or of those with
        folders of these names."""
        waiting = 0
        for folder in [self.folder / name for name in names] or [self.data]:
            outbox = Outbox(folder / "memory" / "outbox.db", 10_000)
            try:
                waiting += outbox.waiting()
            finally:
                outbox.close()
        return waiting

    def wait_for_notes(self) -> None:
        """Every note that was made has gone to the memory."""
        wait_until(lambda: self.notes_waiting() == 0, "the notes to be delivered")

    def notes(self, *kinds: str) -> list[Found]:
        """The latest notes of these kinds, or of all. No worker has the memory's folder, if it is
        one."""

        async def main() -> list[Found]:
            memory = Memory(self.settings)
            await memory.start()
            try:
                assert (await memory.settled()).state == "up", memory.status
                return await memory.latest(kinds or KINDS, 10_000)
            finally:
                await memory.close()

        return asyncio.run(main())


def calls_of(server: ScriptedServer, phrase: str, said: str = "") -> list[dict[str, Any]]:
    """The calls whose instructions have `phrase` and whose prompt has `said`, in order."""
    return [
        call for call in server.calls() if phrase in instructions(call) and said in prompt(call)
    ]


def instructions(call: dict[str, Any]) -> str:
    """The card's common part, and the task, which stands at the end of the prompt."""
    return f"{call['request']['messages'][0]['content']}\n\n{prompt(call)}"


def prompt(call: dict[str, Any]) -> str:
    return str(call["request"]["messages"][-1]["content"])
