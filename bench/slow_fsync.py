"""A library that makes every sync of a file take longer: a slow disk, on any machine."""

import pathlib
import shutil
import subprocess

DELAY_MS = 5

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int syncs;
int bench_syncs(void) { return __atomic_load_n(&syncs, __ATOMIC_RELAXED); }

static int slowly(const char *name, int fd) {
    struct timespec delay = {0, DELAY_MS * 1000000L};
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    nanosleep(&delay, 0);
    __atomic_add_fetch(&syncs, 1, __ATOMIC_RELAXED);
    return sync(fd);
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
"""


def compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def build(folder: pathlib.Path) -> pathlib.Path:
    """The library for LD_PRELOAD, made in `folder`. Raises `subprocess.CalledProcessError`."""
    source, library = folder / "slow_fsync.c", folder / "slow_fsync.so"
    source.write_text(SOURCE)
    command = [compiler() or "gcc", "-shared", "-fPIC", "-O1", f"-DDELAY_MS={DELAY_MS}"]
    command += ["-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library
