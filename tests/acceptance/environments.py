"""Environments of their own, without the minute that a new one takes."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

from tests.programs import ROOT

#: What a build of the distribution reads.
BUILT_FROM = ("penstock", "agents", "topics", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def copy_tree(folder: pathlib.Path, *more: str) -> pathlib.Path:
    """`folder` has what the distribution is built from: a build leaves folders behind."""
    folder.mkdir(parents=True)
    for name in (*BUILT_FROM, *more):
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def bare_environment(folder: pathlib.Path) -> pathlib.Path:
    """The Python of a new virtual environment, in which all packages of the one that runs the tests
    are found, but not the checkout: a path in a .pth adds the folder, and what .pth files there
    add is not read. It is as good as one with its own copies, which takes a minute."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    (site,) = subprocess.check_output([python, "-c", purelib], text=True).splitlines()
    pathlib.Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


def pip(python: str | pathlib.Path, *arguments: str | pathlib.Path) -> None:
    """pip has done that in the environment of `python`."""
    done = subprocess.run(
        [python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments],
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
