"""The names of output files: what a run may call them."""

import re

#: The folder of output files, in PENSTOCK_DATA.
FOLDER = "outputs"
#: Bytes of one name, as Linux and macOS have it, and of the whole path.
NAME_BYTES, PATH_BYTES = 255, 1000
#: What a part of a name must not be, as a pattern, and what is said of it.
REFUSED = {
    r"\.\.": f"'..' leads out of {FOLDER}/",
    r"\.?": "an empty part or '.'",
    r"\..*": "names that begin with a dot are kept for files that are not finished",
    r"-.*": "a part that begins with '-', which programs take for an option",
    r"~.*": "a part that begins with '~', which shells take for somebody's home",
    r" .*|.*[ .]": "a part that begins or ends with a space, or ends with a dot",
    r'.*[<>:"|?*].*': 'one of < > : " | ? *, which not every system takes',
    # With any ending, and with spaces before it.
    r"(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?": "a device of Windows",
}


def check_name(name: str) -> list[str]:
    """The folders of an output file's name and the file's own. Raises `ValueError` that says why it
    is none: what leads out of the folder, and what not every system can hold."""
    if not name:
        raise ValueError("a file needs a name")
    if not name.isprintable() or "\\" in name:
        raise ValueError("only what can be seen, and no backslash")
    if name.startswith("/"):
        raise ValueError(f"an absolute path; it is taken relative to {FOLDER}/")
    parts = name.split("/")
    for part in parts:
        for pattern, reason in REFUSED.items():
            if re.fullmatch(pattern, part, re.IGNORECASE):
                raise ValueError(reason)
    if len(name.encode()) > PATH_BYTES or any(len(part.encode()) > NAME_BYTES for part in parts):
        raise ValueError(f"longer than {NAME_BYTES} bytes, or than {PATH_BYTES} in all")
    return parts
