"""Embeddings: tasks as vectors, by a model where one is named, else by words and n-grams."""

import asyncio
import importlib
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from penstock.errors import ModelError, ModelUnavailable, SettingsError
from penstock.memory import minilm
from penstock.memory.words import hashed_words
from penstock.models.names import Target, resolve
from penstock.settings import Settings

if TYPE_CHECKING:
    import openai

LOCAL, MINILM = "local/hashed-words-1", "local/minilm"
#: Characters of a task that a model reads. Ollama's small ones take 512 to 2,048 tokens.
LONGEST_TEXT = 4_000
#: Seconds that a model has for a batch of texts. A look into memory has its own, shorter limit.
ANSWER_S = 30.0


class Embeddings(Protocol):
    """`label` names the model: vectors of two models are never compared.

    `floor` is the score below which two texts have nothing to do with each other.
    """

    label: str
    floor: float

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in their order, all of one length and none of them zero.

        Raises `ModelError`: `ModelUnavailable` for what may pass, `ModelRefused` for these texts.
        """

    async def close(self) -> None: ...


class LocalEmbeddings:
    """Words, stems and n-grams, hashed: the same text has the same vector on every machine.

    It knows words and not meanings: a rewording is found by what it shares with the first wording,
    and by a short list of synonyms. Scores are lower than a model's.
    """

    label = LOCAL
    #: Of the 52 tasks of tests/unit/test_memory.py each is nearer than this to its rewording, the
    #: farthest at 0.28; of two that are not each other's, 97 in 100 are farther.
    floor = 0.25

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        # In a thread, because a batch of long tasks takes a tenth of a second.
        return await asyncio.to_thread(
            lambda: [hashed_words(text[:LONGEST_TEXT]) for text in texts]
        )

    async def close(self) -> None:
        return None


class MiniLMEmbeddings:
    """A small model's meanings, made in this process and off the loop.

    Raises `SettingsError` when it is not installed.
    """

    label = f"{MINILM}-l6-v2"
    #: All near wordings of tests/unit/test_memory.py are nearer than this to their task, and of the
    #: far ones of tests/models/rewordings.yaml that have it among the nearest three, all but one.
    floor = 0.2

    def __init__(self, folder: pathlib.Path | None = None) -> None:
        self._folder = folder or minilm.installed()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        def work() -> list[list[float]]:
            model = minilm.load(self._folder)
            return [model.embed(text[:LONGEST_TEXT]) for text in texts]

        return await asyncio.to_thread(work)

    async def close(self) -> None:
        return None


class ProviderEmbeddings:
    """The vectors of a model behind `/v1/embeddings`: OpenAI's, Ollama's, Mistral's, any other."""

    #: Each model has scores of its own, and nothing is known of this one's.
    floor = -1.0

    def __init__(self, target: Target, settings: Settings) -> None:
        self.label = target.label
        self._target = target
        self._settings = settings
        self._client: openai.AsyncOpenAI | None = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        client = await self._connected()
        try:
            answer = await client.embeddings.create(
                model=self._target.name,
                # An empty text is an error to some servers.
                input=[text[:LONGEST_TEXT].strip() or "-" for text in texts],
                # The client's own default is base64, which not every compatible server knows.
                encoding_format="float",
            )
        except Exception as exc:
            raise await self._explained(exc) from exc
        return self._checked(answer, len(texts))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connected(self) -> "openai.AsyncOpenAI":
        if self._client is None:
            # Half a second of import, which is not the loop's.
            sdk = await asyncio.to_thread(importlib.import_module, "openai")
            self._client = sdk.AsyncOpenAI(
                base_url=self._target.base_url or "https://api.openai.com/v1",
                api_key=self._target.api_key,
                max_retries=0,
                timeout=ANSWER_S,
            )
        assert self._client is not None
        return self._client

    async def _explained(self, error: Exception) -> ModelError:
        explain = await asyncio.to_thread(_import_explain)
        explained: ModelError = explain(error, self.label, ANSWER_S)
        explained.message = self._settings.redact(explained.message)
        return explained

    def _checked(self, answer: Any, expected: int) -> list[list[float]]:
        """The vectors of `answer`, in the order of the texts. What a proxy or a chat server answers
        with 200 is no vector."""
        try:
            rows = sorted(answer.data, key=lambda row: row.index)
            vectors = [[float(value) for value in row.embedding] for row in rows]
            sizes = {len(vector) for vector in vectors}
            good = len(vectors) == expected and len(sizes) == 1 and 0 not in sizes
            good = good and all(0 < math.hypot(*vector) < math.inf for vector in vectors)
        except (AttributeError, TypeError, ValueError) as exc:
            raise self._no_vectors() from exc
        if not good:
            raise self._no_vectors()
        return vectors

    def _no_vectors(self) -> ModelUnavailable:
        return ModelUnavailable(
            f"{self.label} answered with something that is no list of embeddings"
        )


def choose(settings: Settings) -> Embeddings:
    """The embeddings that PENSTOCK_EMBEDDINGS names, the local ones when it names none.

    Raises `SettingsError` for a name that leads nowhere. Nothing falls back from a model to the
    local ones: their vectors are different ones.
    """
    if settings.embeddings in ("", LOCAL, "local"):
        return LocalEmbeddings()
    try:
        if settings.embeddings == MINILM:
            return MiniLMEmbeddings()
        target = resolve(settings.embeddings, settings)
    except SettingsError as exc:
        raise SettingsError(f"PENSTOCK_EMBEDDINGS: {exc.message}") from exc
    if target.provider in ("offline", "local") or not target.name:
        raise SettingsError(
            f"PENSTOCK_EMBEDDINGS={settings.embeddings!r}: expected a model that makes embeddings,"
            f" such as {MINILM}, openai/text-embedding-3-small or ollama/nomic-embed-text, or"
            f" nothing for {LOCAL}."
        )
    return ProviderEmbeddings(target, settings)


def _import_explain() -> Any:
    from penstock.models.providers import explain

    return explain
