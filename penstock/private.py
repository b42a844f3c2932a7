"""Private: folders and files that only their owner can read. What people's runs hold is theirs."""

import contextlib
import os
import pathlib


def make_folder(folder: pathlib.Path) -> None:
    """`folder` is there, for its owner alone where it was made now. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_file(file: pathlib.Path) -> None:
    """`file` is there, empty and for its owner alone where it was made now. Raises `OSError`."""
    # One that is there must not even be opened: closing it again would take away every lock that
    # SQLite has on it in this process.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, flags, 0o600))
