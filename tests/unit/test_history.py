"""The history: any text comes back, no cell is a formula, and one row a run whatever happens."""

import concurrent.futures
import csv
import fcntl
import io
import os
import pathlib
import re
import resource
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.errors import StepFailed
from penstock.steps import history
from penstock.steps.history import CELL_CHARS, COLUMNS, HEADER, History, cell, defuse, write_row

WRITTEN = "2026-01-02T03:04:05Z"
TRICKY = 'a "quoted"\nline, with\r\neverything;\r'


def row(run: str, text: str = "x") -> list[str]:
    return [run, *[text] * (len(COLUMNS) - 2), WRITTEN]


def read(file: pathlib.Path) -> list[list[str]]:
    """The rows below the header."""
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    assert tuple(header) == COLUMNS
    return rows


def runs(file: pathlib.Path) -> list[str]:
    return [one[0] for one in read(file)]


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "data" / "ai_history.csv"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=len(COLUMNS), max_size=len(COLUMNS)))
@example(['"', ",", "\r", "\n", "\x00", "", "=1", *[TRICKY] * (len(COLUMNS) - 7)])
def test_any_text_is_restored_by_a_csv_reader(cells: list[str]) -> None:
    made = write_row([cell(text) for text in cells])
    assert made.endswith(b"\r\n")
    (found,) = csv.reader(io.StringIO(made.decode(), newline=""))
    assert [original(shown) for shown in found] == cells


#: As docs/operations.md has it.
SIGNS, UNSEEN = history._SIGNS, history._UNSEEN


def original(shown: str) -> str:
    """What was defused, as docs/operations.md says how to read it back."""
    shown = re.sub(rf"^'(?='*[\t\r]|[{UNSEEN}\t\r\n]*[{SIGNS}])", "", shown, flags=re.ASCII)
    return re.sub(rf"(?<=[\t\r\n;])'(?=[{UNSEEN}]*[{history._EQUALS}])", "", shown)


ALL_SIGNS = "=+-@＝＋－＠﹢﹣﹦﹫−⁺⁻⁼₊₋₌"


@example("'\r")
@given(st.text(st.sampled_from(ALL_SIGNS + "\t\r\n; \u00a0\u200b\ufeff\"'a1"), max_size=8))
def test_no_cell_and_no_line_in_one_begins_as_a_formula_does(text: str) -> None:
    shown = defuse(text)
    assert not shown.startswith(("\t", "\r"))
    begin = shown.strip(" \n\t\r\u00a0\u200b\ufeff\"'")[:1]
    assert shown[:1] == "'" or begin not in tuple(ALL_SIGNS)
    for inner in re.split(r"[\t\r\n;]", shown)[1:]:
        seen = inner.strip(' \u00a0\u200b\ufeff"')
        assert seen[:1] not in tuple("=＝﹦⁼₌")
    assert original(shown) == text


@pytest.mark.parametrize("sign", ALL_SIGNS)
@pytest.mark.parametrize("before", ["", "  ", "\x01", "\u200b", '"', "'", "\n", "\u3000"])
def test_what_a_spreadsheet_would_run_is_defused(before: str, sign: str) -> None:
    assert cell(f"{before}{sign}1+1").startswith(f"'{before}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\n=1", "'\n'=1"),
        ("a\n=1\r\n =2\n﹦3", "a\n'=1\r\n' =2\n'﹦3"),
        ("a;=1\t=2", "a;'=1\t'=2"),
        ("'=1", "''=1"),
    ],
)
def test_a_sign_is_defused_where_it_begins_a_cell_or_a_line(text: str, shown: str) -> None:
    assert cell(text) == shown


@pytest.mark.parametrize(
    "text", ["", "a=1", "'a", "1-1", " plain", "def f():\n    x = -1", "x\n@y\n- z"]
)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert cell(text) == text


def test_a_long_text_is_cut_to_what_a_spreadsheet_takes() -> None:
    shown = cell("=\n" * 50_000)
    assert CELL_CHARS < len(shown) < 32_767
    assert shown.endswith("… (100,000 characters)")


def test_a_row_is_written_once_below_the_header(file: pathlib.Path) -> None:
    mine = History(file)
    assert mine.append(row("a", TRICKY)) and mine.append(row("b"))
    assert not mine.append(row("a", "another text"))
    assert read(file) == [row("a", TRICKY), row("b")]
    assert not History(file).append(row("b"))  # after a restart too
    assert runs(file) == ["a", "b"]


