"""The price file: `prices.yaml`, what models cost that the tables do not know, or know wrongly."""

import pathlib

import pydantic

from penstock.errors import did_you_mean
from penstock.models.names import PROVIDERS
from penstock.models.prices import Price
from penstock.project.documents import Document, read_text

NAME = "prices.yaml"
#: What labels begin with: the model of an address is server/NAME.
LABELLED = (*PROVIDERS, "server")


class _PriceFile(pydantic.RootModel[dict[str, Price]]):
    pass


def read_prices(file: pathlib.Path) -> tuple[dict[str, Price], Document]:
    """Return the prices in `file` by the label of their model. What is wrong with them is noted in
    the document."""
    try:
        document = Document(file, read_text(file))
    except ValueError as exc:
        document = Document(file, "")
        document.spoil(str(exc))
        return {}, document
    read = document.check(_PriceFile)
    for label in document.data:
        provider, _, name = label.partition("/")
        if provider not in LABELLED or not name:
            hint = did_you_mean(provider, LABELLED)
            document.note(
                f"'{label}' is no label of a model.{hint} A label is PROVIDER/NAME, with one of"
                f" {', '.join(LABELLED)}: the model of an address is server/NAME.",
                label,
            )
    return (read.root if read is not None else {}), document
