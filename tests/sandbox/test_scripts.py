"""Normal scripts run in the sandbox as they do outside."""

import asyncio

import pytest

from penstock.sandbox import Limits, run_code, verdict
from tests.sandbox.plain import run_plainly

pytestmark = pytest.mark.usefixtures("native")

#: By what they use. Each prints the same in a plain subprocess.
SCRIPTS = {
    "its input": """
numbers = [int(line) for line in iter(input, "")]
print(sum(numbers))
""",
    "its input by its number": """
print(open(0).readline(), end="")
print(open("/dev/null").read() == "")
print("to nowhere", file=open("/dev/null", "w"))
""",
    "asyncio": """
import asyncio
async def work(number):
    await asyncio.sleep(0.001)
    return await asyncio.to_thread(lambda: number * 2)
async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon_threadsafe(print, "woken")
    async with asyncio.timeout(5):
        print(await asyncio.gather(*map(work, range(5))))
asyncio.run(main())
""",
    "threads": """
import concurrent.futures, queue, threading
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    barrier = threading.Barrier(32)
    print(sorted(pool.map(lambda number: (barrier.wait(), number)[1], range(32))))
""",
    "temporary files": """
import pathlib, tempfile
with tempfile.TemporaryFile("w+") as file:
    file.write("text"); file.seek(0); print(file.read())
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x" * 10000); file.flush(); print(pathlib.Path(file.name).stat().st_size)
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "a", "b").mkdir(parents=True)
    print(sorted(p.name for p in pathlib.Path(folder).rglob("*")))
with tempfile.SpooledTemporaryFile(10) as file:
    file.write(b"x" * 100); file.seek(0); print(len(file.read()))
""",
    "files": """
import os, pathlib, shutil
pathlib.Path("a").write_text("one\\n")
shutil.copy2("a", "b"); shutil.move("b", "c"); os.symlink("c", "d"); os.link("c", "e")
os.chmod("c", 0o600); os.utime("c"); os.truncate("c", 2)
shutil.copytree(".", "/".join([os.environ["TMPDIR"], "t"]), ignore=lambda folder, names: ["t"])
print(open("d").read(), os.path.islink("d"), sorted(set(os.listdir()) - {"script.py"}))
shutil.make_archive("z", "zip", "t"); shutil.rmtree("t"); print(os.path.exists("z.zip"))
print(pathlib.Path.cwd() == pathlib.Path(__file__).resolve().parent,
    shutil.disk_usage(".").total > 0)
""",
    "dataclasses and pickle": """
import copy, dataclasses, pickle
@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: int = 0
print(pickle.loads(pickle.dumps(Point(1, 2))),
    sorted([Point(2), Point(1)]), copy.deepcopy(Point(3)))
""",
    "enum, typing and inspect": """
import enum, inspect, typing
class Colour(enum.Enum):
    RED = "red"
def f(a: int, *, b: typing.Optional[str] = None) -> Colour: return Colour.RED
print(inspect.signature(f), inspect.getsource(f).strip(), typing.get_type_hints(f))
""",
    "unittest": """
import unittest
class Tests(unittest.TestCase):
    def test_one(self):
        self.assertEqual(1 + 1, 2)
unittest.main()
""",
    "doctest": '''
import doctest
def double(x):
    """
    >>> double(2)
    4
    """
    return x * 2
print(doctest.testmod())
''',
    "decimal, fractions and statistics": """
import decimal, fractions, math, statistics
decimal.getcontext().prec = 40
print(decimal.Decimal(2).sqrt(), fractions.Fraction(3, 7),
    statistics.median([1, 2, 9]), math.comb(40, 20))
""",
    "csv and json": """
import csv, io, json, sys
rows = list(csv.DictReader(io.StringIO("a,b\\n1,2\\n3,4\\n")))
json.dump(rows, sys.stdout); csv.writer(sys.stdout).writerow(["x", "y,z"])
""",
    "sqlite3": """
import sqlite3
for path in (":memory:", "file.db"):
    base = sqlite3.connect(path)
    base.execute("create table t (a, b)")
    base.executemany("insert into t values (?, ?)", [(1, "x"), (2, "y")])
    base.commit(); print(base.execute("select sum(a), max(b) from t").fetchall()); base.close()
""",
    "dates and time zones": """
import datetime, time, zoneinfo
moment = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.timezone.utc)
print(moment.isoformat(), moment.strftime("%A %d %B")); time.sleep(0.001)
print(time.localtime(0).tm_year >= 1969)
try:
    print(moment.astimezone(zoneinfo.ZoneInfo("Europe/Rome")))
except zoneinfo.ZoneInfoNotFoundError:
    print("none here")
""",
    "packing and hashing": """
import base64, bz2, gzip, hashlib, hmac, lzma, secrets, struct, uuid, zlib
data = b"text" * 1000
print([len(one.decompress(one.compress(data))) for one in (bz2, gzip, lzma, zlib)],
    hashlib.sha256(data).hexdigest())
print(hashlib.scrypt(b"a", salt=b"b", n=2, r=1, p=1).hex()[:8],
    len(secrets.token_hex(4)), uuid.UUID(int=1), struct.pack(">I", 1))
""",
    "text": """
import difflib, re, string, textwrap, unicodedata
print(re.sub(r"(\\w+)", lambda m: m[1].title(), "la volpe è qui"),
    unicodedata.name("é"), textwrap.shorten("a b c d e", 5))
print(difflib.get_close_matches("appel", ["apple", "peach"]),
    string.Template("$a").substitute(a="ü€🙂"))
""",
    "modules and mimetypes": """
import heapq, itertools, collections, functools, operator, random, mimetypes
import xml.etree.ElementTree as tree
random.seed(1)
print(random.sample(range(100), 5), mimetypes.guess_type("a.html"),
    tree.fromstring("<a><b/></a>")[0].tag)
print(heapq.nsmallest(2, [3, 1, 2]), functools.reduce(operator.mul, range(1, 6)),
    collections.Counter("aab").most_common(1))
""",
    "a module of its own": """
import importlib, pathlib
pathlib.Path("mine.py").write_text("value = 42")
importlib.invalidate_caches()
import mine
print(mine.value, __name__, __file__.endswith("script.py"))
""",
    "signals of its own": """
import os, signal
signal.signal(signal.SIGUSR1, lambda number, frame: print("signal", number))
os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.001); signal.pause()
""",
    "pipes and waiting": """
import os, select, selectors, socket
reading, writing = os.pipe()
one, other = socket.socketpair(); one.sendall(b"hello"); os.write(writing, b"x")
print(select.select([reading, other], [], [], 5)[0] == [reading, other], other.recv(10))
with selectors.DefaultSelector() as selector:
    selector.register(reading, selectors.EVENT_READ); print(len(selector.select(5)))
""",
    "logging and argparse": """
import argparse, logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
logging.warning("careful %d", 1)
print(argparse.ArgumentParser(prog="p").parse_args([]))
""",
    "exit handlers": """
import atexit, threading, time
atexit.register(print, "bye")
threading.Thread(target=lambda: (time.sleep(0.01), print("thread"))).start()
print("end")
""",
    "deep recursion": """
import sys
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
print(depth(900))
try: depth(10**6)
except RecursionError: print("too deep")
""",
    "platform and os": """
import os, platform, sys
print(platform.system(), os.cpu_count(), sys.version_info[:2],
    len(os.urandom(4)), os.getpid() > 0, os.getcwd() == os.environ["HOME"])
print(platform.platform() != "", len(sys.argv))
""",
}


