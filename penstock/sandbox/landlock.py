"""What a script may open, as rules for the kernel's Landlock.

It may read the standard library, file by file so that installed packages beside it stay closed, and
change what is in its own scratch folder. The structures are those of <linux/landlock.h>.
"""

import ctypes
import functools
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence

from penstock.errors import SandboxUnavailable

#: The system call, on every architecture.
CREATE_RULESET = 444
#: Before it a file could not be moved from one folder to another, not even in the scratch folder.
OLDEST_ABI = 2

# LANDLOCK_ACCESS_FS_*
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
MAKE_LINK, REFER, TRUNCATE = 1 << 12, 1 << 13, 1 << 14
#: How many of them the kernel knows, by ABI.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ = READ_FILE | READ_DIR
_CHANGE = _READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | MAKE_LINK | REFER

#: Read by the standard library when they are there: time zones, types of files, names of locales,
#: and where the linker finds what an extension module needs.
_SYSTEM = (
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/mime.types",
    "/usr/lib/locale",
    "/etc/ld.so.cache",
    "/dev/urandom",
)
#: Folders of the standard library's folder that are not the standard library.
_NOT_STANDARD = {"site-packages", "dist-packages"}

#: Says where the standard library is, which of its modules are machine code, and with which shared
#: libraries they are linked: it brings in all that can be, and looks at what is mapped then. Not
#: those that are for terminals, windows, the network's users and Python's own tests: nothing in a
#: sandbox needs them, and loading them takes half of the time that all take.
_SURVEY = """\
import importlib.machinery, json, os, sys
needless = ("_curses", "readline", "_tkinter", "nis", "_test", "_ctypes_test", "_xx", "xx")
folders = [folder for folder in sys.path if os.path.isdir(folder)]
for folder in folders:
    for name in os.listdir(folder):
        is_module = name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
        if is_module and not name.startswith(needless):
            try:
                importlib.import_module(name.partition(".")[0])
            except BaseException:
                pass
maps = [line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line]
json.dump([folders, sorted(set(maps))], sys.stdout)
"""
_SURVEY_LIMIT_S = 30.0

Rule = tuple[str, int]


def abi() -> int:
    """The version of the kernel's Landlock; 0 when it has none or it is switched off."""
    version = int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    return max(version, 0)


def ruleset(version: int) -> bytes:
    """All that Landlock can govern, as `struct landlock_ruleset_attr`.

    A kernel whose ABI is newer than those known here governs what the newest known one does.
    """
    rights = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    fields = [rights]
    if version >= 4:
        fields.append(0b11)  # bind and connect of TCP
    if version >= 6:
        fields.append(0b11)  # abstract sockets and signals stay inside
    return struct.pack(f"={len(fields)}Q", *fields)


def scratch_rule(folder: str, version: int) -> Rule:
    return folder, (_CHANGE | TRUNCATE) & _known(version)


def read_rules(version: int) -> list[Rule]:
    """Blocks for about 0.2 s, the first time."""
    folders, libraries, _ = _survey()
    rules = [*_standard_library(folders), *((path, READ_FILE) for path in libraries)]
    for path in _SYSTEM:
        if os.path.exists(path):
            rules.append((path, _READ if os.path.isdir(path) else READ_FILE))
    rules.append(("/dev/null", (READ_FILE | WRITE_FILE | TRUNCATE) & _known(version)))
    return rules


def _known(version: int) -> int:
    return (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1


def _standard_library(folders: Sequence[str]) -> Iterator[Rule]:
    for folder in folders:
        # Names only: importing lists a folder before it opens a file.
        yield folder, READ_DIR
        for entry in os.scandir(folder):
            if not entry.is_dir():
                yield entry.path, READ_FILE
            elif entry.name not in _NOT_STANDARD:
                yield entry.path, _READ


def modules() -> tuple[str, ...]:
    """The files of the standard library that are machine code."""
    return _survey()[2]


@functools.cache
def _survey() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The folders of the standard library, the shared libraries that it needs, and its modules that
    are machine code."""
    try:
        printed = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", _SURVEY],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SURVEY_LIMIT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise SandboxUnavailable(f"The sandbox cannot start {sys.executable}: {exc}") from exc
    folders, mapped = json.loads(printed)
    own = tuple(folder + os.sep for folder in folders)
    files = (path for path in mapped if not path.startswith(own) and os.path.isfile(path))
    return tuple(folders), tuple(files), tuple(path for path in mapped if path.startswith(own))
