"""The commands that list runs and sum up costs."""

import asyncio
import json
import pathlib
from typing import Any

import pytest

from penstock.broker.contract import Row
from penstock.commands import listing
from penstock.commands.building import FEW, BuildProgress
from penstock.commands.command import Context
from penstock.commands.runs import read_pairs, read_runs, trace
from penstock.errors import ChainError, NotFound, SettingsError
from penstock.journal import MODEL, Call
from penstock.project.project import Project
from penstock.record import events, steps
from penstock.record.steps import StepRecord
from penstock.runs.index import Bound
from penstock.settings import Settings

NOTHING: dict[str, Any] = dict.fromkeys(
    ("pipeline", "state", "text", "card", "model", "cost", "took", "since")
) | {"tags": (), "limit": 50}


@pytest.fixture
def context(tmp_path: pathlib.Path, project: Project) -> Context:
    context = Context(Settings(data=tmp_path / "data", logs=tmp_path / "logs"))
    context.project = project
    return context


def begin(context: Context, idea: str, *calls: Call) -> str:
    """A run whose first step is on record; its trace id."""
    with context.client() as client:
        trace_id = client.submit("tale", {"idea": idea}, tags={"customer": "42"})
        (found,) = client.broker.find("idea", trace_id.encode())
        event = events.load(found.value)
        record = StepRecord(
            trace_id=trace_id, event=event.id, pipeline="tale", stage="tale_teller_idea",
            does="teller", topic="idea", partition=found.partition, offset=found.offset,
            calls=[*calls],
        )  # fmt: skip
        client.broker.append([Row("penstock-steps", b"", steps.joined([steps.dump(record)]))])
    return trace_id


def list_runs(context: Context, **wanted: Any) -> None:
    asyncio.run(listing.runs(context, **NOTHING | wanted))


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_runs_are_a_table_and_text_of_models_is_text_alone(context, capsys):
    trace_id = begin(context, "a \x1b[2Jsnail\x07 [bold]x", Call(MODEL, "openai/x", "k", 1.0, 2.0))
    list_runs(context)
    out = capsys.readouterr().out
    heading, line = out.splitlines()
    assert (
        heading.split() == "run pipeline state begins with reached age took tokens cost $".split()
    )
    assert line.startswith(trace_id) and "[bold]x" in line and "unknown" in line
    assert "\x1b" not in out and "\x07" not in out


def test_runs_are_an_object_a_line_for_programs(context, capsys):
    context.as_json = True
    first, second = begin(context, "a snail"), begin(context, "a whale")
    list_runs(context)
    found = objects(capsys.readouterr().out)
    assert [one["trace_id"] for one in found] == [second, first]
    assert found[0]["tags"] == {"customer": "42"} and found[0]["cost"] == 0
    list_runs(context, text="snail", tags=("customer=42",))
    assert [one["trace_id"] for one in objects(capsys.readouterr().out)] == [first]
    list_runs(context, limit=1)
    said = capsys.readouterr()
    assert len(objects(said.out)) == 1 and said.err.startswith("These are the newest 1; more: ")


def test_no_run_is_said_and_a_misspelt_pipeline_too(context, capsys):
    list_runs(context)
    assert capsys.readouterr().err == "There is no run yet.\n"
    begin(context, "a snail")
    list_runs(context, state="dead")
    assert capsys.readouterr().err == "There is no such run.\n"
    with pytest.raises(ChainError, match="Did you mean 'tale'"):
        list_runs(context, pipeline="tail")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"cost": text} for text in ("0.1", ">", "> x", ">1s", "=1")),
        *({"took": text} for text in ("30s", ">30x", "")),
        *({"since": text} for text in ("yesterday", "2x", "", "2026-13-01")),
        {"tags": ("customer",)},
    ],
)
def test_a_bad_value_is_a_sentence_that_names_its_option(context, wrong):
    (option,) = wrong
    with pytest.raises(SettingsError, match=f"^--{option.removesuffix('s')} .*: expected "):
        list_runs(context, **wrong)


def test_limits_and_times_are_read():
    assert listing.read_cost(">0.1") == Bound(">", 0.1)
    assert listing.read_cost(" <= .5 ") == Bound("<=", 0.5)
    assert listing.read_took(">30") == listing.read_took(">30s") == Bound(">", 30.0)
    assert listing.read_took("<1.5h") == Bound("<", 5400.0)
    assert listing.read_since("2h", 10_000.0) == 2_800.0
    assert listing.read_since("1970-01-02T00:00+00:00", 0.0) == 86_400.0


def test_durations_are_short():
    shown = [listing.duration(seconds) for seconds in (-1, 5.25, 125, 7300, 300_000)]
    assert shown == ["0.0 s", "5.2 s", "2 m 5 s", "2 h 1 m", "3 d 11 h"]


def test_costs_are_summed_and_what_has_no_price_is_named(context, capsys):
    known = Call(MODEL, "openai/large", "a", 1.0, 2.0, input_tokens=3, cost=0.25)
    begin(context, "a snail", known, Call(MODEL, "openai/strange", "b", 1.0, 2.0))
    asyncio.run(listing.cost(context, "model"))
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[1] == "openai/large 1 1 0 3 0 0 0.2500 0".split()
    assert lines[2] == "openai/strange 1 1 0 0 0 0 unknown 0".split()
    assert "openai/strange: {input: USD_PER_MILLION, output: USD_PER_MILLION}" in said.err
    assert "openai/large:" not in said.err
    context.as_json = True
    asyncio.run(listing.cost(context, "tag"))
    (row,) = objects(capsys.readouterr().out)
    assert (row["tag"], row["cost"], row["unpriced"]) == ("customer=42", 0.25, 1)


def test_no_cost_is_said(context, capsys):
    asyncio.run(listing.cost(context, "tag"))
    assert capsys.readouterr().err == "No call of a model is on record in a run with a tag.\n"


def test_a_run_is_drawn_by_the_beginning_of_its_id(context, capsys):
    trace_id = begin(context, "a snail")
    asyncio.run(trace(context, trace_id[:6], full=False))
    assert trace_id in capsys.readouterr().out
    with pytest.raises(NotFound, match="'abc' is not a trace id: it is a UUID, or at least 4"):
        asyncio.run(trace(context, "abc", full=False))


def test_the_building_of_the_index_is_said(capsys):
    few, many = BuildProgress(), BuildProgress()
    few(0, FEW)
    few(FEW, FEW)
    assert capsys.readouterr().err == ""
    many(0, FEW + 1)
    many(100, FEW + 1)
    many(FEW + 1, FEW + 1)
    assert capsys.readouterr().err.splitlines() == [
        "Building the index of runs: 0 of 5,001 records.",
        "The index of runs is built: 5,001 records.",
    ]


def test_tags_of_a_file_are_read(tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text('{"idea": "x", "tags": {"customer": "42"}}\n{"idea": "y"}\n')
    checked: list[Any] = []
    assert read_runs(str(file), checked.append) == checked
    assert checked == [({"idea": "x"}, None, {"customer": "42"}), ({"idea": "y"}, None, {})]
    file.write_text('{"idea": "x", "tags": ["customer"]}\n')
    with pytest.raises(SettingsError, match=r"runs.jsonl:1: tags is \['customer'\]: expected"):
        read_runs(str(file), checked.append)
    assert read_pairs("--tag", ["a=b=c"]) == {"a": "b=c"}
