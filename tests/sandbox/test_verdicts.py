"""Verdicts: what passes, and what a script cannot make pass."""

import asyncio

import pytest

from penstock.sandbox import Outcome, Verdict, run_code, verdict


def outcome(stdout="", **rest):
    return Outcome(
        **{"exit_code": 0, "stderr": "", "seconds": 1.0, "finished": True, **rest}, stdout=stdout
    )


def test_the_expected_output_passes_up_to_white_space_at_its_end():
    assert verdict(outcome("7\n\n"), "7") == Verdict("PASS")
    assert verdict(outcome("7"), "7\n") == Verdict("PASS")
    assert verdict(outcome(""), "") == Verdict("PASS")


@pytest.mark.parametrize("stdout", ["", "8\n", " 7", "7\n7\n", "PASS"])
def test_other_output_fails_and_says_both(stdout):
    found = verdict(outcome(stdout), "7\n")
    assert (found.result, found.cause) == ("FAIL", "output differs")
    assert found.detail == f"expected '7', found {stdout.rstrip()!r}"


def test_long_outputs_are_not_quoted_whole():
    assert len(verdict(outcome("x" * 10_000), "y" * 10_000).detail) < 500


def test_an_exit_code_fails_even_with_the_expected_output():
    found = verdict(outcome("7", exit_code=3, stderr="Traceback\nValueError: no\n"), "7")
    assert found == Verdict("FAIL", "exit code", "3: ValueError: no")


@pytest.mark.parametrize("limit", ["timeout", "memory", "output", "disk"])
@pytest.mark.parametrize("exit_code", [None, 0])
def test_a_limit_fails_even_with_the_expected_output(limit, exit_code):
    found = verdict(outcome("7", exit_code=exit_code, limit=limit), "7")
    assert (found.result, found.cause) == ("FAIL", limit)


#: Without an expected output these are no passes: the last line was not come to.
EARLY = {
    "leaves at once": """
print('PASS')
os._exit(0)
""",
    "leaves quietly": """
sys.exit(0)
""",
    "leaves by exit()": """
exit()
""",
    "leaves from a thread": """
thread = threading.Thread(target=os._exit, args=[0])
thread.start()
thread.join()
""",
    "leaves in an exception": """
try:
    1 / 0
except ZeroDivisionError:
    os._exit(0)
""",
    "leaves by an exit handler": """
atexit.register(os._exit, 0)
""",
    "leaves by the hook for errors": """
sys.excepthook = lambda *_: os._exit(0)
""",
    "leaves while its error is shown": """
class Out:
    def __getattr__(self, name):
        os._exit(0)
sys.stderr = Out()
""",
    "writes a report of its own": """
for number in range(3, 64):
    with contextlib.suppress(OSError):
        os.write(number, b"end\\n")
os._exit(0)
""",
    "says that it was refused": """
for number in range(3, 64):
    with contextlib.suppress(OSError):
        os.write(number, b"refused\\n")
os._exit(0)
""",
    "writes what it finds in its callers": """
frame = sys._getframe()
while frame:
    for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
        for key in value.values() if isinstance(value, dict) else [value]:
            if isinstance(key, bytes) and len(key) == 32:
                os.write(int(sys.orig_argv[-1]), b"end " + key + b"\\n")
    frame = frame.f_back
os._exit(0)
""",
}
#: Attacks on whoever reports how the script came to its end.
FORGED = {
    "replaces what writes": """
import os
write = os.write
def forge(file, data):
    if b" " in data and len(data) > 30:
        write(file, b"end " + data.split(b" ", 1)[1])
        os._exit(0)
    return write(file, data)
os.write = forge
""",
    "replaces it in every module": """
import os, sys
write = os.write
def forge(file, data):
    return write(file, b"end " + data.split(b" ", 1)[-1])
around = [sys._getframe(1).f_globals, sys._getframe(2).f_globals]
for module in [*sys.modules.values(), *around]:
    names = module if isinstance(module, dict) else vars(module)
    for name, value in list(names.items()):
        if value is write or name in ("_report", "run_script"):
            names[name] = forge
""",
    "replaces the code of the functions around it": """
import sys
def end(*_): return b"end"
def end4(source, path, folder, raises): return b"end"
frame = sys._getframe(1)
while frame:
    for value in frame.f_globals.values():
        for code in (end.__code__, end4.__code__):
            try: value.__code__ = code
            except (AttributeError, ValueError): pass
    frame = frame.f_back
""",
}
_IMPORTS = "import atexit, contextlib, os, sys, threading\n"


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", EARLY)
def test_exit_code_0_before_the_end_of_the_script_is_no_pass(name):
    found = asyncio.run(run_code(_IMPORTS + EARLY[name] + "assert False\n"))
    assert (found.exit_code, found.finished) == (0, False), found
    assert verdict(found, None).cause == "unfinished"


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", FORGED)
def test_a_script_that_fails_cannot_report_that_it_reached_its_end(name):
    failing = FORGED[name] + "\nassert 1 + 1 == 3, 'its test fails'\n"
    found = asyncio.run(run_code(failing))
    assert not found.finished and verdict(found, None).result == "FAIL", found


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "code",
    [
        "def add(a, b): raise SystemExit(0)\nassert add(1, 2) == 3",
        "import os; os.closerange(3, 64)",
    ],
    ids=["in the function that it tests", "without its report"],
)
def test_a_last_statement_that_does_not_end_is_no_pass(code):
    found = asyncio.run(run_code(code))
    assert verdict(found, None).cause == "unfinished"


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "code",
    [
        "",
        "# only a comment",
        "x = 1",
        "import sys\ndef main(): return 0\nsys.exit(main())",
        "import sys\nif __name__ == '__main__':\n    sys.exit()",
        "exit()",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): pass\nunittest.main()",
        "import atexit; atexit.register(print, 'bye')",
    ],
)
def test_exit_code_0_at_the_end_of_the_script_is_a_pass(code):
    found = asyncio.run(run_code(code))
    assert verdict(found, None) == Verdict("PASS"), found


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "code",
    [
        "import atexit, os; atexit.register(os._exit, 3)",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): exit(0)\n"
        "unittest.main()",
        "import sys; sys.exit('no')",
        "assert False",
    ],
)
def test_a_failure_at_the_end_is_a_failure(code):
    assert verdict(asyncio.run(run_code(code)), None).cause == "exit code"
