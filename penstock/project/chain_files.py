"""Chain files: `topics/NAME.yaml`, read and checked."""

import pathlib

from penstock.errors import ChainError
from penstock.project.chains import Chain
from penstock.project.checks import check_chain
from penstock.project.documents import Document


def read_chain(file: pathlib.Path) -> Chain:
    """The chain in `file`, checked by itself. Raises `ChainError` with file, line and key."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ChainError(f"{file}: cannot be read: {exc}") from exc
    document = Document(file, text, ChainError)
    read = document.check(Chain)
    stages = [
        stage.within(read.pipeline, read.telemetry, document.where("stages", index))
        for index, stage in enumerate(read.stages)
    ]
    chain = read.model_copy(update={"stages": stages})
    chain._file = file
    check_chain(chain, document)
    return chain
