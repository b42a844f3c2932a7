"""Each limit ends a script, and whatever ends it leaves nothing."""

import asyncio
import os
import pathlib
import resource

import pytest

from penstock.sandbox import Limits, landlock, run_code
from tests.programs import wait_until

pytestmark = pytest.mark.usefixtures("native")


def run(code, stdin="", tier="native", **limits):
    return asyncio.run(run_code(code, stdin, Limits(**{"seconds": 30.0, **limits}), tier))


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import threading, time\nfor _ in range(5): threading.Thread(target=time.sleep, args=[60])"
        ".start()",
        "import sys; sys.stdin.close(); sys.stdout.close(); sys.stderr.close()\n"
        "import os; os.closerange(0, 64)\nimport time; time.sleep(60)",
    ],
    ids=["busy", "asleep", "deaf to signals", "stopped", "waits for threads", "closed everything"],
)
def test_a_script_that_does_not_end_is_ended(code, tier):
    if tier == "wasm" and any(word in code for word in ("signal", "threading")):
        pytest.skip("it has no signals to other processes and no threads")
    outcome = run(code, tier=tier, seconds=0.3)
    assert (outcome.limit, outcome.exit_code) == ("timeout", None)
    assert 0.3 <= outcome.seconds < 10


def test_what_it_wrote_before_is_kept(tier):
    outcome = run("print('first', flush=True)\nwhile True: pass", tier=tier, seconds=2.0)
    assert (outcome.limit, outcome.stdout) == ("timeout", "first\n")


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(2**30)",
        "x = []\nwhile True: x.append('x' * 1_000_000 + str(len(x)))",
        "import mmap; [mmap.mmap(-1, 2**28) for _ in range(8)]\nraise MemoryError",
    ],
    ids=["at once", "by and by", "mapped"],
)
def test_a_script_that_takes_too_much_memory_fails(code, tier):
    if tier == "wasm" and "mmap" in code:
        pytest.skip("it has no mmap")
    outcome = run(code, tier=tier, memory_mb=256)
    if "mmap" in code:
        assert outcome.exit_code == 1 and "OSError" in outcome.stderr
    else:
        assert (outcome.limit, outcome.exit_code) == ("memory", None)


def test_a_script_can_go_on_after_it_was_refused_memory(tier):
    code = "try: bytearray(2**30)\nexcept MemoryError: print('less then')"
    outcome = run(code, tier=tier, memory_mb=256)
    assert (outcome.limit, outcome.exit_code, outcome.stdout) == (None, 0, "less then\n")


def test_a_script_that_starts_threads_without_end_is_ended():
    # Small stacks, so that it is not the address space that ends it.
    code = """
import threading, time
threading.stack_size(32768)
while True:
    try:
        threading.Thread(target=time.sleep, args=[60], daemon=True).start()
    except RuntimeError:
        time.sleep(0.01)
"""
    assert run(code).limit == "memory"


@pytest.mark.parametrize("output", ["1", "2"])
def test_output_is_kept_up_to_the_limit_and_the_script_ended(output, tier):
    code = f"import os\nwhile True: os.write({output}, b'x' * 1000)"
    outcome = run(code, tier=tier, output_bytes=5000)
    assert (outcome.limit, outcome.exit_code) == ("output", None)
    assert len(outcome.stdout + outcome.stderr) == 5000


def test_output_of_just_the_limit_is_no_failure(tier):
    assert run("print('x' * 99)", tier=tier, output_bytes=100).limit is None
    assert run("print('x' * 100)", tier=tier, output_bytes=100).limit == "output"


@pytest.mark.parametrize(
    "code",
    [
        "with open('f', 'wb') as file:\n    while True: file.write(b'x' * 100_000)",
        "import itertools\nfor n in itertools.count(): open(f'f{n}', 'wb').write(b'x' * 100_000)",
        "import itertools\nfor n in itertools.count(): open(f'f{n}', 'wb').close()",
        "import os\nwhile True: os.mkdir('d'); os.chdir('d')",
        "import os\nwhile True: os.mkdir('d', 0); os.rename('d', 'e'); break\nos.mkdir('e/f')"
        "\nwhile True: pass",
    ],
    ids=["one file", "many files", "empty files", "folders in folders", "closed folders"],
)
def test_a_script_that_fills_the_disk_is_ended(code, tier):
    if tier == "wasm" and "rename" in code:
        pytest.skip("its folders have no mode")
    outcome = run(code, tier=tier, disk_mb=2, seconds=3.0 if "0)" in code else 30.0)
    if "rename" in code:
        # A folder that nobody may look into, not even its maker unless that is root.
        assert outcome.limit in ("disk", "timeout") or outcome.exit_code == 1
    else:
        assert (outcome.limit, outcome.exit_code) == ("disk", None), outcome


