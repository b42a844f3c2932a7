"""Pipelines of one's own: the example of two cards, and a new project outside the checkout."""

import dataclasses
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests.acceptance.places import LABEL, Place, finals
from tests.programs import ROOT, wait_until

HAIKU = ROOT / "examples" / "haiku"


def test_a_pipeline_of_one_yaml_and_two_cards_runs(place: Place) -> None:
    files = [file.relative_to(HAIKU) for file in HAIKU.rglob("*") if file.is_file()]
    assert sorted(map(str, files)) == [
        "README.md",
        "agents/judge.md",
        "agents/poet.md",
        "topics/haiku.yaml",
    ]

    screen = place.run("run", "haiku", "the first frost", PENSTOCK_PROJECT=str(HAIKU))

    assert "poet" in screen.err and "judge" in screen.err
    assert "✅ Final Haiku Output for Trace ID" in screen.out and LABEL in screen.out


def test_an_answer_goes_back_as_often_as_the_chain_allows_and_then_on(place: Place) -> None:
    place.env["PENSTOCK_PROJECT"] = str(ROOT / "examples" / "headline")
    checked = place.run("check")
    assert "headline → front_page or news: measure" in checked.out
    short = place.run("run", "headline", "Rain.", "--json")
    trace = place.run("trace", short.json()["trace_id"], "--json").json()
    topics = [event["topic"] for event in trace["events"]]
    # The offline model's replies are too long, however often it is asked.
    assert topics == ["news", "headline", "news", "headline", "news", "headline", "front_page"]
    assert trace["state"] == "done"
    assert trace["events"][-1]["parts"]["measure"]["verdict"] == "TOO_LONG"


