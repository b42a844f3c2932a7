"""Bad input: one clear error with the place and the way out, no traceback, and nothing lost."""

import asyncio
import pathlib
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from penstock.broker.contract import Row
from penstock.broker.embedded.store import Store
from penstock.record import events
from penstock.record.events import first_event
from penstock.runs.runs import DEAD, DONE, Run
from tests.acceptance.homes import TRACEBACK, Home, Screen, copy_project, side_by_side
from tests.programs import PENSTOCK, Worker, wait_until
from tests.servers import ScriptedServer


def edit(file: str, old: str, new: str) -> Callable[[pathlib.Path], None]:
    def spoil(project: pathlib.Path) -> None:
        path = project / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def remove(file: str) -> Callable[[pathlib.Path], None]:
    return lambda project: (project / file).unlink()


STORY = "topics/story.yaml"
#: What is spoiled, and what every command that runs pipelines then says.
MISTAKES = {
    "an unknown key in a card": (
        edit("agents/plotter.md", "max_tokens", "max_token"),
        [
            "agents/plotter.md:4",
            "unknown key 'max_token'",
            "Did you mean 'max_tokens'?",
            "timeout_s",
        ],
    ),
    "a bad value in a card": (
        edit("agents/plotter.md", "temperature: 0.7", "temperature: warm"),
        ["agents/plotter.md:3", "'temperature' is 'warm'"],
    ),
    "an unknown key in a chain": (
        edit(STORY, "{reads: story,    agent: critic,", "{reads: story, agnt: critic,"),
        [STORY + ":12", "unknown key 'stages.2.agnt'", "Did you mean 'agent'?"],
    ),
    "a topic that nobody writes": (
        edit(STORY, "{reads: story, ", "{reads: draft, "),
        [STORY, "'draft' is not one of the topics", "critique"],
    ),
    "a topic that is read and not written": (
        edit(STORY, "writes: story, ", "writes: final, "),
        [STORY, "reads 'story', which no stage writes"],
    ),
    "a cycle without an exit": (
        edit(
            STORY,
            "writes: final,    name: writer_revise_stream}\n  - {reads: final, ",
            "writes: plot, name: writer_revise_stream}\n  - {reads: critique, ",
        ),
        [STORY, "cycle without an exit", "plot -> story -> critique -> plot"],
    ),
    "a missing card": (
        remove("agents/critic.md"),
        [STORY, "agents/critic.md is missing"],
    ),
    "a missing task": (
        edit(STORY, "task: revise", "task: rewrite"),
        [STORY, "has no section '## Task: rewrite'", "revise"],
    ),
    "a missing step": (
        edit(STORY, "step: present", "step: presnt"),
        [STORY, "there is no step 'presnt'", "Did you mean 'present'?"],
    ),
    "YAML that is none": (
        edit(STORY, "pipeline: story", "pipeline: [story"),
        [STORY + ":", "not YAML"],
    ),
    "no chain at all": (remove(STORY), ["there is no chain here", "penstock new NAME"]),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Screen]:
    """What `check` says of each mistake."""
    tmp_path_factory.getbasetemp()  # pytest makes it at the first call, which two threads spoil

    def check(mistake: str) -> Screen:
        home = Home(tmp_path_factory.mktemp("mistake"))
        project = copy_project(home.folder / "project")
        MISTAKES[mistake][0](project)
        return home.show("check", PENSTOCK_PROJECT=str(project))

    return side_by_side(MISTAKES, check)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_project_is_named_with_its_location(
    checked: dict[str, Screen], mistake: str
) -> None:
    said = checked[mistake].refused()
    assert all(word in said for word in MISTAKES[mistake][1]), said


def test_no_command_starts_on_a_project_with_a_mistake(home: Home, tmp_path: pathlib.Path) -> None:
    project = copy_project(tmp_path / "project")
    edit(STORY, "pipeline: story", "pipelin: story")(project)
    commands = [
        ("worker",),
        ("story", "x"),
        ("run", "story"),
        ("submit", "story", "x"),
        ("doctor",),
    ]

    screens = side_by_side(
        commands, lambda command: home.show(*command, PENSTOCK_PROJECT=str(project))
    )

    mistake = f"{project}/{STORY}:1: unknown key 'pipelin'. Did you mean 'pipeline'?"
    for screen in screens.values():
        assert mistake in screen.ended(1).text
    assert not home.begun()


