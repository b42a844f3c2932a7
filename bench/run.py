"""Measure Penstock: `python bench/run.py`, or `make bench`. What each row means: README.md."""

import pathlib
import sys


def main() -> int:
    # This folder itself goes: its modules are only `bench.*`.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
    from bench.harness import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
