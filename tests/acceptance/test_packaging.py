"""The wheel outside the checkout: what it holds, what works with it, and beside whom."""

import dataclasses
import pathlib
import shlex
import subprocess
import sys
import zipfile

import pytest
import yaml

from tests.acceptance.environments import bare_environment, copy_tree, pip
from tests.acceptance.homes import Home, finals
from tests.programs import ROOT


@dataclasses.dataclass
class Installed:
    """What this checkout is for whoever installs it."""

    wheel: pathlib.Path
    python: pathlib.Path

    @property
    def penstock(self) -> pathlib.Path:
        """The console script, in a virtual environment."""
        return self.python.with_name("penstock")

    def home(self, folder: pathlib.Path, cwd: pathlib.Path, **settings: str) -> Home:
        """A place where nothing is known of the checkout."""
        cwd.mkdir(exist_ok=True)
        known = {"PYTHONPATH": "", "PENSTOCK_SEED": "0"} | settings
        return Home(folder, cwd=cwd, program=[str(self.penstock)], **known)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    tree = copy_tree(folder / "tree")
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, tree)
    (wheel,) = folder.glob("penstock_agents-*.whl")
    python = bare_environment(folder / "venv")
    pip(python, "install", "--no-deps", "--no-index", wheel)
    return Installed(wheel, python)


# -- what it holds


def test_the_wheel_has_one_package_and_none_that_shadows_the_sdk(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == {"penstock"}
    tops = {name.split("/")[0] for name in names}
    assert all(top == "penstock" or top.startswith("penstock_agents-") for top in tops), tops


def test_every_file_of_the_package_is_in_the_wheel_with_the_cards_and_the_chains(
    installed: Installed,
) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    files = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "penstock").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in names if name.startswith("penstock/")} == files
    assert any(not name.endswith(".py") for name in files)
    shared = {name.partition("/data/share/penstock/")[2] for name in names}
    assert shared - {""} == {
        str(file.relative_to(ROOT))
        for name in ("agents", "topics")
        for file in (ROOT / name).iterdir()
    }


def test_the_checkouts_own_packages_are_not_there(installed: Installed) -> None:
    code = (
        "import importlib.util as u; print([n for n in ('app','tests','bench') if u.find_spec(n)])"
    )
    shown = subprocess.check_output([installed.python, "-I", "-c", code], text=True)
    assert shown == "[]\n"


# -- what works with it


def test_an_installed_penstock_writes_stories_from_any_folder(
    installed: Installed, tmp_path: pathlib.Path
) -> None:
    home = installed.home(tmp_path / "home", tmp_path / "anywhere")

    screen = home.run("story", "A lighthouse that is afraid of the dark")

    assert "✅ Final Story Output for Trace ID" in screen.out and "lighthouse" in screen.out
    # Nothing is written where the command was called from.
    assert not list(home.cwd.iterdir())


@pytest.mark.timeout(120)
def test_an_installed_penstock_runs_the_mesh(installed: Installed, tmp_path: pathlib.Path) -> None:
    home = installed.home(tmp_path / "home", tmp_path / "anywhere")
    report = home.run("stress", "4", "--json").json()
    assert (report["finished"], report["lost"], report["dead_letters"]) == (4, 0, 0)


def test_fausts_own_command_line_knows_it_as_penstock(
    installed: Installed, tmp_path: pathlib.Path
) -> None:
    home = installed.home(tmp_path / "home", tmp_path / "anywhere")
    faust = (str(installed.python), "-m", "faust", "-A", "penstock")
    assert "@plotter_agent_stream" in home.run("agents", program=faust).out
    with home.worker(program=faust) as worker:
        (trace_id,) = home.submit("--premise", "A shy volcano")
        worker.wait_for(f"✅ Final Story Output for Trace ID {trace_id}:")


@pytest.mark.timeout(120)
def test_a_new_project_is_made_checked_and_run_outside_the_checkout(
    installed: Installed, tmp_path: pathlib.Path
) -> None:
    here = installed.home(tmp_path / "home", tmp_path / "elsewhere")
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

    mine = installed.home(tmp_path / "home", here.cwd / "mine")
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


# -- beside whom


MAIN = """\
'''A program with an event loop: GET /THING says what a thing costs.'''

import asyncio
import sys

from app.prices import CURRENCY
from penstock import Client


async def app(scope, receive, send):
    async with Client() as client:
        trace_id = await client.submit("pricing", {"thing": scope["path"].strip("/")})
        priced = (await client.wait(trace_id)).answer
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{CURRENCY} {priced}".encode()})


async def show(message):
    print(message.get("body", b"").decode(), end="")


if __name__ == "__main__":
    asyncio.run(app({"type": "http", "path": sys.argv[1]}, None, show))
"""
SHOP = {
    "app/__init__.py": "",
    "app/main.py": MAIN,
    "app/prices.py": "CURRENCY = 'EUR'\nPRICES = {'tea': 3}\n",
    "steps/price.py": (
        "from app.prices import PRICES\nfrom penstock import Work, step\n"
        "from steps.taxes import TAX\n\n\n"
        "@step\nasync def price(work: Work) -> int:\n    return PRICES[work.parts['thing']] + TAX\n"
    ),
    "steps/taxes.py": "TAX = 1\n",
    "topics/pricing.yaml": (
        "pipeline: pricing\ntopics: {thing: A thing, priced: With its price}\n"
        "stages: [{reads: thing, step: price, writes: priced}]\n"
    ),
}


@pytest.mark.timeout(120)
def test_a_program_with_an_app_of_its_own_runs_a_pipeline(
    installed: Installed, tmp_path: pathlib.Path
) -> None:
    for name, text in SHOP.items():
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).write_text(text)
    home = installed.home(tmp_path / "home", tmp_path / "shop")
    program = (str(installed.python), "-m", "app.main")
    with home.worker(PYTHONPATH="."):
        assert home.run("tea", program=program).out == "EUR 4"
        assert home.run("tea", program=program, PYTHONPATH=".").out == "EUR 4"
    assert home.run("run", "pricing", "tea", "--json").json()["state"] == "done"


# -- in containers


@pytest.mark.parametrize("name", ["redpanda-compose.yml", "examples/mesh-compose.yml"])
def test_the_workers_of_a_compose_file_copy_all_that_they_install(
    name: str, tmp_path: pathlib.Path
) -> None:
    worker = yaml.safe_load((ROOT / name).read_text())["services"]["worker"]
    shell, option, line = worker["command"]
    # Where a container has its temporary folder; pip without what it would download.
    commands = [part.strip() for part in line.replace("/tmp", str(tmp_path)).split("&&")]
    *copying, installing, starting = commands
    subprocess.run([shell, option, " && ".join(copying)], cwd=ROOT, check=True)
    *options, requirements, tree = shlex.split(installing)
    assert options[:2] == ["pip", "install"] and options[-1] == "-r"
    assert (ROOT / requirements).exists()
    python = bare_environment(tmp_path / "venv")
    pip(python, "install", "--no-deps", "--no-build-isolation", tree)
    exec_, program, command, *_ = shlex.split(starting)
    assert (exec_, command) == ("exec", "worker")
    home = Home(tmp_path / "home", program=[str(python.with_name(program))], PYTHONPATH="")
    assert "All is well" in home.run("check").out
