"""The command `sandbox`: one file, run as the mesh would."""

import base64
import json
import pathlib

import pytest

from tests.programs import environment, penstock

SUM = "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n"


@pytest.fixture
def write(tmp_path: pathlib.Path):
    def write_(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_


@pytest.mark.parametrize(("expected", "code", "result"), [("7\n", 0, "PASS"), ("8\n", 1, "FAIL")])
def test_a_file_is_run_with_its_input_and_judged_by_its_output(
    expected: str, code: int, result: str, write, tmp_path: pathlib.Path
) -> None:
    asked = ["sandbox", write("sum.py", SUM), "--stdin", write("in", "3 4")]
    asked += ["--expected", write("out", expected)]
    shown = penstock(*asked, env=environment(tmp_path))
    assert (shown.returncode, shown.stdout) == (code, "7\n")
    assert shown.stderr.startswith(result)
    report = json.loads(penstock(*asked, "--json", env=environment(tmp_path)).stdout)
    assert (report["result"], report["stdout"], report["exit_code"]) == (result, "7\n", 0)


def test_a_script_that_only_says_that_it_passed_did_not(write, tmp_path: pathlib.Path) -> None:
    file = write("fake.py", "import os\nprint('PASS', flush=True)\nos._exit(0)\n")
    shown = penstock("sandbox", file, env=environment(tmp_path))
    assert shown.returncode == 1
    assert "FAIL: unfinished" in shown.stderr


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: pathlib.Path) -> None:
    shown = penstock("sandbox", "nowhere.py", env=environment(tmp_path))
    assert shown.returncode == 1
    assert shown.stderr.startswith("Error: nowhere.py cannot be read")


@pytest.mark.parametrize("tier", ["native", "wasm"])
@pytest.mark.parametrize(
    ("printed", "stdout", "coded"),
    [
        (
            "b'\\x1b[2J\\0\\r\\n ' + '\u202e\u200d\x85\ue000\u2028é🐸'.encode()",
            "\x1b[2J\0\r\n \u202e\u200d\x85\ue000\u2028é🐸",
            None,
        ),
        ("b'a\\xff\\xfe'", "a\ufffd\ufffd", b"a\xff\xfe"),
    ],
)
def test_what_a_script_printed_is_reported_byte_by_byte(
    printed: str, stdout: str, coded: bytes | None, tier: str, write, tmp_path: pathlib.Path
) -> None:
    file = write("raw.py", f"import os\nos.write(1, {printed})\n")
    env = environment(tmp_path, PENSTOCK_SANDBOX=tier)
    report = json.loads(penstock("sandbox", file, "--json", env=env).stdout)
    assert report["stdout"] == stdout
    found = report["stdout_base64"]
    assert found is None if coded is None else base64.b64decode(found) == coded
