"""What it costs to start, from outside: a checkout's commands as its users type them."""

import os
import pathlib
import re
import statistics
import subprocess

from bench.figures import Options, Result
from bench.trees import package_of, penstock_of, python_of

#: In the line with which a worker says that it is ready, in the words of any commit.
READY = re.compile(r"\bready\b", re.IGNORECASE)


def start(folder: pathlib.Path, options: Options) -> Result:
    """CPU seconds of each command, in the project that this checkout's `penstock new` makes."""
    tree = pathlib.Path(options["tree"])
    python, penstock = str(python_of(tree)), str(penstock_of(tree))
    cpu_s([penstock, "new", "small"], folder)
    commands = {
        "help_cpu_s": [penstock, "--help"],
        "check_cpu_s": [penstock, "check"],
        "worker_cpu_s": [penstock, "worker", "-l", "info"],
        "import_cpu_s": [python, "-c", f"import {package_of(tree)}"],
    }
    found: dict[str, list[float]] = {figure: [] for figure in commands}
    # The first time is not counted: it compiles what is imported and makes the broker's file.
    for counted in [False] + [True] * options["times"]:
        for figure, command in commands.items():
            seconds = cpu_s(command, folder / "small", stops_when_ready="worker" in command)
            if counted:
                found[figure].append(seconds)
    return {figure: statistics.median(values) for figure, values in found.items()}


def cpu_s(command: list[str], cwd: pathlib.Path, *, stops_when_ready: bool = False) -> float:
    """Return the user and system CPU seconds of `command` and its children, when it has ended.

    One that does not end by itself is sent SIGTERM as soon as it says that it is ready. Raises
    `RuntimeError` when it fails, or ends before it was ready.
    """
    waits = stops_when_ready
    with subprocess.Popen(
        command,
        cwd=cwd,
        # Nothing but the start: no run is begun.
        env=os.environ | {"PENSTOCK_SEED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if waits and READY.search(line):
                # Once: a second signal would cut its orderly stop short.
                waits = False
                process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or waits:
        said = "".join(lines)
        raise RuntimeError(f"{said}{' '.join(command)}: exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime
