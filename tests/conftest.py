"""In which order tests run, what begins before them, and what is said after them."""

import os
import pathlib
import random
from collections.abc import Generator

import pytest

from tests import missing, programs
from tests.chaos.table import table

pytest_plugins = ["tests.servers.fixtures"]
HERE = pathlib.Path(__file__).parent
#: Folders whose tests take seconds in all, then the others: a broken build is seen at once.
FAST = ("unit", "models", "servers")
ORDER = (*FAST, "sandbox", "contract", "chaos", "acceptance")
ONLY_LONG = pytest.mark.skip(reason=f"{missing.MISSING}All trials are in `make chaos`.")
FAILED = pytest.StashKey[bool]()


def folder(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


def pytest_configure(config: pytest.Config) -> None:
    # One for all processes of a run, which have their environment from this one.
    os.environ.setdefault("PENSTOCK_TEST_RANDOM", str(random.SystemRandom().randrange(10**6)))
    config.stash[FAILED] = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(folder(item)))
    long = os.environ.get("PENSTOCK_TEST_LONG") == "1"
    for item in items:
        if shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
        if item.get_closest_marker("long") and not long:
            item.add_marker(ONLY_LONG)


def shares(item: pytest.Item) -> bool:
    """Whether it uses what its module makes once."""
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return any(made[-1].scope == "module" for made in fixtures.values())


def pytest_collection_finish(session: pytest.Session) -> None:
    # It imports while the first tests run; later, that would be on the clock of one of them.
    if any(folder(item) not in FAST for item in session.items):
        programs.fork_server()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    failed_before = item.session.testsfailed
    ran = yield
    if folder(item) in FAST and item.session.testsfailed > failed_before:
        item.config.stash[FAILED] = True
    if item.config.stash[FAILED] and nextitem and folder(nextitem) not in FAST:
        item.session.shouldstop = "what is fast has failed, so the rest is not begun"
    return ran


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports
    for line in table([*reports("passed"), *reports("failed")]):
        terminalreporter.write_line(line)
    for line in missing.lines(reports("skipped")):
        terminalreporter.write_line(line)
