"""What a checkout's bench can measure, as JSON: `listing.py TREE PACKAGE`, run by TREE's Python.

Of that bench it reads `bench.cases.CASES` and nothing else, so it works for other commits too.
"""

import dataclasses
import importlib.util
import json
import platform
import sqlite3
import sys


def main(tree: str, package: str) -> None:
    # This folder goes before anything is looked for: it belongs to another checkout.
    del sys.path[0]
    found = importlib.util.find_spec(package)
    sys.path.insert(0, tree)
    from bench.cases import CASES

    listing = {
        "versions": f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "package": found.origin if found else None,
        "cases": [dataclasses.asdict(case) for case in CASES],
        "missing": [name for case in CASES for name in case.needs if not _installed(name)],
    }
    print(json.dumps(listing))


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what it is in is missing
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
