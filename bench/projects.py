"""The project that is measured: four stages in a row, written into a folder of its own."""

import pathlib
import shutil

DATA = pathlib.Path(__file__).parent / "project"
PIPELINE = "bench"
STAGES = 4
#: What begins every run: 2 KB.
PARTS = {"t0": "x" * 2000}


def write_project(folder: pathlib.Path, does: str) -> None:
    """`folder` holds a pipeline of four stages, each doing `does`: `step: NAME`, `agent: NAME`.

    A step's answer replaces what its event carried, so every record has one part of 2 KB. An
    agent's answer is short, so its event carries on what the run began with.
    """
    shutil.copytree(DATA, folder, ignore=shutil.ignore_patterns("__pycache__"))
    carries = ", carries: []" if does.startswith("step") else ""
    lines = [f"pipeline: {PIPELINE}", "topics:"]
    lines += [f"  t{number}: a topic" for number in range(STAGES)]
    lines += ["stages:"]
    for number in range(STAGES):
        # The last stage ends the run: what it answers is journalled, and goes nowhere.
        writes = f", writes: t{number + 1}" if number < STAGES - 1 else ""
        lines += [f"  - {{reads: t{number}, {does}{writes}, name: s{number}{carries}}}"]
    (folder / "topics").mkdir(exist_ok=True)
    (folder / "topics" / f"{PIPELINE}.yaml").write_text("\n".join(lines) + "\n")
