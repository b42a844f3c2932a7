"""Fixtures of the chaos suite, and the table at its end."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.chaos.evidence import KILL, TERM
from tests.chaos.kafka_trials import KafkaTrial
from tests.chaos.trials import DELAY_S, JITTER, LONG, SEED, Trial
from tests.chaos.verdicts import Verdict
from tests.servers import ScriptedServer, scripted_server
from tests.servers.kafka import KafkaMissing, KafkaServer

#: What the names of the comparisons begin with.
PLAIN = "test_plain_faust"
ROWS = pytest.StashKey[dict[str, Verdict]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}
    config.addinivalue_line("markers", "settings(**names): PENSTOCK settings of the trial")


@pytest.fixture(scope="session")
def server_process() -> Iterator[ScriptedServer]:
    with scripted_server(delay_s=DELAY_S, jitter=JITTER) as running:
        yield running


@pytest.fixture
def server(server_process: ScriptedServer) -> ScriptedServer:
    """A model server that answers in 21-49 ms, and has counted nothing yet."""
    server_process.reset()
    return server_process


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, server: ScriptedServer
) -> Iterator[Trial]:
    """A trial of its own, with no process left afterwards. `settings` may be a mark's keywords."""
    mark = request.node.get_closest_marker("settings")
    trial = Trial(request.node.name, tmp_path, server, **(mark.kwargs if mark else {}))
    print(f"PENSTOCK_TEST_RANDOM={SEED}")
    try:
        yield trial
    finally:
        trial.close()


@contextlib.contextmanager
def kafka_server(folder: pathlib.Path) -> Iterator[KafkaServer]:
    """A Kafka that may be killed. Without Java the test is skipped, and fails in CI."""
    try:
        kafka = KafkaServer(folder)
    except KafkaMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.kill()


@pytest.fixture
def kafka_trial(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, server: ScriptedServer
) -> Iterator[KafkaTrial]:
    """A trial on a Kafka of its own, with no process left afterwards."""
    mark = request.node.get_closest_marker("settings")
    with kafka_server(tmp_path / "kafka") as kafka:
        trial = KafkaTrial(
            request.node.name, tmp_path, server, kafka, **(mark.kwargs if mark else {})
        )
        print(f"PENSTOCK_TEST_RANDOM={SEED}")
        try:
            yield trial
        finally:
            trial.close()


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Iterator[list[Verdict]]:
    """Verdicts that stand in the table at the end."""
    verdicts: list[Verdict] = []
    yield verdicts
    for verdict in verdicts:
        request.config.stash[ROWS][request.node.name] = verdict


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    write = terminalreporter.write_line
    write("")
    form = "long" if LONG else "short"
    write(f"chaos, {form} form, PENSTOCK_TEST_RANDOM={SEED}")
    heads = ("kills", "terms", "runs", "calls", "lost", "recorded", "answered", "in flight")
    write("  ".join([*heads, "recovery p50 / p99", "test"]))
    ours = [verdict for name, verdict in rows.items() if not name.startswith(PLAIN)]
    for name, verdict in [*rows.items(), *([("all but plain Faust", add(ours))] if ours else [])]:
        cells: list[object] = [
            verdict.count(KILL), verdict.count(TERM), verdict.runs, verdict.calls,
            verdict.lost, verdict.recorded, len(verdict.answered_ms), verdict.in_flight,
        ]  # fmt: skip
        row = [str(cell).rjust(len(head)) for cell, head in zip(cells, heads, strict=True)]
        recovery = verdict.recovery_s
        times = f"{share(recovery, 0.5):.1f} / {share(recovery, 0.99):.1f} s" if recovery else "-"
        write("  ".join([*row, times.rjust(18), name.removeprefix("test_").replace("_", " ")]))
    ages = add(ours).answered_ms
    write("recorded: calls made again although their answer was durable; of Penstock's, must be 0.")
    write("answered: made again, answered before the kill but not recorded; in flight: unanswered.")
    if ages:
        write(
            f"These answers had left the server {share(ages, 0.5):.0f} ms (p50),"
            f" {share(ages, 0.99):.0f} ms (p99), {max(ages):.0f} ms (most) before the kill."
        )


def add(verdicts: list[Verdict]) -> Verdict:
    return Verdict(
        runs=sum(v.runs for v in verdicts),
        deaths=[death for v in verdicts for death in v.deaths],
        lost=sum(v.lost for v in verdicts),
        calls=sum(v.calls for v in verdicts),
        repeats=[repeat for v in verdicts for repeat in v.repeats],
        recovery_s=[s for v in verdicts for s in v.recovery_s],
        faults=[fault for v in verdicts for fault in v.faults],
    )


def share(values: list[float], part: float) -> float:
    """The value that `part` of all are not above."""
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)]
