"""Pipelines of one's own: the example of two cards, and a new project outside the checkout."""

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest

from tests.acceptance.places import LABEL, UUID, Place
from tests.programs import ROOT

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel of this checkout, built from a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "bench/")):
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    made = subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."],
        cwd=folder / "tree",
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (file,) = folder.glob("penstock-*.whl")
    return file


def test_the_wheel_has_no_package_that_shadows_the_sdk(wheel: pathlib.Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == {"app"}
    assert any(name.endswith("share/penstock/topics/story.yaml") for name in names)
    assert any(name.endswith("share/penstock/agents/writer.md") for name in names)


@pytest.mark.timeout(120)
def test_a_new_project_runs_outside_the_checkout(
    wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--target", str(installed), str(wheel)], check=True
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    place = Place(tmp_path / "place", cwd=folder, PENSTOCK_SEED="0", PYTHONPATH=str(installed))
    place.run("new", "mine")

    mine = Place(
        tmp_path / "place", cwd=folder / "mine", PENSTOCK_SEED="0", PYTHONPATH=str(installed)
    )
    where = mine.python("import app; print(app.__file__)")
    assert where.startswith(str(installed))
    assert "All is well" in mine.run("check").out
    screen = mine.run("run", "greeting", "rain on a tin roof", "--json")
    run = json.loads(screen.out)
    assert run["state"] == "done"
    assert [event["topic"] for event in run["events"]] == ["subject", "draft", "measured", "card"]
    assert run["events"][2]["parts"]["measured"]["words"] > 0
    with mine.worker():
        shown = mine.run("submit", "greeting", "the first snow", "--wait")
    assert UUID.search(shown.out)

    (mine.cwd / "topics" / "greeting.yaml").write_text("pipeline: greeting\nstagez: []\n")
    assert "greeting.yaml:2: unknown key 'stagez'" in mine.fails("check")
