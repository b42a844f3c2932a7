"""The cases: what is measured, with which sizes, and what each figure is held against."""

import dataclasses
from typing import Any

from bench.figures import Options

MORE, LESS = "more", "less"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `better` says which way is good; the issue's `aim` may be none."""

    figure: str
    label: str
    unit: str
    aim: float | None = None
    better: str = LESS
    digits: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One or more measures that share a folder, each in a process of its own, and their rows."""

    name: str
    about: str
    measures: tuple[tuple[str, Options], ...]
    rows: tuple[Row, ...]
    #: What a quick run has instead, for each measure. Its figures are no match for the aims.
    quick: tuple[Options, ...]
    slow_disk: bool = False
    kafka: bool = False
    #: A system of the field, by its name in the table that has them side by side.
    system: str = ""
    #: What it imports that Penstock does not need.
    needs: tuple[str, ...] = ()
    #: The aim belongs to the full size.
    quick_aims: bool = True
    #: Taken of a tree's installed commands rather than in its code, so this bench measures every
    #: tree, also one whose own bench does not have the case.
    outside: bool = False

    def sized(self, quick: bool) -> list[tuple[str, Options]]:
        """Return the measures with their full options, or with those of a quick run."""
        return [
            (kind, options | (less if quick else {}))
            for (kind, options), less in zip(self.measures, self.quick, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One figure divided by another of the same round."""

    label: str
    over: tuple[str, str]
    under: tuple[str, str]
    note: str = ""


def _busy(log: bool, partitions: int) -> Case:
    text = f"event log {'on' if log else 'off'}, {partitions} partition{'s' * (partitions > 1)}"
    rows = [
        Row("steps_per_s", text, "steps/s", 8_000 if log else 15_000, MORE),
        Row("cpu_s_per_1000", "  CPU, all threads", "s/1,000 steps", digits=3),
    ]
    if partitions > 1:
        rows.append(Row("peak_mb", "  peak memory", "MB"))
    options = {"does": "step: instant", "log": log, "partitions": partitions}
    return Case(
        f"steps-{'on' if log else 'off'}-{partitions}",
        f"instant Python step, {text}",
        (("steps", options | {"warm": 500, "runs": 5_000}),),
        tuple(rows),
        ({"warm": 200, "runs": 1_000},),
    )


def _agents(log: bool) -> Case:
    text = f"event log {'on' if log else 'off'}"
    return Case(
        f"agents-{'on' if log else 'off'}",
        f"agents through Runner.run, offline model, {text}",
        (("steps", {"does": "agent: echo", "log": log, "warm": 100, "runs": 1_000}),),
        (
            Row("steps_per_s", f"Runner.run, {text}", "steps/s", 1_000, MORE),
            Row("cpu_s_per_1000", "  CPU, all threads", "s/1,000 steps", digits=3),
        ),
        ({"warm": 50, "runs": 200},),
    )


def _handwritten(name: str, broker: str, kafka: bool = False) -> Case:
    options: dict[str, Any] = {"partitions": 4, "agents": 10, "warm": 300, "runs": 2_500}
    options["idle_runs"] = 100
    return Case(
        name,
        f"hand-written Faust on {broker}, nothing recorded",
        (("handwritten", options),),
        (
            Row("steps_per_s", f"hand-written Faust, {broker}", "steps/s", better=MORE),
            Row("cpu_s_per_1000", "  CPU, all threads", "s/1,000 steps", digits=3),
            Row("p50_ms", "  one idle run, p50", "ms", digits=2),
            Row("p99_ms", "  one idle run, p99", "ms", digits=2),
        ),
        ({"warm": 100, "runs": 500, "idle_runs": 30},),
        kafka=kafka,
    )


