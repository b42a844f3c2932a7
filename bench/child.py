"""One measure in a process of its own: `child.py TREE KIND FOLDER OPTIONS`.

A harness of another commit may be the caller, so this stays as it is: TREE is the checkout that is
measured, KIND one of the case's measures, FOLDER a folder of its own (the working directory, and
shared by the measures of one case), OPTIONS the case's options as JSON, with `kafka`, HOST:PORT,
where the case needs one; `slow_fsync`'s library is preloaded where it is about a slow disk. The
last line on standard output is the figures by name, as JSON, and the exit code is 0; after any
other, the last lines say why there are none.
"""

import asyncio
import json
import logging
import pathlib
import sys
from typing import Any


def main(tree: str, kind: str, folder: str, options: str) -> None:
    # This folder itself goes: its modules are only `bench.*`. Beside it is the library.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
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
    if kind == "start":
        from bench import starts

        return starts.start(folder, options)
    if kind.startswith("field_"):
        from bench.field import measures

        made = getattr(measures, kind)(folder, options)
        field: dict[str, float] = asyncio.run(made) if asyncio.iscoroutine(made) else made
        return field
    if kind.startswith("index_"):
        from bench import index

        asked: dict[str, float] = getattr(index, kind)(folder, options)
        return asked
    if kind == "handwritten":
        from bench.handwritten import handwritten

        return asyncio.run(handwritten(folder, options))
    from bench import worker

    result: dict[str, float] = asyncio.run(getattr(worker, kind)(folder, options))
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
