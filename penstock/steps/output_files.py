"""Output files: written whole or not at all, and never outside of their folder.

A path is walked folder by folder, each opened relative to the one before and never through a link,
so nothing that changes meanwhile leads out.
"""

import contextlib
import errno
import os
import pathlib
import stat

from penstock import private
from penstock.record.file_names import check_name

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(folder: pathlib.Path, name: str, data: bytes, mark: str) -> None:
    """`folder`/`name` holds `data`, durably, and held what it held before until then.

    `mark` names the unfinished file: written again with the same mark, what a crash has left of it
    is used up. Folders on the way are made. Raises `ValueError` for a name that leads out, by
    itself or through a link, and `OSError` for a disk that refuses.
    """
    *folders, last = check_name(name)
    private.make_folder(folder)
    with contextlib.ExitStack() as stack:
        # The folder itself may be a link: that is its owner's business.
        there = os.open(folder, _OPEN_FOLDER & ~os.O_NOFOLLOW)
        stack.callback(os.close, there)
        for one in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(one, dir_fd=there)
                os.fsync(there)
            try:
                there = os.open(one, _OPEN_FOLDER, dir_fd=there)
            except OSError as exc:
                if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise ValueError(f"'{one}' is a link or a file, and not a folder") from exc
                raise
            stack.callback(os.close, there)
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(last, dir_fd=there, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise ValueError(f"'{last}' is there, and is a link or a folder, and no file")
        unfinished = f".{mark}.part"
        with open(os.open(unfinished, _OPEN_FILE, 0o644, dir_fd=there), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file)
        os.rename(unfinished, last, src_dir_fd=there, dst_dir_fd=there)
        os.fsync(there)
