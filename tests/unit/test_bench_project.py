"""What the benchmarks measure is a project that a worker takes."""

import pytest

from bench.projects import write_project
from penstock.project.project import read_project


@pytest.mark.parametrize("does", ["step: instant", "agent: echo"])
def test_the_project_that_is_measured_is_sound(tmp_path, does):
    write_project(tmp_path / "project", does)
    assert read_project(tmp_path / "project").problems == []