@dataclasses.dataclass
class Installed:
    """What this checkout is for whoever installs it."""

    wheel: pathlib.Path
    #: The console script, in a virtual environment.
    penstock: pathlib.Path

    def place(self, folder: pathlib.Path, cwd: pathlib.Path) -> Place:
        """A place where nothing is known of the checkout."""
        cwd.mkdir(exist_ok=True)
        program = [str(self.penstock)]
        return Place(folder, cwd=cwd, program=program, PYTHONPATH="", PENSTOCK_SEED="0")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy, because a build leaves folders behind, and installed beside the packages
    of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("installed")
    for name in ("penstock", "agents", "topics"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=ignore)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    run("wheel", "--no-deps", *build_tools(), "-w", str(folder), str(folder / "tree"))
    (wheel,) = folder.glob("penstock-*.whl")

    home = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    run("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    (site,) = subprocess.check_output([python, "-c", purelib], text=True).splitlines()
    # Afterwards: pip would take the editable Penstock over there for this one.
    pathlib.Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return Installed(wheel, home / "bin" / "penstock")


def run(*arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build_tools() -> list[str]:
    """The environment's own, when it has them: then nothing is downloaded."""
    try:
        known = int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
        return ["--no-build-isolation"] if known and importlib.metadata.version("wheel") else []
    except importlib.metadata.PackageNotFoundError:
        return []


def test_the_wheel_has_no_package_that_shadows_the_sdk(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == {"penstock"}
    tops = {name.split("/")[0] for name in names}
    assert "agents" not in tops and "topics" not in tops, tops


def test_an_installed_penstock_tells_stories_from_any_folder(
    installed: Installed, tmp_path: pathlib.Path
) -> None:
    place = installed.place(tmp_path / "place", tmp_path / "anywhere")

    screen = place.run("story", "A lighthouse that is afraid of the dark")

    assert "✅ Final Story Output for Trace ID" in screen.out and "lighthouse" in screen.out
    # Nothing is written where the command was called from.
    assert not list(place.cwd.iterdir())


@pytest.mark.timeout(120)
def test_a_new_project_is_made_checked_and_run_outside_the_checkout(
    installed: Installed, tmp_path: pathlib.Path
) -> None:
    here = installed.place(tmp_path / "place", tmp_path / "elsewhere")
    made = here.run("new", "mine")
    files = sorted(str(file.relative_to(here.cwd)) for file in (here.cwd / "mine").rglob("*.*"))
    assert [file for file in files if not file.endswith(".gitignore")] == [
        "mine/README.md",
        "mine/agents/editor.md",
        "mine/agents/poet.md",
        "mine/steps/count_words.py",
        "mine/topics/greeting.yaml",
    ]
    assert all(file in made.err for file in files) and "penstock check" in made.out

    mine = installed.place(tmp_path / "place", here.cwd / "mine")
    checked = mine.run("check").out
    assert "greeting: 4 stages, begins with 'subject'" in checked
    assert "draft → measured: count_words" in checked and "All is well" in checked
    run = mine.run("run", "greeting", "rain on a tin roof", "--json").json()
    assert run["state"] == "done"
    assert [event["topic"] for event in run["events"]] == ["subject", "draft", "measured", "card"]
    parts = run["events"][-1]["parts"]
    assert parts["measured"] == {"words": len(parts["draft"].split())}
    with mine.worker() as worker:
        shown = mine.run("submit", "greeting", "the first snow", "--wait")
        (trace_id,) = finals(shown.out)
        worker.wait_for(f"✅ Final Greeting Output for Trace ID {trace_id}:")

    assert "mine: is there already, and not empty" in here.fails("new", "mine")
    chain = mine.cwd / "topics" / "greeting.yaml"
    chain.write_text(chain.read_text().replace("step: count_words,", "step: count_wrods,"))
    said = mine.fails("check")
    assert "greeting.yaml:10: there is no step 'count_wrods'. Did you mean 'count_words'?" in said


STEPS = """
import asyncio, os, pathlib
from penstock.steps import Work, step

NOTES = pathlib.Path(os.environ["NOTES"])

def ask(question: str) -> str:
    with (NOTES / "asked").open("a") as file:
        file.write(question + "\\n")
    return question

async def hold() -> str:
    (NOTES / "holding").touch()
    while not (NOTES / "go").exists():
        await asyncio.sleep(0.01)
    return "went on"

@step("tell")
async def tell(work: Work) -> str:
    asked = await work.call("ask", ask, work.parts["idea"])
    return asked if asked == "first" else await work.call("hold", hold)
"""
CHAIN = """\
pipeline: tale
topics: {idea: What it is about, text: The text}
stages:
  - {reads: idea, step: tell, name: teller, writes: text}
"""


@pytest.mark.timeout(120)
def test_a_stage_that_was_renamed_or_joined_by_another_pays_for_nothing_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path))  # this process reads the project too
    project = tmp_path / "project"
    for name, text in {"steps/tell.py": STEPS, "topics/tale.yaml": CHAIN}.items():
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    place = Place(
        tmp_path / "place",
        PENSTOCK_PROJECT=str(project),
        PENSTOCK_EVENT_LOG="off",
    )
    begin = ("submit", "tale", "--json")
    with place.worker() as worker:
        first = place.run(*begin, "first").json()["trace_id"]
        place.wait_for(first)
        second = place.run(*begin, "second").json()["trace_id"]
        wait_until((tmp_path / "holding").exists, "the second call of the second run")
        worker.kill()

    chain = project / "topics" / "tale.yaml"
    chain.write_text(CHAIN.replace("teller", "narrator"))
    (tmp_path / "go").touch()
    with place.worker() as worker:
        worker.wait_for("narrator takes the place of teller on 'idea'")
        (run,) = place.wait_for(second)
        assert run.entries[-1].event.parts["text"] == "went on"
        assert worker.stop() == 0

    chain.write_text(CHAIN + "  - {reads: idea, step: tell, name: counter}\n")
    with place.worker() as worker:
        worker.wait_for("counter takes the place of narrator on 'idea'")
        third = place.run(*begin, "third").json()["trace_id"]
        place.wait_for(third)
        assert worker.stop() == 0
    assert (tmp_path / "asked").read_text().split() == ["first", "second", "third", "third"]
