"""The project's own Python: what steps may import, what nobody else finds, and what is said."""

import importlib
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

from penstock.project.project import Project, read_project
from tests.unit.conftest import CARD, make_project

CHAIN = """\
pipeline: pricing
topics: {thing: A thing, priced: With its price}
stages:
  - {reads: thing, step: price, writes: priced}
"""
#: A step that gives what it has from a module of the project.
PRICE = """\
from penstock import step
from steps.prices import PRICE

@step
def price(work):
    return PRICE
"""

Read = Callable[..., Project]


def write(root: pathlib.Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def read(tmp_path: pathlib.Path) -> Read:
    """A project that is read: files of steps/ by their names, and others by their paths."""

    def read_(name: str = "project", others: Mapping[str, str] = {}, **steps: str) -> Project:
        root = make_project(tmp_path / name, CHAIN, cards={}, steps=steps)
        write(root, others)
        return read_project(root)

    return read_


def problems(project: Project) -> list[str]:
    return [problem.replace(f"{project.root}/", "") for problem in project.problems]


def priced(project: Project) -> object:
    assert project.problems == []
    return project.registry.steps["price"](None)  # type: ignore[arg-type]


def test_a_step_imports_another_file_of_steps(read: Read) -> None:
    assert priced(read(price=PRICE, prices="PRICE = 7\n")) == 7


@pytest.mark.parametrize("statement", ["from .prices import PRICE", "from . import prices"])
def test_a_step_may_import_it_relatively(read: Read, statement: str) -> None:
    source = PRICE.replace("from steps.prices import PRICE", statement)
    source = source.replace("return PRICE", "return sys.modules['steps.prices'].PRICE")
    assert priced(read(price="import sys\n" + source, prices="PRICE = 7\n")) == 7


@pytest.mark.parametrize("first", ["", "'''A package.'''\n"], ids=["a folder", "a package"])
def test_a_step_imports_a_package_beside_steps(read: Read, first: str) -> None:
    others = {"shop/prices.py": "PRICE = 8\n"} | ({"shop/__init__.py": first} if first else {})
    source = PRICE.replace("steps.prices", "shop.prices")
    assert priced(read(others=others, price=source)) == 8


def test_what_a_package_beside_steps_imports_is_the_projects_too(read: Read) -> None:
    others = {
        "shop.py": "from stock.prices import PRICE\nfrom steps.taxes import TAX\nPRICE += TAX\n",
        "stock/prices.py": "PRICE = 8\n",
    }
    source = PRICE.replace("steps.prices", "shop")
    assert priced(read(others=others, price=source, taxes="TAX = 1\n")) == 9


def test_a_step_may_import_when_it_runs(read: Read) -> None:
    source = "from penstock import step\n\n@step\ndef price(work):\n    import shop\n"
    project = read(others={"shop.py": "PRICE = 3\n"}, price=source + "    return shop.PRICE\n")
    assert priced(project) == 3


def test_a_file_that_registers_nothing_is_fine_and_each_is_run_once(read: Read) -> None:
    count = "import sys\nsys.counted = [*getattr(sys, 'counted', ()), __name__]\n"
    try:
        project = read(
            a=count + "import steps.words\n" + PRICE,
            prices=count + "PRICE = 7\n",
            words=count,
            zebra=count + "from steps import words\nfrom steps.prices import PRICE\n",
        )
        assert priced(project) == 7
        names = ["steps.a", "steps.words", "steps.prices", "steps.zebra"]
        assert sys.counted == names  # type: ignore[attr-defined]
    finally:
        del sys.counted  # type: ignore[attr-defined]


def test_steps_of_a_file_that_another_imports_are_registered_once_as_its_own(read: Read) -> None:
    source = PRICE.replace("steps.prices import PRICE", "steps.zebra import helped as PRICE")
    zebra = "from penstock import step, tool\n\n@step\n@tool\ndef helped(work): ...\n"
    project = read(price=source, zebra=zebra)
    assert project.problems == []
    assert project.registry.steps["helped"] is project.registry.tools["helped"]
    again = read(price=source, zebra=zebra, zoo="from penstock import step\n" + zebra)
    said = "steps/zoo.py:5: 'helped' is already registered by steps/zebra.py"
    assert problems(again) == [said]


def test_two_projects_in_one_process_have_modules_of_their_own(read: Read) -> None:
    files = {"price": PRICE.replace("return PRICE", "return steps.prices.PRICE, SHOP")}
    files["price"] = "import steps.prices\nfrom shop import SHOP\n" + files["price"]
    prices = "PRICE = {}\n"
    one = read("one", {"shop.py": "SHOP = 'one'\n"}, **files, prices=prices.format(1))
    two = read("two", {"shop.py": "SHOP = 'two'\n"}, **files, prices=prices.format(2))
    assert (priced(one), priced(two)) == ((1, "one"), (2, "two"))
    assert priced(read_project(one.root)) == (1, "one")


def test_a_project_that_is_read_again_is_run_again(read: Read) -> None:
    files = {"price": PRICE.replace("steps.prices", "shop")}
    assert priced(read(others={"shop.py": "PRICE = 1\n"}, **files)) == 1
    assert priced(read(others={"shop.py": "PRICE = 222\n"}, **files)) == 222


def test_nobody_else_finds_the_modules_of_a_project(read: Read) -> None:
    path = list(sys.path)
    read(others={"shop.py": "", "unused_shop.py": ""}, price="import shop\n" + PRICE, prices="")
    assert sys.path == path
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("unused_shop")


def test_an_installed_package_goes_before_a_folder_without_python(read: Read) -> None:
    others = {"agents/poet.md": CARD, "wsgiref/notes.md": ""}
    source = "import wsgiref.util\n" + PRICE
    sdk = "import importlib.util\nPRICE = importlib.util.find_spec('agents').loader is not None\n"
    assert priced(read(others=others, price=source, prices=sdk)) is True


def test_a_program_that_has_steps_of_its_own_keeps_them(tmp_path: pathlib.Path) -> None:
    # In a process of its own: in this one `steps` is a project's already.
    make_project(tmp_path / "project", CHAIN, {}, {"price": PRICE, "prices": "PRICE = 7\n"})
    program = """\
import pathlib, steps.prices
from penstock.project.project import read_project

for _ in range(2):
    project = read_project(pathlib.Path("project"))
    print(project.problems, project.registry.steps["price"](None))
    import steps.later
    print(steps.prices.PRICE, steps.later.PRICE)
"""
    write(
        tmp_path,
        {"steps/prices.py": "PRICE = 1\n", "steps/later.py": "PRICE = 2\n", "main.py": program},
    )
    shown = subprocess.check_output([sys.executable, "main.py"], cwd=tmp_path, text=True)
    assert shown.splitlines() == ["[] 7", "1 2"] * 2


def test_a_step_may_import_the_program_that_reads_its_project(read: Read) -> None:
    main = """\
import pathlib
from penstock.project.project import read_project

PRICE = 5
project = read_project(pathlib.Path(__file__).parent.parent)
"""
    others = {"program/__init__.py": "", "program/main.py": main}
    source = PRICE.replace("steps.prices", "program.main")
    second = "from penstock import step\n\n@step\ndef other(work): ...\n"
    project = read(others=others, price=source, zoo=second)
    assert priced(project) == 5
    assert {"price", "other"} <= set(project.registry.steps)


def test_a_file_whose_name_is_no_modules_is_run_all_the_same(read: Read) -> None:
    files = {"v1.2-price": PRICE, "prices": "PRICE = 7\n"}
    assert priced(read(**files)) == 7


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            {"price": PRICE},
            "steps/price.py:2: ModuleNotFoundError: No module named 'steps.prices'",
        ),
        (
            {"price": PRICE, "prices": "# no price\n"},
            "steps/price.py:2: ImportError: cannot import name 'PRICE' from 'steps.prices'"
            " (steps/prices.py)",
        ),
        (
            {"price": PRICE.replace("steps.prices", "shop.prices")},
            "steps/price.py:2: ModuleNotFoundError: No module named 'shop'",
        ),
        (
            {"price": PRICE, "zoo": "import steps.prices\n", "prices": "x = 1\nx / 0\n"},
            "steps/prices.py:2: ZeroDivisionError: division by zero",
        ),
        (
            {"price": PRICE, "prices": "x = 1\nif True\n"},
            "steps/prices.py:2: SyntaxError: expected ':' (prices.py, line 2)",
        ),
        (
            {"price": PRICE, "__init__": "import nowhere\n"},
            "steps/__init__.py:1: ModuleNotFoundError: No module named 'nowhere'",
        ),
        (
            {"price": PRICE + "\nimport steps.late\n", "prices": "PRICE = 7\n"},
            "steps/price.py:8: ModuleNotFoundError: No module named 'steps.late'",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_message(
    read: Read, steps: dict[str, str], expected: str
) -> None:
    # Not that the step is missing, too, which the chain names: why it is missing was said.
    assert problems(read(**steps)) == [expected]


def test_a_tool_in_a_file_that_cannot_be_run_is_one_message(tmp_path: pathlib.Path) -> None:
    card = CARD.replace("about: Tells it", "tools: [look]")
    source = "import nowhere\nfrom penstock import tool\n\n@tool\ndef look(what: str): ...\n"
    root = make_project(tmp_path, cards={"teller": card}, steps={"look": source})
    assert problems(read_project(root)) == [
        "steps/look.py:1: ModuleNotFoundError: No module named 'nowhere'"
    ]


def test_a_module_beside_steps_that_fails_is_named_with_its_line(read: Read) -> None:
    source = PRICE.replace("steps.prices", "shop.prices")
    others = {"shop/prices.py": "PRICE = 1\nraise KeyError('till')\n"}
    assert problems(read(others=others, price=source)) == ["shop/prices.py:2: KeyError: 'till'"]


def test_paths_are_shown_as_the_project_was_named(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(read(price=PRICE, prices="x = 1\nx / 0\n").root)
    expected = "steps/prices.py:2: ZeroDivisionError: division by zero"
    assert read_project(pathlib.Path(".")).problems == [expected]


@pytest.mark.parametrize(
    ("statement", "instead"),
    [
        ("from app.steps import step", "from penstock import step"),
        ("from app.steps import Work, step as s", "from penstock import Work, step as s"),
        ("from app.client import Client", "from penstock import Client"),
        ("from app.steps import FanOut, step", "from penstock.steps import FanOut, step"),
        ("import app.steps", "import penstock.steps"),
        ("import app.steps as steps, json", "import penstock.steps as steps, json"),
        ("if True:\n    from app.steps import tool", "from penstock import tool"),
    ],
)
def test_an_import_of_the_old_name_is_one_message_with_the_new_one(
    read: Read, statement: str, instead: str
) -> None:
    # Also where there is an `app`, as in this checkout: it is not built for that.
    line = 2 + statement.count("\n")
    assert problems(read(price=f"'''Prices.'''\n{statement}\n{PRICE}")) == [
        f"steps/price.py:{line}: the library is called penstock now, and not app. Write: {instead}"
    ]


def test_an_import_of_the_old_name_in_a_file_that_others_import_is_said_once(read: Read) -> None:
    old = "from app.steps import step\nPRICE = 1\n"
    assert problems(read(price=PRICE, prices=old)) == [
        "steps/prices.py:1: the library is called penstock now, and not app."
        " Write: from penstock import step"
    ]


def test_a_project_may_have_an_app_of_its_own(read: Read) -> None:
    others = {"app/__init__.py": "", "app/steps.py": "PRICE = 6\n"}
    assert priced(read(others=others, price=PRICE.replace("steps.prices", "app.steps"))) == 6


@pytest.mark.parametrize("name", ["agents.py", "agents/__init__.py"])
def test_python_that_would_hide_the_sdk_is_one_message(read: Read, name: str) -> None:
    project = read(others={name: ""}, price=PRICE, prices="PRICE = 7\n")
    assert problems(project) == [
        f"{name}: hides the OpenAI Agents SDK, which is imported as `agents` as well."
        " Give this module another name: agents/ holds cards, and no Python"
    ]


def test_python_elsewhere_on_the_path_that_hides_the_sdk_is_one_message(
    read: Read, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"program/agents.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "program"))
    (problem,) = read(price=PRICE, prices="PRICE = 7\n").problems
    assert problem.startswith(f"{tmp_path}/program/agents.py: hides the OpenAI Agents SDK")