#: Those that the tier `wasm` cannot run, by the end of what they say. docs/sandbox.md has it in
#: words.
NOT_IN_WASM = {
    "its input by its number": "No such file or directory: '/dev/null'",
    "asyncio": "'_UnixSelectorEventLoop' object has no attribute '_ssock'",
    "threads": "No module named 'concurrent.futures.thread'",
    "files": "Operation not permitted: 'c' -> 'd'",
    "packing and hashing": "No module named '_lzma'",
    "signals of its own": "module 'os' has no attribute 'kill'",
    "pipes and waiting": "module 'os' has no attribute 'pipe'",
    "exit handlers": "can't start new thread",
}
#: Those that it runs and that print something else there: another platform, and no time zones.
OTHERWISE_IN_WASM = ("platform and os", "dates and time zones")
TIERS_AND_SCRIPTS = [("native", name) for name in SCRIPTS] + [
    ("wasm", name) for name in SCRIPTS if name not in NOT_IN_WASM and name not in OTHERWISE_IN_WASM
]


def in_sandbox(code, stdin="", tier="native"):
    return asyncio.run(run_code(code, stdin, Limits(seconds=30), tier))


@pytest.mark.parametrize(("tier", "name"), TIERS_AND_SCRIPTS)
def test_a_normal_script_prints_what_it_prints_outside(tier, name, request):
    request.getfixturevalue(tier)
    code, stdin = SCRIPTS[name], "1\n2\n39\n\n"
    plain = asyncio.run(run_plainly(code, stdin, Limits(seconds=30)))
    inside = in_sandbox(code, stdin, tier)
    assert plain.exit_code == 0, plain
    assert (inside.exit_code, inside.stdout) == (0, plain.stdout), inside
    assert verdict(inside, None).result == "PASS"
    assert verdict(inside, plain.stdout).result == "PASS"


