"""Output files: whole or not at all, and only where they belong."""

import os
import re

import pytest

from penstock.record.file_names import check_name
from penstock.steps.output_files import write_whole


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "needs a name"),
        ("/etc/passwd", "absolute"),
        ("../x", "'..' leads out"),
        ("a/../../x", "'..' leads out"),
        ("a//x", "an empty part"),
        ("./x", "'.'"),
        ("a/", "an empty part"),
        ("a\0b", "can be seen"),
        ("a\nb", "can be seen"),
        ("a\\b", "no backslash"),
        (".hidden", "begin with a dot"),
        ("a/.b/c", "begin with a dot"),
        ("x ", "a space"),
        ("x.", "ends with a dot"),
        ("C:x", "every system"),
        ("con", "a device"),
        ("a/NUL.txt", "a device"),
        ("nul .txt", "a device"),
        ("com1.tar.gz", "a device"),
        ("CONIN$", "a device"),
        ("conout$.txt", "a device"),
        ("clock$", "a device"),
        ("-rf", "an option"),
        ("a/--help.txt", "an option"),
        ("~/x", "home"),
        ("COM¹.txt", "a device"),
        ("lpt³", "a device"),
        ("a.txt:stream", "every system"),
        ("txt.\u202egnp", "can be seen"),
        ("con\u200b", "can be seen"),
        ("a\u00a0", "can be seen"),
        ("é" * 128, "longer"),
        ("x" * 256, "longer"),
        ("/".join(["x" * 100] * 11), "longer"),
        ("\ud800", "can be seen"),
    ],
)
def test_a_name_that_leads_out_or_cannot_be_is_refused(name, complaint, tmp_path):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        write_whole(tmp_path / "outputs", name, b"x", "m")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "name", ["best.txt", "a/b/c.md", "Größe ✓.txt", "x", "a..b", "a-b", "console.txt"]
)
def test_an_ordinary_name_is_taken(name, tmp_path):
    assert "/".join(check_name(name)) == name
    write_whole(tmp_path / "outputs", name, b"said", "m")
    assert (tmp_path / "outputs" / name).read_bytes() == b"said"


def test_a_link_on_the_way_or_at_the_end_is_refused_and_nothing_is_written(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "way").symlink_to(outside)
    (folder / "end").symlink_to(outside / "file")
    (folder / "here").mkdir()

    for name in ("way/file", "end", "here"):
        with pytest.raises(ValueError, match="a link or a f"):
            write_whole(folder, name, b"theirs", "m")

    assert (outside / "file").read_text() == "mine"
    assert sorted(os.listdir(outside)) == ["file"] and os.listdir(folder / "here") == []
    assert sorted(os.listdir(folder)) == ["end", "here", "way"]


def test_what_a_crash_has_left_is_used_up_by_the_same_mark(tmp_path):
    (tmp_path / ".m.part").write_text("half of an older and much longer text")

    for said in (b"first", b"second"):
        write_whole(tmp_path, "x", said, "m")
        assert (tmp_path / "x").read_bytes() == said
    assert os.listdir(tmp_path) == ["x"]


def test_an_unfinished_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".m.part").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="links"):
        write_whole(tmp_path, "x", b"theirs", "m")
    assert (tmp_path / "mine").read_text() == "mine"
