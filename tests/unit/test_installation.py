"""Two distributions that bring Penstock are one sentence."""

import pathlib

import pytest

from penstock.errors import InstalledTwice
from penstock.installation import require_one_installation

COMMAND = "[console_scripts]\npenstock = app.__main__:main\n"
TRANSPORT = "[faust.transports]\nsqlite = somewhere:Transport\n"


@pytest.fixture
def install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """A distribution is there, beside what the environment has."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install_(name: str, **files: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-0.1.0.dist-info"
        folder.mkdir()
        for file, text in ({"METADATA": f"Name: {name}\nVersion: 0.1.0\n"} | files).items():
            (folder / file.replace("_txt", ".txt")).write_text(text)

    install_(
        "penstock-agents", entry_points_txt=f"{COMMAND}\n{TRANSPORT}", top_level_txt="penstock\n"
    )
    return install_


def test_one_distribution_is_fine_also_where_it_is_found_twice(install) -> None:
    # In the environment of the tests it is installed, too.
    install("another", entry_points_txt="[console_scripts]\npenstock-plot = plot:main\n")
    require_one_installation()


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"entry_points_txt": COMMAND}, "the command 'penstock'"),
        ({"entry_points_txt": TRANSPORT}, "the transport 'sqlite'"),
        (
            {"entry_points_txt": COMMAND + TRANSPORT},
            "the command 'penstock' and the transport 'sqlite'",
        ),
        ({"top_level_txt": "other\npenstock\n"}, "the package 'penstock'"),
        ({"RECORD": "other.py,,\npenstock/__init__.py,sha256=x,1\n"}, "the package 'penstock'"),
    ],
)
def test_two_that_bring_it_are_one_sentence(
    install, tmp_path: pathlib.Path, files: dict[str, str], what: str
) -> None:
    (tmp_path / "penstock").mkdir()
    (tmp_path / "penstock" / "__init__.py").touch()
    install("penstock", **files)
    with pytest.raises(InstalledTwice) as caught:
        require_one_installation()
    assert caught.value.message == (
        f"penstock and penstock-agents both bring {what}, and which one is found is chance."
        " Uninstall what is not meant (pip uninstall penstock) and then install penstock-agents"
        " again, of whose files that may have taken some"
    )
