"""One measure in a process of its own: `child.py TREE KIND FOLDER OPTIONS`.

`app` comes from TREE, `bench` from beside this file, so that two versions of the product are
measured by the same code. The last line on standard output is the figures, as JSON.
"""

import asyncio
import json
import logging
import pathlib
import sys
from typing import Any


def main(tree: str, kind: str, folder: str, options: str) -> None:
    # This folder itself goes: its modules are only `bench.*`.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
    import bench

    assert bench.__file__
    sys.path.insert(0, tree)
    logging.basicConfig(level=logging.WARNING)
    result = measure(kind, pathlib.Path(folder), json.loads(options) | {"tree": tree})
    print(json.dumps(result), flush=True)


def measure(kind: str, folder: pathlib.Path, options: dict[str, Any]) -> dict[str, float]:
    """The figures of one kind. Only what it needs is imported: imports count as memory."""
    from bench import floor

    if kind == "bare_log":
        return floor.bare_log(folder, options)
    if kind == "machine":
        return floor.machine(folder, options)
    if kind.startswith("field_"):
        from bench.field import measures

        made = getattr(measures, kind)(folder, options)
        field: dict[str, float] = asyncio.run(made) if asyncio.iscoroutine(made) else made
        return field
    if kind == "handwritten":
        from bench.handwritten import handwritten

        return asyncio.run(handwritten(folder, options))
    from bench import worker

    result: dict[str, float] = asyncio.run(getattr(worker, kind)(folder, options))
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
