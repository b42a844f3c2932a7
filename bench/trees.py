"""The checkouts that are measured: each with its own bench, in its own environment.

Two commits may differ in the library's name, its modules, its dependencies and its bench, so no
code of one tree runs on the other's library. What the harness relies on in a tree of any commit:

- `.venv/bin/python` and `.venv/bin/penstock`, as `make` installs them;
- `bench.cases.CASES`, for the fields that `Case` and `Row` have here;
- `bench/child.py`, called and answering as its docstring says.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
from collections.abc import Mapping
from typing import Any

from bench.cases import Case, Row
from bench.figures import Options

#: What the library is called, newest name first: it was renamed between commits that are compared.
PACKAGES = ("penstock", "app")
ROOT = pathlib.Path(__file__).resolve().parent.parent
LISTING = ROOT / "bench" / "listing.py"
HIDDEN = (
    # Not for the children: what names another project, another broker or a real model.
    *("PENSTOCK_", "OPENAI_", "MISTRAL_", "OLLAMA_", "PYTHONPATH", "LD_PRELOAD"),
    # Nor what lets a system of the field report its runs to somebody.
    *("LANGCHAIN_", "LANGSMITH_", "LANGGRAPH_", "DBOS_", "OTEL_", "FASTSTREAM_"),
)


class TreeUnusable(Exception):
    """Nothing can be measured in this tree; the message names it and the way out."""


# Each is itself, and a key: equal by identity.
@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    root: pathlib.Path
    #: Of its Python and SQLite.
    versions: str
    cases: Mapping[str, Case]
    #: What its cases import and its environment does not have.
    missing: frozenset[str]

    def own(self, case: Case) -> Case:
        """Return what this tree calls by the name of `case`, which must be there."""
        return case if case.outside else self.cases[case.name]

    def command(
        self, measured: "Tree", kind: str, folder: pathlib.Path, options: Options
    ) -> list[str]:
        """Return the command by which this tree's bench takes one measure of `measured`."""
        python, child = str(python_of(self.root)), str(self.root / "bench" / "child.py")
        return [python, child, str(measured.root), kind, str(folder), json.dumps(options)]


def read(root: pathlib.Path) -> Tree:
    """Return the checkout in `root`. Raises `TreeUnusable`."""
    package = package_of(root)
    if package is None or not (root / "bench" / "child.py").exists():
        raise TreeUnusable(f"{root} is no checkout of Penstock with a bench/. Name one that is.")
    if not python_of(root).exists():
        raise TreeUnusable(
            f"{root} has no environment of its own. Make it: make -C {root} .venv/.penstock"
        )
    command = [str(python_of(root)), str(LISTING), str(root), package]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise TreeUnusable(
            f"{root}: the cases in bench/cases.py cannot be read: {last[0]}."
            " Name a commit whose bench has CASES."
        )
    listing = json.loads(done.stdout)
    # A copied checkout has the original's environment, which would be measured in its place.
    origin = listing["package"]
    if origin is None or not pathlib.Path(origin).resolve().is_relative_to(root):
        raise TreeUnusable(
            f"{root}: its environment has {package} from {origin or 'nowhere'}."
            f" Make it anew: make -C {root} clean .venv/.penstock"
        )
    cases = [_case(data) for data in listing["cases"]]
    return Tree(
        root,
        listing["versions"],
        {case.name: case for case in cases},
        frozenset(listing["missing"]),
    )


def package_of(root: pathlib.Path) -> str | None:
    """Return the import name of the library in this checkout, or None where there is none."""
    return next((name for name in PACKAGES if (root / name / "__init__.py").exists()), None)


def python_of(root: pathlib.Path) -> pathlib.Path:
    return root / ".venv" / "bin" / "python"


def penstock_of(root: pathlib.Path) -> pathlib.Path:
    return root / ".venv" / "bin" / "penstock"


def environment() -> dict[str, str]:
    """Return the environment variables that a tree's processes are given."""
    return {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}


def _case(data: Mapping[str, Any]) -> Case:
    rows = tuple(Row(**_known(Row, row)) for row in data["rows"])
    measures = tuple((kind, options) for kind, options in data["measures"])
    return Case(**_known(Case, data) | {"rows": rows, "measures": measures})


def _known(cls: type[Case] | type[Row], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that `cls` has here: the other commit's may have more."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in data.items() if name in names}
