"""Private: what is made is for its owner alone, and what is there is not touched."""

import fcntl
import pathlib
import subprocess
import sys

from penstock import private


def test_a_file_that_is_made_is_for_its_owner_alone(tmp_path: pathlib.Path) -> None:
    private.make_folder(tmp_path / "data")
    private.make_file(tmp_path / "data" / "x.db")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "x.db").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_keeps_the_locks_that_this_process_has_on_it(
    tmp_path: pathlib.Path,
) -> None:
    """As SQLite's are: any close of the file in the process would take them away."""
    path = tmp_path / "x.db"
    private.make_file(path)
    look = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(7)\n"
    )
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        private.make_file(path)
        found = subprocess.run([sys.executable, "-S", "-c", look, str(path)], check=False)
    assert found.returncode == 7
