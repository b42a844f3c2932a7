"""A worker that kills itself: `python -m tests.chaos.crashing_worker worker`, the real program with
`kill -9` built in at one point of an event's life.

PENSTOCK_TEST_CRASH="POINT:N" names the point, one of `POINTS`, and at which of its occurrences it
kills. The last line of the output is then `crash: POINT SECONDS`, the time of the kill. Nothing
else differs: what runs is Penstock's own command line, and the app is not told that it is under
test.
"""

import asyncio
import json
import logging.handlers
import os
import pathlib
import re
import signal
import time
from collections.abc import Callable
from typing import Any

from agents import OpenAIChatCompletionsModel

import penstock.__main__
import penstock.crash
from penstock.broker.embedded.writer import Batch, Writer
from penstock.journal import FUNCTION, Calls
from penstock.memory.outbox import Outbox
from penstock.steps.history import History

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Crash:
    """Counts the occurrences of a point, and kills this process."""

    def __init__(self, point: str, at: int) -> None:
        self.point = point
        self.at = at
        self.passed = 0

    def due(self, passing: int = 1) -> bool:
        """So many more have passed; whether the one is among them."""
        before, self.passed = self.passed, self.passed + passing
        return before < self.at <= self.passed

    def die(self) -> None:
        os.write(2, f"\ncrash: {self.point} {time.time()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


class CallLog:
    """The model server's log. Each look reads only what is new: one that took longer than an answer
    would always come too late."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file
        self._read = 0
        self._phases: dict[str, list[str]] = {}

    def phases(self, trace: str) -> list[str]:
        """What has become of the run's calls so far."""
        with self._file.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in map(json.loads, whole.splitlines()):
            self._phases.setdefault(line["trace"], []).append(line["phase"])
        return self._phases.get(trace, [])


def before_the_answer(crash: Crash) -> None:
    """The server has the call, by its own log, and has not answered it."""
    ask = OpenAIChatCompletionsModel.get_response
    calls = CallLog(pathlib.Path(os.environ["PENSTOCK_TEST_CALLS"]))

    async def get_response(self: Any, *args: Any, **options: Any) -> Any:
        if not crash.due():
            return await ask(self, *args, **options)
        found = UUID.search(str(args))
        assert found is not None
        asked_before = calls.phases(found[0]).count("asked")
        call = asyncio.ensure_future(ask(self, *args, **options))
        while not call.done():
            phases = calls.phases(found[0])
            if phases.count("asked") > asked_before and phases[-1] == "asked":
                crash.die()
            await asyncio.sleep(0)
        crash.at = crash.passed + 1  # the answer was faster than our look: the next call, then
        return await call

    OpenAIChatCompletionsModel.get_response = get_response  # type: ignore[method-assign]


def before_the_answer_on_a_slow_disk(crash: Crash) -> None:
    """As before, with a disk on which a call overtakes the record of the one before it, unless it
    waits for that."""

    def slow(passed: str, steps: int) -> None:
        if passed == "answers written" and steps:
            time.sleep(0.2)

    penstock.crash.hook = slow
    before_the_answer(crash)


def at(point: str, least: int = 1) -> Callable[[Crash], None]:
    """Where the code says that it is at `point`, with at least so many steps at once."""

    def arm(crash: Crash) -> None:
        def hook(passed: str, steps: int) -> None:
            if passed == point and steps >= least and crash.due(steps):
                crash.die()

        penstock.crash.hook = hook

    return arm


def with_durable_answers(arm: Callable[[Crash], None]) -> Callable[[Crash], None]:
    """The answers are durable before the steps that they end. Nothing that takes them away may be
    in the file before the outputs are."""
    once = Calls.once

    async def once_durable(
        self: Calls, request: bytes, call: Any, kind: str = FUNCTION, name: str = ""
    ) -> bytes:
        answer = await once(self, request, call, kind, name)
        await self.recorded()
        return answer

    def arm_both(crash: Crash) -> None:
        Calls.once = once_durable  # type: ignore[method-assign]
        arm(crash)

    return arm_both


def inside_a_batch(crash: Crash) -> None:
    """The outputs of several steps are in the file, uncommitted; their positions are not."""
    write = Writer.write

    def spilling(self: Writer, batch: Batch) -> None:
        # So small a cache spills what is not committed into the file.
        self.db.execute("pragma cache_size = 1")
        write(self, batch)

    Writer.write = spilling  # type: ignore[method-assign]
    at("outputs written", least=2)(crash)


def inside_a_rotation(crash: Crash) -> None:
    """The event log has its new name, and there is none of the old name yet."""
    rotate = logging.handlers.RotatingFileHandler.rotate

    def crashing(self: Any, source: str, target: str) -> None:
        rotate(self, source, target)
        if crash.due():
            crash.die()

    logging.handlers.RotatingFileHandler.rotate = crashing  # type: ignore[method-assign,assignment]


def after(crash: Crash, owner: type, name: str) -> None:
    """The method of `owner` has done its work, and nobody is told."""
    method = getattr(owner, name)

    def crashing(self: Any, *args: Any) -> Any:
        made = method(self, *args)
        if crash.due():
            crash.die()
        return made

    setattr(owner, name, crashing)


def after_the_note(crash: Crash) -> None:
    after(crash, Outbox, "put")


def after_the_row(crash: Crash) -> None:
    after(crash, History, "append")


#: By the words of DESIGN section 5. What passes, and is counted, is what is in front of the comma;
#: for batches, the steps in them.
POINTS: dict[str, Callable[[Crash], None]] = {
    "call made, not answered": before_the_answer,
    "call made on a slow disk, not answered": before_the_answer_on_a_slow_disk,
    "answered, not recorded": at("answered"),
    "recorded, step not finished": at("recorded"),
    "outputs in the batch, transaction not committed": at("step written"),
    "recorded, outputs written, not committed": with_durable_answers(at("outputs written")),
    "batch cut, half written": inside_a_batch,
    "transaction committed, loop not notified": at("committed"),
    "output durable, next stage not begun": at("known to be committed"),
    "crash counted, nothing begun": at("deaths counted"),
    "event log renamed, not reopened": inside_a_rotation,
    "note kept, step not finished": after_the_note,
    "row written, step not finished": after_the_row,
}
#: The same life on Kafka, where the end of a step is a row of sends.
KAFKA_POINTS: dict[str, Callable[[Crash], None]] = {
    "call made, not answered": before_the_answer,
    "answered, not recorded": at("answered"),
    "recorded, step not finished": at("recorded"),
    "outputs acknowledged, progress not written": at("outputs sent"),
    "progress written, not acked": at("progress written"),
    "acked, not committed": at("acked"),
    "committed": at("committed"),
}


def main() -> None:
    point, _, passing = os.environ["PENSTOCK_TEST_CRASH"].rpartition(":")
    embedded = not os.environ.get("PENSTOCK_BROKER", "").startswith("kafka:")
    (POINTS if embedded else KAFKA_POINTS)[point](Crash(point, int(passing)))
    penstock.__main__.main()


if __name__ == "__main__":
    main()
