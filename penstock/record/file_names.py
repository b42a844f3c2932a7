"""Names of output files: what a run may call the file that its answer becomes."""

import re

#: The folder of output files, in PENSTOCK_DATA.
FOLDER = "outputs"
#: Bytes of one name, as Linux and macOS have it, and of the whole path.
NAME_BYTES, PATH_BYTES = 255, 1000
#: What Windows takes for a device, with any ending.
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


def check_name(name: str) -> list[str]:
    """The folders of an output file's name and the file's own. Raises `ValueError` that says why it
    is none: what leads out of the folder, and what not every system can hold."""
    if not name:
        raise ValueError("a file needs a name")
    if not name.isprintable() or "\\" in name:
        raise ValueError("only what can be seen, and no backslash")
    try:
        too_long = len(name.encode()) > PATH_BYTES
    except UnicodeEncodeError as exc:
        raise ValueError("not Unicode") from exc
    if name.startswith("/"):
        raise ValueError(f"an absolute path; it is taken relative to {FOLDER}/")
    parts = name.split("/")
    for part in parts:
        if part == "..":
            raise ValueError(f"'..' leads out of {FOLDER}/")
        if part in ("", "."):
            raise ValueError("an empty part or '.'")
        if part.startswith("."):
            raise ValueError("names that begin with a dot are kept for files that are not finished")
        if part != part.strip() or part.endswith("."):
            raise ValueError("a part that begins or ends with a space, or ends with a dot")
        if any(c in part for c in '<>:"|?*'):
            raise ValueError('one of < > : " | ? *, which not every system takes')
        if RESERVED.fullmatch(part):
            raise ValueError(f"'{part}' is a reserved name")
        too_long = too_long or len(part.encode()) > NAME_BYTES
    if too_long:
        raise ValueError(f"longer than {NAME_BYTES} bytes, or than {PATH_BYTES} in all")
    return parts