@pytest.mark.parametrize("text", ["x", TRICKY])
def test_a_crash_at_any_byte_leaves_one_whole_row_a_run(file: pathlib.Path, text: str) -> None:
    before, last = row("a", text), row("b", text)
    file.parent.mkdir()
    kept, torn = HEADER + write_row(before), write_row(last)
    for at in range(len(torn) + 1):
        file.write_bytes(kept + torn[:at])
        mine = History(file)
        mine.append(last)
        mine.append(row("c"))
        assert read(file) == [before, last, row("c")], at


def test_a_crash_in_the_first_write_leaves_a_whole_file(file: pathlib.Path) -> None:
    file.parent.mkdir()
    whole = HEADER + write_row(row("a"))
    for at in range(len(whole) + 1):
        file.write_bytes(whole[:at])
        History(file).append(row("a"))
        assert file.read_bytes() == whole, at


def test_what_was_cut_off_is_put_aside(file: pathlib.Path) -> None:
    History(file).append(row("a"))
    with file.open("ab") as end:
        end.write(b'b,"half a row')
    History(file).append(row("c"))
    assert runs(file) == ["a", "c"]
    assert (file.parent / "ai_history.csv.torn").read_bytes() == b'b,"half a row\n'


def test_a_write_that_does_not_fit_on_the_disk_leaves_nothing(file: pathlib.Path) -> None:
    mine = History(file)
    mine.append(row("a"))
    before = file.read_bytes()
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, usual[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            mine.append(row("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert file.read_bytes() == before
    assert mine.append(row("b"))
    assert runs(file) == ["a", "b"]


def test_a_locked_file_is_an_error_and_later_written(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_LOCK_S", 0.03)
    mine = History(file)
    mine.append(row("a"))
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another program has locked it"):
            mine.append(row("b"))
    assert mine.append(row("b"))


@pytest.mark.parametrize(
    "content", ["name,price\r\nx,1\r\n", "hello", "\n", "trace_id,title\n", '"an open quote\n\n']
)
def test_a_file_of_somebody_elses_is_refused_and_left_alone(
    file: pathlib.Path, content: str
) -> None:
    file.parent.mkdir()
    file.write_bytes(content.encode())
    for _ in range(2):
        with pytest.raises(StepFailed, match=r"is not the history: it begins with .* Move it away"):
            History(file).append(row("a"))
    assert file.read_bytes() == content.encode()


def test_what_a_spreadsheet_saved_is_still_the_history(file: pathlib.Path) -> None:
    mine = History(file)
    mine.append(row("a", TRICKY))
    saved = file.read_bytes().replace(b"\r\n", b"\n").rstrip(b"\n")
    file.write_bytes(b"\xef\xbb\xbf" + saved)
    assert not mine.append(row("a", TRICKY)) and mine.append(row("b"))
    assert [line.count(WRITTEN) for line in file.read_text().splitlines()][-2:] == [1, 1]


def test_a_file_that_was_moved_away_is_begun_again(file: pathlib.Path) -> None:
    mine = History(file)
    mine.append(row("a"))
    file.rename(file.with_suffix(".old"))
    mine.append(row("b"))
    assert runs(file) == ["b"]
    file.write_bytes(HEADER + write_row(row("c" * 99)) + write_row(row("d")))
    assert not mine.append(row("d")) and mine.append(row("b"))
    assert runs(file) == ["c" * 99, "d", "b"]


def test_only_what_others_appended_is_read(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = History(file), History(file)
    mine.append(row("a", "x" * 5000))
    other.append(row("b"))
    taken: list[int] = []
    pread = os.pread

    def noted(fd: int, count: int, at: int) -> bytes:
        taken.append(at)
        return pread(fd, count, at)

    monkeypatch.setattr(os, "pread", noted)
    assert not mine.append(row("b"))
    known = len(HEADER) + len(write_row(row("a", "x" * 5000)))
    assert min(taken[1:]) == known and taken[0] >= len(HEADER)


def _append_many(file: pathlib.Path, names: Sequence[str]) -> int:
    mine = History(file)
    return sum(mine.append(row(name, TRICKY)) for name in names)


def test_two_writers_at_once_tear_no_row_and_write_none_twice(file: pathlib.Path) -> None:
    names = [f"run-{number}" for number in range(40)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = pool.map(_append_many, [file] * 2, [names, names[::-1]])
    assert sum(made) == 40
    assert sorted(runs(file)) == sorted(names)
    assert all(one[1:-1] == [TRICKY] * (len(COLUMNS) - 2) for one in read(file))