def _on_kafka(log: bool) -> Case:
    text = f"event log {'on' if log else 'off'}, kafka://"
    options: dict[str, Any] = {"does": "step: instant", "log": log, "partitions": 4}
    return Case(
        f"kafka-{'on' if log else 'off'}",
        f"instant Python step, {text}",
        (("steps", options | {"warm": 500, "runs": 5_000}),),
        (
            Row("steps_per_s", text, "steps/s", better=MORE),
            Row("cpu_s_per_1000", "  CPU, all threads", "s/1,000 steps", digits=3),
            Row("peak_mb", "  peak memory", "MB"),
        ),
        ({"warm": 200, "runs": 1_000},),
        kafka=True,
    )


#: The columns of the table that has the field side by side.
FIELD = (
    Row("steps_per_s", "steps/s", "steps/s", better=MORE),
    Row("cpu_s_per_1000", "CPU s/1,000", "s/1,000 steps", digits=3),
    Row("peak_mb", "peak MB", "MB"),
    Row("p50_ms", "idle p50 ms", "ms", digits=1),
    Row("p99_ms", "idle p99 ms", "ms", digits=1),
    Row("wall_s", "200 runs s", "s", digits=2),
    Row("recovery_s", "recovery s", "s", digits=1),
)


def _field(key: str, system: str, *needs: str, kafka: bool = False) -> Case:
    name = f"field-{key}{'-kafka' if kafka else ''}"
    options: dict[str, Any] = {"system": key, "partitions": 4, "agents": 10}
    return Case(
        name,
        system,
        (
            ("field_busy", options | {"warm": 500, "runs": 1_000, "idle_runs": 100}),
            ("field_many", options | {"runs": 200}),
            ("field_recovery", options | {"runs": 50}),
        ),
        FIELD,
        ({"warm": 100, "runs": 200, "idle_runs": 30}, {}, {}),
        kafka=kafka,
        system=system,
        needs=needs,
    )


