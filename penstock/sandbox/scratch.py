"""Scratch folders: made, measured and removed, whatever a script has put into them."""

import os
import pathlib
import secrets
import tempfile

PREFIX = "penstock-sandbox-"
#: A file takes room even when it is empty, and so does a folder.
_SMALLEST = 4096


def new_folder() -> pathlib.Path:
    """A path that nothing has, under the system's folder for such."""
    return pathlib.Path(tempfile.gettempdir()).resolve() / f"{PREFIX}{secrets.token_hex(8)}"


def make(folder: pathlib.Path, script: str = "") -> None:
    """`folder` is there, for nobody else to look into, with `script` in it as `script.py`."""
    folder.mkdir(mode=0o700)
    (folder / "script.py").write_bytes(script.encode("utf-8", "surrogatepass"))


def measure(folder: pathlib.Path, enough: int) -> int:
    """The bytes on disk under `folder`; counting ends at `enough`.

    What cannot be counted, as a tree deeper than a path may be long, counts as `enough`.
    """
    found, waiting = 0, [str(folder)]
    while waiting and found < enough:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    try:
                        taken = entry.stat(follow_symlinks=False).st_blocks * 512
                    except FileNotFoundError:
                        continue  # gone meanwhile
                    found += max(taken, _SMALLEST)
                    if found >= enough:
                        break
        except FileNotFoundError:
            continue
        except OSError:
            return enough
    return found


def remove(folder: pathlib.Path) -> None:
    """`folder` is gone. Nothing may run in it any more.

    A tree can be deeper than a path may be long, so it is taken apart from the top: what is in a
    folder moves up beside it until no folder has a folder in it.
    """
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        while True:
            left = os.listdir(top)
            if not left:
                break
            for name in left:
                try:
                    os.unlink(name, dir_fd=top)
                    continue
                except (IsADirectoryError, PermissionError):
                    pass
                # A script can make folders that nobody may look into.
                os.chmod(name, 0o700, dir_fd=top)
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    for inner in os.listdir(below):
                        try:
                            os.unlink(inner, dir_fd=below)
                        except (IsADirectoryError, PermissionError):
                            _raise_up(inner, below, top)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _raise_up(name: str, below: int, top: int) -> None:
    # Moving a folder rewrites its "..", which takes the right to write into it.
    os.chmod(name, 0o700, dir_fd=below)
    os.rename(name, secrets.token_hex(8), src_dir_fd=below, dst_dir_fd=top)
