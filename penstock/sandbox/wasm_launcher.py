"""The process of a script in WebAssembly: loads the compiled interpreter, gives it one folder and
its three streams, and runs it. Or compiles the interpreter, which takes seconds, for all runs.

Run as `python -I -S -B wasm_launcher.py ORDERS`, which is JSON. Nothing of Penstock can be imported
here; wasmtime is found by the orders. Whatever fails before the script runs is reported and ends
the process: there is no way on with less.
"""

import hashlib
import json
import os
import resource
import sys
import tempfile
import threading
import time

if False:  # for type checkers: an import costs time in every run
    from typing import Any

_FOLDER = "/scratch"
#: Of the compiled code's own stack. Python's recursion limit is met before.
_STACK_BYTES = 2**20
_LOOK_S = 0.05
#: For a script that is inside a call of the system when its time is over.
_LAST_S = 1.0
#: Of WASI.
_EPERM = 63
#: As a shell says of a process that ended by SIGABRT.
_TRAPPED = 134
_TOO_DEEP = b"""\
Most likely calls that nest through C code (sum, map, sorted, a generator in a generator): this
Python has room for some 50 levels of them. Plain functions have Python's usual limit.
"""

# In the interpreter that is WebAssembly. The key comes by stdin, which is the script's afterwards.
# What is to be reported is written beside the script, since no other pipe leads out.
_BEGIN = """
import _functools, encodings, os
# A call through C code takes 10 kB of the interpreter's stack of 512 kB. Of a memoised function
# that is every call, unless functools falls back on what it has in Python: that takes none.
del _functools._lru_cache_wrapper
# Its library is packed into it, and its code bears the names of the files that it was built from.
_STANDARD_LIBRARY = encodings.search_function.__code__.co_filename.removesuffix(
    "encodings/__init__.py"
)
def _take():
    size = b""
    while not size.endswith(b"\\n"):
        size += os.read(0, 1) or sys.exit(1)
    taken = b""
    while len(taken) < int(size):
        taken += os.read(0, int(size) - len(taken)) or sys.exit(1)
    return taken
def _main():
    os.chdir("/scratch")
    given = [_take()]
    with open("/scratch/script.py", "rb") as file:
        source = file.read()
    path, raises = "/scratch/script.py", []
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        # The report's file is made when the script has ended, by a function taken before.
        list(map(os.write, map(os.open, ["/scratch/.report"], [flags]), [b"%(word)b %(key)b" % {
            b"key": given.pop(), b"word": run_script(source, path, "/scratch", raises)
        }]))
    except (OSError, MemoryError):
        pass
    for error in raises:
        raise error
_main()
"""


def _engine(wasmtime: "Any") -> "Any":
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.max_wasm_stack = _STACK_BYTES
    # What the interpreter was not built with is not there to be misused.
    config.wasm_threads = False
    config.wasm_memory64 = False
    return wasmtime.Engine(config)


def _compile(orders: "dict[str, Any]", wasmtime: "Any") -> None:
    with open(orders["source"], "rb") as file:
        source = file.read()
    if hashlib.sha256(source).hexdigest() != orders["sha256"]:
        raise ValueError(f"{orders['source']} is not the interpreter that Penstock knows")
    compiled = wasmtime.Module(_engine(wasmtime), source).serialize()
    folder, name = os.path.split(orders["compiled"])
    number, new = tempfile.mkstemp(dir=folder, prefix=f".{name}.")  # for this user only
    try:
        with open(number, "wb") as file:
            file.write(compiled)
            file.flush()
            os.fsync(number)
        os.replace(new, orders["compiled"])
    except BaseException:
        os.unlink(new)
        raise


def _no_link(*_arguments: int) -> int:
    # Ways out of a folder that is open go by a symbolic link in it, most lately GHSA-m9f7-9w4p-gv38
    # on macOS. There is none at the start, and none can be made.
    return _EPERM


def _watch(engine: "Any", worker: int, seconds: float) -> None:
    """Ends the script when its time is over or the worker has gone, should nobody else do it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.getppid() != worker:
            os._exit(1)
        time.sleep(_LOOK_S)
    engine.increment_epoch()
    time.sleep(_LAST_S)
    os._exit(1)


def _run(orders: "dict[str, Any]", wasmtime: "Any") -> None:
    report = orders["report"]
    try:
        with open(os.path.join(os.path.dirname(__file__), "inside.py"), encoding="utf-8") as file:
            begin = file.read() + _BEGIN
        for limit, value in orders["rlimits"]:
            resource.setrlimit(limit, (value, value))
        engine = _engine(wasmtime)
        try:
            # By its number: it is the file that the worker has looked at, and no other.
            compiled = f"/dev/fd/{orders['compiled']}"
            module = wasmtime.Module.deserialize_file(engine, compiled)
        except wasmtime.WasmtimeError as error:
            os.write(report, f"stale {error}".encode()[:1000] + b"\n")
            raise SystemExit(1) from None
        os.close(orders["compiled"])
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        linker.allow_shadowing = True
        numbers = [wasmtime.ValType.i32()] * 5
        kind = wasmtime.FuncType(numbers, numbers[:1])
        linker.define_func("wasi_snapshot_preview1", "path_symlink", kind, _no_link)
        store = wasmtime.Store(engine)
        store.set_limits(memory_size=orders["memory"], instances=1, memories=1, tables=1)
        store.set_epoch_deadline(1)
        given = wasmtime.WasiConfig()
        given.argv = ["python", "-I", "-S", "-B", "-X", "utf8", "-c", begin]
        given.env = [("HOME", _FOLDER), ("TMPDIR", _FOLDER)]
        given.preopen_dir(orders["folder"], _FOLDER)
        given.inherit_stdin()
        given.inherit_stdout()
        given.inherit_stderr()
        store.set_wasi(given)
        start = linker.instantiate(store, module).exports(store)["_start"]
        watched = (engine, orders["worker"], orders["seconds"])
        threading.Thread(target=_watch, args=watched, daemon=True).start()
        os.write(report, b"ready\n")
    except Exception as error:
        os.write(report, f"refused {type(error).__name__}: {error}\n".encode()[:1000])
        raise SystemExit(1) from None
    code = 0
    try:
        start(store)
    except wasmtime.ExitTrap as left:
        code = left.code
    except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
        code = _TRAPPED
        if getattr(trap, "trap_code", None) == wasmtime.TrapCode.INTERRUPT:
            os.write(report, b"timeout\n")
        os.write(2, str(trap).strip().rpartition("\n")[2].strip().encode() + b"\n")
        if getattr(trap, "trap_code", None) == wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS:
            os.write(2, _TOO_DEEP)
    os._exit(code)


def _main() -> None:
    orders = json.loads(sys.argv[1])
    sys.path.append(orders["packages"])
    import wasmtime

    if "source" in orders:
        _compile(orders, wasmtime)
    else:
        _run(orders, wasmtime)


if __name__ == "__main__":
    _main()