def test_what_wasm_cannot_run_fails_and_says_why(wasm):
    async def run():
        scripts = [SCRIPTS[name] for name in NOT_IN_WASM]
        return await asyncio.gather(*(run_code(code, tier="wasm") for code in scripts))

    for name, outcome in zip(NOT_IN_WASM, asyncio.run(run()), strict=True):
        said = outcome.stderr.replace(" Did you mean: 'popen'?", "").rstrip(".\n ")
        assert (outcome.exit_code, outcome.finished) == (1, False), name
        assert NOT_IN_WASM[name] in said.rpartition("\n")[2], outcome


def test_an_error_is_shown_as_python_shows_it(tier):
    code = "def f():\n    return 1 / 0\n\nf()\n"
    outcome = in_sandbox(code, tier=tier)
    assert outcome.exit_code == 1
    lines = outcome.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('script.py", line 4, in <module>')
    assert lines[2].strip() == "f()"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_mistake_in_the_text_is_shown_with_its_line(tier):
    outcome = in_sandbox("x = 1\nx = = 2\n", tier=tier)
    assert outcome.exit_code == 1
    assert 'script.py", line 2' in outcome.stderr and "SyntaxError" in outcome.stderr


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("exit(3)", 3, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("import os; os._exit(9)", 9, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
        ("import os; os.abort()", -6, ""),
        ("", 0, ""),
    ],
)
def test_it_ends_with_the_exit_code_that_it_would_have_outside(code, exit_code, stderr):
    outcome = in_sandbox(code)
    assert (outcome.exit_code, outcome.stderr) == (exit_code, stderr)


def test_output_that_is_not_utf8_is_replaced(tier):
    outcome = in_sandbox("import os; os.write(1, b'a\\xff\\n'); os.write(2, b'\\xfe')", tier=tier)
    assert (outcome.stdout, outcome.stderr) == ("a�\n", "�")


def test_text_that_is_no_text_is_a_mistake_of_the_script():
    assert in_sandbox("print('\ud800')").exit_code == 1
    assert in_sandbox("print('a\0b')").exit_code == 1


def test_an_input_larger_than_a_pipe_arrives_whole(tier):
    text = "ü" * 500_000
    outcome = in_sandbox("import sys; print(len(sys.stdin.read()))", text, tier)
    assert outcome.stdout == "500000\n"


def test_an_input_that_nobody_reads_is_no_error(tier):
    assert in_sandbox("print('done')", "x" * 1_000_000, tier).stdout == "done\n"


def test_many_run_at_once_and_each_has_a_folder_of_its_own(tier):
    async def run() -> None:
        code = "n = input(); open('n', 'x').write(n); print(open('n').read())"
        outcomes = await asyncio.gather(*(run_code(code, str(n), tier=tier) for n in range(9)))
        assert [outcome.stdout for outcome in outcomes] == [f"{n}\n" for n in range(9)]

    asyncio.run(run())


def test_the_event_loop_goes_on_meanwhile():
    async def run() -> int:
        ticks = 0
        script = asyncio.create_task(run_code("input(); print('read')", "x" * 10_000_000))
        sleeper = asyncio.create_task(run_code("import time; time.sleep(0.2)"))
        while not (script.done() and sleeper.done()):
            ticks += 1
            await asyncio.sleep(0.005)
        return ticks

    assert asyncio.run(run()) > 10