#: A setting, its value, and what is said.
SETTINGS = [
    ("PENSTOCK_SEEED", "1", ["PENSTOCK_SEEED is not a setting", "Did you mean 'PENSTOCK_SEED'?"]),
    ("PENSTOCK_PARTITIONS", "many", ["PENSTOCK_PARTITIONS='many'", "whole number from 1 to"]),
    ("PENSTOCK_SEED", "yes", ["PENSTOCK_SEED='yes'", "1, 0, again"]),
    ("PENSTOCK_BROKER", "redis://x", ["PENSTOCK_BROKER", "sqlite:///ABSOLUTE/PATH or kafka://"]),
    ("PENSTOCK_MODEL", "opnai/x", ["'opnai' is not a provider", "Did you mean 'openai'?"]),
    ("PENSTOCK_MODEL", "openai/x", ["OPENAI_API_KEY is not set"]),
    ("PENSTOCK_MODEL", "mistral/x", ["MISTRAL_API_KEY is not set"]),
]


def test_a_bad_setting_is_named_at_the_start(home: Home) -> None:
    screens = side_by_side(
        [(name, value) for name, value, _ in SETTINGS],
        lambda setting: home.show("worker", **dict([setting])),
    )

    for name, value, words in SETTINGS:
        said = screens[name, value].refused()
        assert all(word in said for word in words), said


