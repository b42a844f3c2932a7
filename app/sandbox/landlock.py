"""What a script may open, as rules for the kernel's Landlock.

It may read the standard library, file by file so that installed packages beside it stay closed, and
change what is in its own scratch folder. The structures are those of <linux/landlock.h>.
"""

import ctypes
import functools
import os
import pathlib
import struct
import subprocess
import sys
import sysconfig

from app.errors import SandboxUnavailable

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

#: Brings in every extension module that can be, and names the libraries which that took.
_LIBRARIES = """\
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException:
        pass
for line in open("/proc/self/maps"):
    if "/" in line:
        print(line.split(None, 5)[5].strip())
"""
_LIBRARIES_LIMIT_S = 30.0

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
    """Blocks for about 0.1 s, the first time."""
    rules = [*((path, READ_FILE) for path in _library_files()), *_standard_library()]
    for path in _SYSTEM:
        if os.path.exists(path):
            rules.append((path, _READ if os.path.isdir(path) else READ_FILE))
    rules.append(("/dev/null", (READ_FILE | WRITE_FILE | TRUNCATE) & _known(version)))
    return rules


def _known(version: int) -> int:
    return (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1


@functools.cache
def _standard_library() -> tuple[Rule, ...]:
    rules: dict[str, int] = {}
    for folder in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}):
        if not os.path.isdir(folder):
            continue
        # Names only: importing lists a folder before it opens a file.
        rules[folder] = READ_DIR
        for entry in os.scandir(folder):
            if entry.is_dir():
                if entry.name not in _NOT_STANDARD:
                    rules[entry.path] = _READ
            else:
                rules[entry.path] = READ_FILE
    return tuple(rules.items())


@functools.cache
def _library_files() -> tuple[str, ...]:
    """The shared libraries that extension modules of the standard library are linked with."""
    suffixes = tuple(f".{name}" for name in ("so", "abi3.so"))
    folder = pathlib.Path(sysconfig.get_path("platstdlib"), "lib-dynload")
    names = sorted(
        {file.name.split(".")[0] for file in folder.glob("*") if file.suffix in suffixes}
    )
    try:
        printed = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", _LIBRARIES, *names],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIBRARIES_LIMIT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise SandboxUnavailable(f"The sandbox cannot start {sys.executable}: {exc}") from exc
    own = sysconfig.get_path("stdlib") + os.sep
    paths = {line for line in printed.splitlines() if not line.startswith(own)}
    return tuple(sorted(path for path in paths if os.path.isfile(path)))
