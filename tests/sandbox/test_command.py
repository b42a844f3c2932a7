"""The command `sandbox`: one file, run as the mesh would."""

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
    told = json.loads(penstock(*asked, "--json", env=environment(tmp_path)).stdout)
    assert (told["result"], told["stdout"], told["exit_code"]) == (result, "7\n", 0)


def test_a_script_that_only_says_that_it_passed_did_not(write, tmp_path: pathlib.Path) -> None:
    file = write("fake.py", "import os\nprint('PASS', flush=True)\nos._exit(0)\n")
    shown = penstock("sandbox", file, env=environment(tmp_path))
    assert shown.returncode == 1
    assert "FAIL: unfinished" in shown.stderr


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: pathlib.Path) -> None:
    shown = penstock("sandbox", "nowhere.py", env=environment(tmp_path))
    assert shown.returncode == 1
    assert shown.stderr.startswith("Error: nowhere.py cannot be read")