def test_a_folder_that_is_taken_is_not_written_into(home: Home, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "not empty" in home.fails("new", str(tmp_path / "mine"))
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_unequal_partition_counts_are_refused(home: Home) -> None:
    home.run("submit", "story", "A hedgehog", PENSTOCK_PARTITIONS="2")

    store = Store(home.database)
    store.create("plot", 3)
    store.close()
    said = home.fails("worker")
    assert "unequal partition counts" in said and "plot: 3" in said and "premise: 2" in said


#: Commands that open the database.
OPENERS = [
    ("worker",),
    ("story", "x"),
    ("submit", "story", "x"),
    ("dead-letters",),
    ("trace", str(uuid.UUID(int=0))),
]


def test_a_database_from_a_newer_version_is_left_alone(home: Home) -> None:
    home.submit("--premise", "A hedgehog")
    db = sqlite3.connect(home.database)
    db.execute("pragma user_version = 99")
    db.close()
    before = home.database.read_bytes()

    for command in OPENERS:  # one by one: two of them are workers
        said = home.show(*command).refused()
        assert f"{home.database}: written by a newer Penstock (format 99" in said
        assert "Upgrade" in said
    assert home.database.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(home: Home) -> None:
    home.data.mkdir(parents=True)
    home.database.write_bytes(b"Dear diary, " * 1000)
    said = home.fails("worker")
    assert str(home.database) in said and "damaged" in said
    assert home.database.read_bytes().startswith(b"Dear diary, ")


def put(home: Home, topic: str, key: bytes, value: bytes) -> None:
    """A record that another process puts on a topic, past every check."""

    async def append() -> None:
        async with home.client() as client:
            await asyncio.to_thread(client.broker.append, [Row(topic, key, value)])

    asyncio.run(append())


def test_a_record_that_is_no_event_is_a_dead_letter_with_its_raw_bytes(home: Home) -> None:
    with home.worker(PENSTOCK_MAX_EVENT_BYTES="20000"):
        put(home, "plot", b"broken", b'{"id": "x", "parts": ')
        put(home, "plot", b"binary", b"\xff\x00\xfe")
        event = first_event("story", {"premise": "x" * 30_000})
        put(home, "premise", event.key, events.dump(event))
        wait_until(lambda: len(home.dead_letters()) == 3, "three dead letters")
        # The worker goes on.
        home.wait_for(*home.submit("--premise", "A hedgehog"))

    dead_letters = {dead_letter["trace_id"]: dead_letter for dead_letter in home.dead_letters()}
    assert dead_letters["broken"]["raw"] == '{"id": "x", "parts": '
    assert dead_letters["broken"]["cause"] == "MalformedEvent"
    assert dead_letters["binary"]["raw_base64"] == "/wD+"
    large = dead_letters[event.trace_id]
    assert large["cause"] == "EventTooLarge" and "PENSTOCK_MAX_EVENT_BYTES" in large["message"]
    assert large["raw"] == events.dump(event).decode()


def test_an_output_that_is_too_large_is_a_dead_letter_of_the_event_before(home: Home) -> None:
    with home.worker(PENSTOCK_MAX_EVENT_BYTES="1200"):
        (trace_id,) = home.submit("--premise", "A hedgehog")
        (run,) = home.wait_for(trace_id, state=DEAD)
    (dead_letter,) = run.dead_letters
    assert dead_letter.cause == "EventTooLarge" and "'carries'" in dead_letter.message


def test_runs_that_are_too_large_are_refused_where_they_are_submitted(home: Home) -> None:
    home.env["PENSTOCK_MAX_EVENT_BYTES"] = "2000"
    said = home.fails("submit", "story", "--premise", "x" * 3000)
    assert "PENSTOCK_MAX_EVENT_BYTES" in said


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder on a disk of its own, of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root: run the tests as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(120)
def test_a_full_disk_stops_the_work_and_nothing_is_lost(
    tmp_path: pathlib.Path, small_disk: pathlib.Path
) -> None:
    home = Home(
        tmp_path,
        PENSTOCK_SEED="0",
        PENSTOCK_DATA=str(small_disk / "data"),
        PENSTOCK_LOGS=str(small_disk / "logs"),
    )
    with home.worker() as worker:
        home.wait_for(*home.submit("--premise", "A hedgehog"))
        trace_ids = home.submit("--file", str(_many_runs(tmp_path)))
        _fill(small_disk / "filler")
        worker.wait_for("the disk is full")
        large = f'{{"premise": "{"x" * 500_000}"}}'
        refused = home.run("submit", "story", "--file", "-", stdin=large, code=1)
        assert "disk is full" in refused.err and refused.out == ""
        stopped = [run.state for run in home.read(*trace_ids)]
        assert stopped.count(DONE) < len(stopped)
        (small_disk / "filler").unlink()
        worker.wait_for("writing again, work goes on")
        runs: list[Run] = home.wait_for(*trace_ids)
        assert all(len(run.entries) == 5 for run in runs)
        (last,) = home.wait_for(*home.submit("--premise", "There is room again"))
        assert worker.stop() == 0
    # Lines of the event log may be missing, but none is torn, and it is written again.
    lines = home.logged()
    assert sum(line["trace_id"] == last.trace_id for line in lines) == 10


def _many_runs(folder: pathlib.Path) -> pathlib.Path:
    file = folder / "runs.jsonl"
    file.write_text("".join(f'{{"premise": "Hedgehog {n}"}}\n' for n in range(150)))
    return file


def _fill(file: pathlib.Path) -> None:
    with file.open("wb", buffering=0) as out:
        size = 65536
        while size:
            try:
                out.write(b"x" * size)
            except OSError:
                size //= 2


def test_a_folder_that_cannot_be_written_is_named_with_its_setting(
    home: Home, tmp_path: pathlib.Path
) -> None:
    # A file where the folder should be: root may write anywhere else.
    (tmp_path / "taken").write_text("mine")
    folder = str(tmp_path / "taken" / "folder")
    cases = [(s, c) for s in ("PENSTOCK_DATA", "PENSTOCK_LOGS") for c in ("worker", "story")]

    screens = side_by_side(cases, lambda case: home.show(case[1], **{case[0]: folder}))

    for (setting, _), screen in screens.items():
        said = screen.refused()
        assert setting in said and folder in said
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_damaged_database_is_named_and_left_alone(home: Home) -> None:
    home.submit("--premise", "A hedgehog")
    with sqlite3.connect(home.database) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    raw = bytearray(home.database.read_bytes())
    raw[4096 : len(raw)] = b"\xff" * (len(raw) - 4096)  # the first page says that it is ours
    home.database.write_bytes(raw)

    for command in OPENERS:  # one by one: two of them are workers
        said = home.show(*command).refused()
        assert f"{home.database}: the database is damaged" in said and ".recover" in said
    assert home.database.read_bytes() == bytes(raw)


def test_an_unreachable_kafka_is_asked_again_and_the_worker_lives(home: Home) -> None:
    home.env["PENSTOCK_BROKER"] = "kafka://127.0.0.1:9"
    python, *command = [*PENSTOCK, "worker", "-l", "info"]
    worker = Worker(home.env, home.folder, python=python, command=tuple(command))
    try:
        worker.wait_for("Kafka at 127.0.0.1:9 does not answer")
        assert "asking again until it does" in worker.text()
        assert "127.0.0.1:9" in home.fails("submit", "story", "x")
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert TRACEBACK not in worker.text() and "Logging error" not in worker.text()


def test_a_wrong_model_name_ends_the_story_with_the_cause_and_the_way_to_it(
    home: Home, scripted: ScriptedServer
) -> None:
    scripted.script([{"fault": "status", "status": 404, "body": "model 'gtp' does not exist"}])

    screen = home.run("story", "x", code=1, PENSTOCK_MODEL=f"{scripted.base_url}#gtp")

    assert "model 'gtp' does not exist. Check the model's name and the address" in screen.err
    (dead_letter,) = home.dead_letters()
    assert f"penstock trace {dead_letter['trace_id']}" in screen.err


def test_a_memory_that_cannot_be_named_is_said_at_the_start(home: Home) -> None:
    home.env["QDRANT_URL"] = "localhost:6333"
    assert "QDRANT_URL='localhost:6333': expected http://HOST:6333" in home.fails("worker")
