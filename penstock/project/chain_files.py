"""Chain files: `topics/NAME.yaml`, read and checked."""

import pathlib

from penstock.project.chains import Chain
from penstock.project.checks import check_chain
from penstock.project.documents import Document, read_text


def read_chain(file: pathlib.Path) -> tuple[Chain | None, Document]:
    """The chain in `file`, where its document makes one, checked by itself. What is wrong with it
    is noted in the document."""
    try:
        document = Document(file, read_text(file))
    except ValueError as exc:
        document = Document(file, "")
        document.spoil(str(exc))
        return None, document
    read = document.check(Chain)
    if read is None:
        return None, document
    words = {name: topic.word for name, topic in read.topics.items() if topic.word is not None}
    stages = [stage.within(read.pipeline, read.telemetry, words) for stage in read.stages]
    chain = read.model_copy(update={"stages": stages})
    chain._file = file
    check_chain(chain, document)
    return chain, document
