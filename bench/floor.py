"""The floor: what SQLite and the machine can do at best, measured beside the rest."""

import contextlib
import os
import pathlib
import sqlite3
import time

from bench.figures import Options, Result, percentile
from bench.projects import STAGES

VALUE = b"x" * 2200  # a part of 2 KB in its event
#: Rows a statement, as the embedded broker inserts them.
ROWS = 128
INSERT = "insert into record (id, ts, key, value, headers) values "


def bare_log(folder: pathlib.Path, options: Options) -> Result:
    """A loop that only inserts: one record a step, so many a transaction, `synchronous=FULL`."""
    total, batch = options["runs"] * STAGES, options["batch"]
    with contextlib.closing(sqlite3.connect(folder / "floor.db", isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute(
            "create table record"
            " (id integer primary key, ts integer not null, key blob, value blob, headers blob)"
        )
        started, cpu, done = time.perf_counter(), time.process_time(), 0
        while done < total:
            db.execute("begin immediate")
            stop = min(total, done + batch)
            while done < stop:
                size = min(ROWS, stop - done)
                rows = [(done + n, 1, b"%032d" % (done + n), VALUE, None) for n in range(size)]
                db.execute(
                    INSERT + ",".join(["(?,?,?,?,?)"] * size), [v for row in rows for v in row]
                )
                done += size
            db.execute("commit")
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"steps_per_s": total / seconds, "cpu_s_per_1000": cpu / total * 1000}


def machine(folder: pathlib.Path, options: Options) -> Result:
    """How fast this machine is just now: a fixed piece of Python, and one sync of its disk."""
    loops = []
    for _ in range(options["probes"]):
        started, total = time.perf_counter(), 0
        for number in range(200_000):
            total += number & 7
        loops.append(time.perf_counter() - started)
    syncs = []
    with open(folder / "probe", "wb", buffering=0) as file:
        for _ in range(options["probes"]):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            syncs.append(time.perf_counter() - started)
            time.sleep(0.002)
    return {
        "python_ms": percentile(loops, 50) * 1e3,
        "python_worst_ms": percentile(loops, 99) * 1e3,
        "sync_ms": percentile(syncs, 50) * 1e3,
        "load": os.getloadavg()[0],
    }