CASES = (
    *(_busy(log, partitions) for log in (False, True) for partitions in (1, 4)),
    _agents(False),
    _agents(True),
    Case(
        "idle",
        "one run at a time, 10 ms between them",
        (("idle", {"does": "step: instant", "warm": 50, "runs": 300}),),
        (
            Row("p50_ms", "one idle run, p50", "ms", 5, digits=2),
            Row("p99_ms", "one idle run, p99", "ms", digits=2),
            Row("client_p50_ms", "one idle run from another process, p50", "ms", digits=2),
        ),
        ({"warm": 20, "runs": 80},),
    ),
    Case(
        "slow-model",
        "200 runs at once, 0.2 s a call, four calls in a row",
        (("many", {"does": "step: slow", "runs": 200}),),
        (Row("wall_s", "200 runs with a model of 0.2 s", "s", 0.86, digits=3),),
        ({},),
    ),
    Case(
        "in-flight",
        "10,000 runs, each waiting in a call",
        (
            ("submit_ahead", {"does": "step: gated", "runs": 10_000}),
            ("in_flight", {"concurrency": 10_000, "runs": 10_000}),
        ),
        (
            Row("waiting_mb", "memory, 10,000 runs waiting in a call", "MB", 300),
            Row("peak_mb", "  its peak when all of them go on", "MB", 300),
        ),
        ({"runs": 2_000}, {"runs": 2_000}),
        quick_aims=False,
    ),
    Case(
        "history",
        "the cost of a step after 1,000 and 50,000 finished runs, and after a restart",
        (
            ("history", {"does": "step: instant", "points": [1_000, 50_000], "window": 2_500}),
            ("restart", {"warm": 500, "window": 2_500}),
        ),
        (
            Row("steps_per_s_0", "after 1,000 finished runs", "steps/s", better=MORE),
            Row("cpu_s_per_1000_0", "  CPU, all threads", "s/1,000 steps", digits=3),
            Row("steps_per_s_1", "after 50,000 finished runs", "steps/s", better=MORE),
            Row("cpu_s_per_1000_1", "  CPU, all threads", "s/1,000 steps", digits=3),
            Row("steps_per_s_again", "  and after a restart", "steps/s", better=MORE),
            Row("cpu_s_per_1000_again", "  CPU, all threads", "s/1,000 steps", digits=3),
            Row("ready_s", "  from start to its first run's end", "s", digits=2),
        ),
        ({"points": [500, 2_500], "window": 750}, {"warm": 200, "window": 750}),
        quick_aims=False,
    ),
    Case(
        "index",
        "the index of 100,000 runs, 400,000 events of 1 KB of text and their steps",
        (
            ("index_write", {"runs": 100_000}),
            ("index_fill", {"runs": 100_000, "looks": 30}),
            ("index_ask", {}),
        ),
        (
            Row("rebuilt_s", "index of 100,000 runs, filled from nothing", "s", 180, digits=1),
            Row("events_per_s", "  events and their steps", "events/s", better=MORE),
            Row("cpu_s_per_1000", "  CPU", "s/1,000 events", digits=3),
            Row("followed_per_s", "  followed, 600 at a time", "events/s", 6_000, MORE),
            Row("peak_mb", "  peak memory", "MB"),
            Row("index_mb", "  size of the index", "MB"),
            Row("list_s", "  list", "s", 0.3, digits=3),
            Row("page_s", "  a page after 1,000 runs", "s", 0.3, digits=3),
            Row("filter_s", "  by pipeline, state and card", "s", 0.3, digits=3),
            Row("filter_none_s", "  by model and cost, none found", "s", 0.3, digits=3),
            Row("tag_s", "  by a tag that all have", "s", 0.3, digits=3),
            Row("text_rare_s", "  by a rare word", "s", 0.3, digits=3),
            Row("text_frequent_s", "  by the two most frequent words", "s", 0.3, digits=3),
            Row("text_none_s", "  by these and one that is nowhere", "s", 0.3, digits=3),
            Row("text_filter_s", "  by these and a model, none found", "s", 0.3, digits=3),
            Row("long_run_s", "  the steps of one run of 500", "s", 0.2, digits=3),
            Row("long_run_read_s", "  its events", "s", 0.2, digits=3),
            Row("costs_s", "  costs by card", "s", digits=3),
            Row("refresh_s", "  a look that finds nothing new", "s", digits=3),
        ),
        ({"runs": 5_000}, {"runs": 5_000, "looks": 5}, {}),
        quick_aims=False,
    ),
    Case(
        "index-kafka",
        "the index of 10,000 runs, kafka://",
        (("index_write", {"runs": 10_000}), ("index_fill", {"runs": 10_000, "looks": 10})),
        (
            Row("events_per_s", "index on kafka://, filled", "events/s", 3_000, MORE),
            Row("followed_per_s", "  followed, 600 at a time", "events/s", better=MORE),
            Row("peak_mb", "  peak memory", "MB"),
        ),
        ({"runs": 2_000}, {"runs": 2_000, "looks": 5}),
        kafka=True,
        quick_aims=False,
    ),
    Case(
        "start",
        "what commands and a worker cost to start",
        (("start", {"times": 3}),),
        (
            Row("help_cpu_s", "start: penstock --help, CPU", "s", digits=3),
            Row("check_cpu_s", "  penstock check", "s", digits=3),
            Row("worker_cpu_s", "  a worker, to ready and stopped", "s", digits=3),
            Row("import_cpu_s", "  Python and import of the library", "s", digits=3),
        ),
        ({"times": 1},),
        outside=True,
    ),
    Case(
        "slow-fsync",
        "each sync of a file takes 5 ms longer",
        (
            (
                "slow_disk",
                {"does": "step: instant", "warm": 500, "runs": 2_500, "idle_runs": 50},
            ),
        ),
        (
            Row("steps_per_s", "with 5 ms a sync, event log on", "steps/s", better=MORE),
            Row("syncs_per_1000", "  syncs", "/1,000 steps", digits=1),
            Row("p50_ms", "  one idle run, p50", "ms", digits=1),
        ),
        ({"warm": 200, "runs": 750, "idle_runs": 20},),
        slow_disk=True,
    ),
    _handwritten("faust", "sqlite://"),
    _on_kafka(False),
    _on_kafka(True),
    Case(
        "kafka-idle",
        "one run at a time, kafka://",
        # Kafka makes the first entry of a partition's index when 4 KB are on it, which takes 5 ms
        # to 50, once for each of 20 partitions: with fewer runs before the clock, that is the p99.
        (("idle", {"does": "step: instant", "warm": 500, "runs": 100}),),
        (
            Row("p50_ms", "one idle run, kafka://, p50", "ms", digits=2),
            Row("p99_ms", "one idle run, kafka://, p99", "ms", digits=2),
        ),
        ({"warm": 200, "runs": 30},),
        kafka=True,
    ),
    _handwritten("faust-kafka", "kafka://", kafka=True),
    _field("penstock", "Penstock, sqlite://"),
    _field("faust", "hand-written Faust, sqlite://"),
    _field("langgraph", "LangGraph, SQLite", "langgraph", "langgraph.checkpoint.sqlite"),
    _field("dbos", "DBOS, SQLite", "dbos"),
    _field("penstock", "Penstock, kafka://", kafka=True),
    _field("faust", "hand-written Faust, kafka://", kafka=True),
    _field("faststream", "FastStream, Kafka", "faststream", kafka=True),
    Case(
        "floor",
        "SQLite's bare log: inserts alone",
        # As many records a transaction as the embedded broker's writer puts into one.
        (("bare_log", {"batch": 200, "runs": 10_000}),),
        (
            Row("steps_per_s", "SQLite alone, a 2 KB record a step", "records/s", better=MORE),
            Row("cpu_s_per_1000", "  CPU", "s/1,000 records", digits=3),
        ),
        ({"runs": 2_500},),
    ),
    Case(
        "machine",
        "how fast the machine is just now",
        (("machine", {"probes": 100}),),
        (
            Row("python_ms", "a fixed piece of Python, p50", "ms", digits=1),
            Row("python_worst_ms", "  the slowest of 100", "ms", digits=1),
            Row("sync_ms", "one sync of 4 KB, p50", "ms", digits=2),
            Row("load", "load (processes that want a core)", "", digits=1),
        ),
        ({"probes": 50},),
    ),
)

_SPEED = "steps_per_s"
RATIOS = (
    Ratio("event log on / off", ("steps-on-4", _SPEED), ("steps-off-4", _SPEED)),
    Ratio("4 partitions / 1, log on", ("steps-on-4", _SPEED), ("steps-on-1", _SPEED)),
    Ratio("Penstock / hand-written Faust", ("steps-off-4", _SPEED), ("faust", _SPEED), "log off"),
    Ratio("Penstock / SQLite alone", ("steps-off-4", _SPEED), ("floor", _SPEED), "log off"),
    Ratio(
        "Penstock / Faust, both on Kafka", ("kafka-off", _SPEED), ("faust-kafka", _SPEED), "log off"
    ),
    Ratio(
        "  CPU a step",
        ("kafka-off", "cpu_s_per_1000"),
        ("faust-kafka", "cpu_s_per_1000"),
        "log off; the aim is 0.5",
    ),
    Ratio("  one idle run", ("kafka-idle", "p50_ms"), ("faust-kafka", "p50_ms"), "the aim is 1.5"),
    *(
        Ratio(label, (f"field-penstock{at}", figure), (f"field-{key}{at}", figure), note)
        for key, name, at in (
            ("langgraph", "LangGraph", ""),
            ("dbos", "DBOS", ""),
            ("faststream", "FastStream", "-kafka"),
        )
        for label, figure, note in (
            (f"Penstock / {name}", _SPEED, "log on"),
            ("  CPU a step", "cpu_s_per_1000", "log on"),
        )
    ),
    Ratio(
        "a step after 50,000 runs / 1,000",
        ("history", "cpu_s_per_1000_1"),
        ("history", "cpu_s_per_1000_0"),
        "CPU; flat is 1",
    ),
    Ratio(
        "  after the restart / 1,000",
        ("history", "cpu_s_per_1000_again"),
        ("history", "cpu_s_per_1000_0"),
        "CPU; flat is 1",
    ),
    Ratio("slow disk / this disk", ("slow-fsync", _SPEED), ("steps-on-4", _SPEED)),
)
