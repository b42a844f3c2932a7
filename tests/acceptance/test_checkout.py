"""The checkout: its own Faust app, and what `make` does about an environment from before."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.acceptance.environments import bare_environment, copy_tree, pip
from tests.acceptance.homes import TRACEBACK, Home, finals
from tests.programs import FAUST, PENSTOCK, ROOT

HANDLERS = {
    "plotter_agent_stream": "plotter: premise -> plot",
    "writer_agent_stream": "writer: plot -> story",
    "critic_agent_stream": "critic: story -> critique",
    "writer_revise_stream": "writer (revise): critique -> final",
    "editor_output_stream": "present: final -> the end",
}
#: Of both command lines: `penstock NAME` and `faust -A app NAME`.
COMMANDS = set(
    "cancel cancel-job check dead-letters doctor job-status jobs lag new push-job rerun run sandbox"
    " settings status story stress submit trace worker".split()
)


# -- its app


def test_faust_lists_the_storys_handlers(home: Home) -> None:
    shown = home.run("agents", program=FAUST).out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    listed = {row[0].removeprefix("@"): row[2] for row in rows if len(row) == 3}
    assert listed.items() >= HANDLERS.items()


def test_the_app_has_the_storys_topics_the_task_that_begins_it_and_all_commands(
    home: Home,
) -> None:
    code = """
import json
import app.main
from faust.cli.faust import cli
app = app.main.app
tasks = [task.__name__ for task in app._app_tasks]
print(json.dumps({"topics": app.plan.topics, "tasks": tasks, "commands": list(cli.commands)}))
"""
    shown = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=home.env)
    found = json.loads(shown)
    assert set(found["topics"]) >= {"premise", "plot", "story", "critique", "final"}
    assert "initiate_pipeline_once" in found["tasks"]
    assert set(found["commands"]) >= COMMANDS


def test_what_the_apps_module_says_of_it_is_true() -> None:
    table = re.findall(r"^    (\w+) +(\w+) +-> (.+)$", (ROOT / "app/main.py").read_text(), re.M)
    said = {name: f"{reads} -> {writes}" for name, reads, writes in table}
    assert said == {
        name: does.partition(": ")[2].replace("the end", "the console")
        for name, does in HANDLERS.items()
    }


def test_the_folder_of_cards_holds_no_python_and_the_sdk_is_found(home: Home) -> None:
    assert list((ROOT / "agents").rglob("*.py")) == []
    code = "import agents; print(agents.Runner.__name__, agents.__file__)"
    shown = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=home.env, text=True)
    assert shown.startswith("Runner ") and str(ROOT / "agents") not in shown


@pytest.mark.parametrize("program", [PENSTOCK, (*FAUST[:3], "penstock")], ids=["python", "faust"])
def test_a_module_that_hides_the_sdk_is_one_sentence(
    home: Home, tmp_path: pathlib.Path, program: tuple[str, ...]
) -> None:
    home.run("new", str(tmp_path / "mine"))
    home.cwd = tmp_path / "mine"
    (home.cwd / "agents.py").touch()
    shown = home.run("worker", code=1, program=program)
    assert shown.err.splitlines()[0].startswith("Error: agents.py: hides the OpenAI Agents SDK")


# -- its environment

OLD = """\
[metadata]
name = penstock
version = 0.1.0
[options]
packages = app, app.broker
[options.entry_points]
console_scripts =
    penstock = app.__main__:main
faust.transports =
    sqlite = app.broker.embedded:Transport
"""


@pytest.mark.timeout(180)
def test_make_writes_a_story_in_an_environment_from_before_the_library_was_called_penstock(
    tmp_path: pathlib.Path,
) -> None:
    """In a clone called `penstock`, as most are, and with the distribution as it was then: its
    names and what it brought, without the code."""
    clone = copy_tree(tmp_path / "penstock", "app", "Makefile", "requirements.txt")
    python = bare_environment(clone / ".venv")
    old = tmp_path / "old"
    for name in ("app/__init__.py", "app/__main__.py", "app/broker/__init__.py"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).touch()
    (old / "setup.cfg").write_text(OLD)
    (old / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools"]\n')
    install = ("install", "--no-deps", "--no-build-isolation", "--editable")
    pip(python, *install, old)
    (clone / ".venv" / ".pins").touch()  # its packages are those that are wanted
    home = Home(tmp_path / "home", cwd=clone, program=["make", "-s"], PYTHONPATH="")
    home.env |= {"PATH": os.environ["PATH"], "MAKEFLAGS": ""}

    screen = home.run("story")
    assert len(finals(screen.out)) == 1
    assert "Skipping" not in screen.text and "WARNING" not in screen.text

    # From the folder above the import finds the package, and not the clone of the same name.
    code = "import penstock.errors; print(penstock.__file__)"
    shown = subprocess.check_output([python, "-c", code], cwd=tmp_path, env=home.env, text=True)
    assert shown.strip() == str(clone / "penstock" / "__init__.py")
    (path_file,) = clone.glob(".venv/lib/*/site-packages/__editable__*.pth")
    assert path_file.read_text().split() == [str(clone)]

    # Whoever installs the old one again, or has not used make, is told so.
    pip(python, *install, old)
    penstock = [str(python), "-m", "penstock"]
    said = home.show("worker", program=penstock).refused()
    assert TRACEBACK not in said
    assert "penstock and penstock-agents both bring the command 'penstock' and" in said
    assert "pip uninstall penstock" in said
    os.utime(clone / "setup.cfg")
    assert len(finals(home.run("story").out)) == 1