def test_one_file_never_grows_beyond_the_limit(tier):
    code = """
file = open("f", "wb")
try:
    while True: file.write(b"x" * 65536); file.flush()
except OSError as error:
    print(os.strerror(error.errno), file.tell())
"""
    outcome = run(f"import os\n{code}", tier=tier, disk_mb=1)
    assert outcome.limit == "disk"
    assert outcome.stdout in ("", f"File too large {2**20}\n")


def test_room_that_is_given_back_does_not_count(tier):
    code = (
        "import os\nfor n in range(8):\n    open('f', 'wb').write(b'x' * 500_000); os.unlink('f')"
    )
    assert run(code, tier=tier, disk_mb=1).exit_code == 0


@pytest.mark.parametrize("access", ["ACCESS_READ", "ACCESS_WRITE", "ACCESS_COPY"])
def test_a_file_without_a_name_keeps_its_room_only_while_it_is_open(access):
    code = f"""
import errno, mmap, os
held = []
for n in range(100):
    with open("f", "w+b") as file:
        os.unlink("f")
        os.posix_fallocate(file.fileno(), 0, 2**20)
        try:
            held.append(mmap.mmap(file.fileno(), 4096, access=mmap.{access}))
        except OSError as error:
            assert error.errno == errno.ENOSYS
print(len(held), len(mmap.mmap(-1, 4096)))
"""
    outcome = run(code, disk_mb=1)
    assert (outcome.stdout, outcome.stderr) == ("0 4096\n", "")


def test_what_python_has_as_machine_code_is_there_without_mapping_a_file():
    names = sorted({pathlib.Path(file).name.partition(".")[0] for file in landlock.modules()})
    assert {"_json", "_sqlite3", "_hashlib", "_ctypes"} <= set(names)
    code = f"""
import importlib, locale, sqlite3
for name in {names}:
    importlib.import_module(name)
locale.setlocale(locale.LC_ALL, "C.UTF-8")
with sqlite3.connect("x.db") as db:
    db.execute("create table t (a)")
    print(db.execute("insert into t values (1)").rowcount)
"""
    outcome = run(code)
    assert (outcome.stdout, outcome.stderr) == ("1\n", "")


def test_a_folder_tree_deeper_than_any_path_is_removed():
    # What is left is looked for after every test.
    code = "import os\nfor n in range(3000): os.mkdir('d'); os.chdir('d')"
    assert run(code, disk_mb=64).limit in (None, "disk")


def test_limits_that_no_run_can_have_are_refused():
    for wrong in ({"seconds": 0}, {"memory_mb": 10}, {"disk_mb": 0}, {"output_bytes": -1}):
        with pytest.raises(ValueError, match=str(next(iter(wrong)))):
            Limits(**wrong)


def test_a_cancelled_run_is_killed_and_leaves_nothing(tier):
    async def cancel() -> None:
        others = set(scripts())  # servers of other tests
        task = asyncio.create_task(run_code("while True: pass", "", Limits(seconds=60), tier))
        while not (pids := set(scripts()) - others):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)

    asyncio.run(cancel())


@pytest.mark.parametrize(
    ("tier", "iterations"),
    [("native", iterations) for iterations in range(0, 60, 3)]
    + [("wasm", iterations) for iterations in range(3, 48, 12)],
)
def test_a_run_can_be_cancelled_at_any_moment(tier, iterations, request):
    request.getfixturevalue(tier)

    # Iterations of the event loop, not time. What is left is looked for after every test.
    async def cancel() -> None:
        task = asyncio.create_task(run_code("print('x')", "y" * 100_000, tier=tier))
        for _ in range(iterations):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancel())


def test_a_script_dies_with_its_worker(tmp_path, tier):
    # What it leaves is in the worker's own folder for temporary files.
    code = """
import asyncio, sys, tempfile
tempfile.tempdir = sys.argv[1]
from penstock.sandbox import run_code
code = "import os; os.mkdir('running'); input()\\nwhile True: pass"
asyncio.run(run_code(code, "x", tier=sys.argv[2]))
"""
    import subprocess
    import sys

    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), tier])
    wait_until(lambda: list(tmp_path.glob("*/running")), "the script")
    (script,) = scripts(worker.pid)
    worker.kill()
    worker.wait()
    wait_until(lambda: not is_running(script), "the script's end")


def scripts(parent: int | None = None) -> list[int]:
    tasks = pathlib.Path(f"/proc/{parent or os.getpid()}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return " Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_the_workers_own_limits_stay_as_they_are():
    before = resource.getrlimit(resource.RLIMIT_AS)
    run("pass")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
