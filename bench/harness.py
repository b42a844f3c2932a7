"""The run: every case in a process of its own, the cases interleaved over the rounds."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from bench import report, slow_fsync, trees
from bench.cases import CASES, Case
from bench.figures import Result
from bench.trees import ROOT, Tree, TreeUnusable
from tests.servers.kafka import KafkaMissing, KafkaServer

#: Seconds after which a measure is taken for stuck.
LIMIT_S = 600.0


class MeasureFailed(Exception):
    """A child ended without figures; its last words are the message."""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 when a case gave no figures, whatever the others gave."""
    options = _parse(arguments)
    roots = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    try:
        checkouts = [trees.read(root) for root in roots]
    except TreeUnusable as exc:
        print(exc)
        return 1
    with contextlib.ExitStack() as stack:
        return _measure_all(checkouts, options, stack)


def _measure_all(
    checkouts: list[Tree], options: argparse.Namespace, stack: contextlib.ExitStack
) -> int:
    kafka = _kafka(options.only, stack)
    cases, skipped = _choose(checkouts, options.only, options.quick, kafka)
    if not cases and not skipped:
        names = ", ".join(case.name for case in CASES)
        print(f"No case here is named {', '.join(options.only)}. The cases: {names}.")
        return 1
    for name, why in skipped.items():
        print(f"{name}: {why}")
    runs: report.Runs = {tree: [] for tree in checkouts}
    started, failed = time.monotonic(), 0
    total, count = options.rounds * len(cases) * len(checkouts), 0
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=options.folder) as name:
        folder = pathlib.Path(name)
        print(f"{total} measures in {folder}: {options.rounds} round(s) of {len(cases)} cases")
        try:
            for number in range(options.rounds):
                for results in runs.values():
                    results.append({})
                # Backwards every other time: a machine that slows down slows both halves.
                order = list(enumerate(cases))[:: 1 if number % 2 == 0 else -1]
                for index, case in order:
                    # Each case begins with the other tree than in the round before.
                    for tree in checkouts[:: 1 if (number + index) % 2 == 0 else -1]:
                        count += 1
                        _say(f"[{count:3}/{total}] {_title(case, tree, checkouts)} ...", end=" ")
                        begun = time.monotonic()
                        try:
                            bench = checkouts[0] if case.outside else tree
                            result = _measure(case, tree, bench, folder, options.quick, kafka)
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
    machine = f"{checkouts[0].versions}, {_machine()}"
    print(f"\n{machine}; {took_s:.0f} s{', quick: small sizes' if options.quick else ''}")
    if options.json is not None:
        report.write(options.json, cases, runs, machine, options.quick)
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
        help="measure this other checkout too, by its own bench in its own .venv, in turn",
    )
    parser.add_argument(
        "--folder", type=pathlib.Path, help="where the files go (default: the system's temp folder)"
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
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


def _choose(
    checkouts: Sequence[Tree], only: Sequence[str], quick: bool, kafka: str | None
) -> tuple[list[Case], dict[str, str]]:
    """Return the cases that were asked for and can be measured in every tree, with the rows that
    all of them have; and by name why other cases and rows are left out."""
    here, *others = checkouts
    chosen, left_out = [], {}
    for case in here.cases.values():
        if not _is_chosen(case, only):
            continue
        if why := _why_not(case, checkouts, quick, kafka):
            left_out[case.name] = why
            continue
        figures = [{row.figure for row in tree.own(case).rows} for tree in checkouts]
        shared = figures[0].intersection(*figures[1:])
        for tree, has in zip(checkouts, figures, strict=True):
            for figure in sorted(has - shared):
                left_out[f"{case.name}.{figure}"] = f"only in {tree.root}"
        rows = tuple(row for row in case.rows if row.figure in shared)
        if rows:
            chosen.append(dataclasses.replace(case, rows=rows))
    for tree in others:
        for case in tree.cases.values():
            if _is_chosen(case, only) and case.name not in here.cases:
                left_out[case.name] = f"only in {tree.root}"
    return chosen, left_out


def _why_not(case: Case, checkouts: Sequence[Tree], quick: bool, kafka: str | None) -> str:
    """Return why the case cannot be measured in every tree, or nothing."""
    if case.slow_disk and slow_fsync.compiler() is None:
        return "skipped, there is no gcc (on Debian: apt-get install gcc)"
    if case.kafka and kafka is None:
        return (
            "skipped, there is no Kafka (make kafka-jars brings one; or name one:"
            " PENSTOCK_TEST_KAFKA=HOST:PORT)"
        )
    for tree in checkouts:
        if not case.outside and case.name not in tree.cases:
            return f"only in {checkouts[0].root}"
        own = tree.own(case)
        if missing := tree.missing.intersection(own.needs):
            return (
                f"skipped, {min(missing)} is not installed"
                f" (make -C {tree.root} bench-field brings it)"
            )
        sizes, theirs = ([size for _, size in each.sized(quick)] for each in (case, own))
        if sizes != theirs:
            return f"skipped, the trees measure it differently: {sizes} here, {theirs} there"
    return ""


def _title(case: Case, tree: Tree, checkouts: Sequence[Tree]) -> str:
    return case.about if len(checkouts) == 1 else f"{case.about} [{tree.root}]"


def _measure(
    case: Case, tree: Tree, bench: Tree, folder: pathlib.Path, quick: bool, kafka: str | None
) -> Result:
    """Return the figures of `tree` in this case, from children of `bench` that share a folder."""
    work = pathlib.Path(tempfile.mkdtemp(prefix=f"{case.name}-", dir=folder))
    env = trees.environment()
    result: Result = {}
    try:
        if case.slow_disk:
            env["LD_PRELOAD"] = str(slow_fsync.build(work))
        for kind, options in tree.own(case).sized(quick):
            if case.kafka:
                options["kafka"] = kafka
            result |= _run(bench.command(tree, kind, work, options), kind, work, env)
    except subprocess.CalledProcessError as exc:
        raise MeasureFailed(f"    {exc.stderr.strip()}") from exc
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return result


def _run(command: list[str], kind: str, folder: pathlib.Path, env: dict[str, str]) -> Result:
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
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}"
