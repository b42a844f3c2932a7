"""The run: every case in a process of its own, the cases interleaved over the rounds."""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from bench import report, slow_fsync
from bench.cases import CASES, Case
from bench.figures import Options, Result
from tests.servers.kafka import KafkaMissing, KafkaServer

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHILD = ROOT / "bench" / "child.py"
#: Seconds after which a measure is taken for stuck.
LIMIT_S = 600.0
#: Not for the children: what names another project, another broker or a real model.
HIDDEN = ("PENSTOCK_", "OPENAI_", "MISTRAL_", "OLLAMA_", "PYTHONPATH", "LD_PRELOAD")
#: Nor what lets a system of the field tell somebody of its runs.
HIDDEN += ("LANGCHAIN_", "LANGSMITH_", "LANGGRAPH_", "DBOS_", "OTEL_", "FASTSTREAM_")


class MeasureFailed(Exception):
    """A child ended without figures; its last words are the message."""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 when a case gave no figures, whatever the others gave."""
    options = _parse(arguments)
    with contextlib.ExitStack() as stack:
        return _measure_all(options, stack)


def _measure_all(options: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    trees = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    kafka = _kafka(options.only, stack)
    cases, skipped = _choose(options.only, kafka)
    if not cases and not skipped:
        names = ", ".join(case.name for case in CASES)
        print(f"No case here is named {', '.join(options.only)}. The cases: {names}.")
        return 1
    for name, why in skipped.items():
        print(f"{name}: {why}")
    runs: report.Runs = {tree: [] for tree in trees}
    started, failed = time.monotonic(), 0
    total, count = options.rounds * len(cases) * len(trees), 0
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=options.folder) as name:
        folder = pathlib.Path(name)
        print(f"{total} measures in {folder}: {options.rounds} round(s) of {len(cases)} cases")
        try:
            for number in range(options.rounds):
                for results in runs.values():
                    results.append({})
                # Backwards every other time: a machine that slows down slows both halves.
                order = cases if number % 2 == 0 else cases[::-1]
                for place, case in enumerate(order):
                    for tree in trees if (number + place) % 2 == 0 else trees[::-1]:
                        count += 1
                        _say(f"[{count:3}/{total}] {_title(case, tree, trees)} ...", end=" ")
                        begun = time.monotonic()
                        try:
                            result = _measure(case, tree, folder, options.quick, kafka)
                        except MeasureFailed as exc:
                            failed += 1
                            _say(f"FAILED\n{exc}")
                            continue
                        runs[tree][number][case.name] = result
                        _say(f"{report.first(case, result)} ({time.monotonic() - begun:.0f} s)")
        except KeyboardInterrupt:
            print("\nInterrupted: the table has what was measured so far.")
    took_s = time.monotonic() - started
    print()
    print(report.table(cases, runs, skipped, quick=options.quick))
    print(f"\n{_machine()}; {took_s:.0f} s{', quick: small sizes' if options.quick else ''}")
    if options.json is not None:
        report.write(options.json, cases, runs, _machine(), options.quick)
    return 1 if failed else 0


def _parse(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="Measure Penstock, and what it is compared with."
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, one round: three minutes"
    )
    parser.add_argument("--rounds", type=int, help="how often each case is measured (default: 3)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=f"cases whose names begin so; may be repeated: {', '.join(c.name for c in CASES)}",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures, as JSON")
    parser.add_argument(
        "--against",
        type=pathlib.Path,
        metavar="TREE",
        help="measure this other checkout too, case by case in turn",
    )
    parser.add_argument(
        "--folder", type=pathlib.Path, help="where the files go (default: the system's temp folder)"
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if options.against is not None and not (options.against / "app" / "__init__.py").exists():
        parser.error(f"--against: there is no Penstock in {options.against}")
    if options.against is not None and options.against.resolve() == ROOT:
        parser.error("--against: that is this checkout")
    return options


def _kafka(only: Sequence[str], stack: contextlib.ExitStack) -> str | None:
    """The address of the Kafka to measure: the one that is named, or the tests' own, started when
    a case needs it, where its jars are there; gone with `stack`."""
    named = os.environ.get("PENSTOCK_TEST_KAFKA")
    if named or not any(case.kafka for case in CASES if _is_chosen(case, only)):
        return named
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-kafka-"))
    try:
        server = KafkaServer(pathlib.Path(folder))
    except KafkaMissing:
        return None
    _say("Starting Apache Kafka ...")
    stack.callback(server.kill)
    server.start()
    return server.address


def _is_chosen(case: Case, only: Sequence[str]) -> bool:
    return not only or any(case.name.startswith(word) for word in only)


def _choose(only: Sequence[str], kafka: str | None) -> tuple[list[Case], dict[str, str]]:
    """The cases that were asked for and can be measured here, and by name why others cannot."""
    chosen, skipped = [], {}
    for case in CASES:
        if not _is_chosen(case, only):
            continue
        if case.slow_disk and slow_fsync.compiler() is None:
            skipped[case.name] = "skipped, there is no gcc (on Debian: apt-get install gcc)"
        elif case.kafka and kafka is None:
            skipped[case.name] = (
                "skipped, there is no Kafka (make kafka-jars brings one; or name one:"
                " PENSTOCK_TEST_KAFKA=HOST:PORT)"
            )
        elif not all(_installed(name) for name in case.needs):
            skipped[case.name] = (
                f"skipped, {case.needs[0]} is not installed (make bench-field brings it)"
            )
        else:
            chosen.append(case)
    return chosen, skipped


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what it is in is missing
        return False


def _title(case: Case, tree: pathlib.Path, trees: Sequence[pathlib.Path]) -> str:
    return case.about if len(trees) == 1 else f"{case.about} [{tree}]"


def _measure(
    case: Case, tree: pathlib.Path, folder: pathlib.Path, quick: bool, kafka: str | None
) -> Result:
    """The case's figures, from children that share a new folder."""
    work = pathlib.Path(tempfile.mkdtemp(prefix=f"{case.name}-", dir=folder))
    env = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    result: Result = {}
    try:
        if case.slow_disk:
            env["LD_PRELOAD"] = str(slow_fsync.build(work))
        for place, (kind, full) in enumerate(case.measures):
            options = full | (case.quick[place] if quick else {})
            if case.kafka:
                options["kafka"] = kafka
            result |= _run(kind, options, tree, work, env)
    except subprocess.CalledProcessError as exc:
        raise MeasureFailed(f"    {exc.stderr.strip()}") from exc
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return result


def _run(
    kind: str, options: Options, tree: pathlib.Path, folder: pathlib.Path, env: dict[str, str]
) -> Result:
    command = [sys.executable, str(CHILD), str(tree), kind, str(folder), json.dumps(options)]
    # A session of its own: Ctrl-C ends the child when we say so, not in the middle of a line.
    child = subprocess.Popen(
        command,
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired as exc:
        raise MeasureFailed(f"{kind} was not done in {LIMIT_S:g} s") from exc
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    lines = output.strip().splitlines()
    if child.returncode != 0 or not lines:
        raise MeasureFailed("\n".join(f"    {line}" for line in lines[-15:]) or "    no output")
    result: Result = json.loads(lines[-1])
    return result


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def _machine() -> str:
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    )
