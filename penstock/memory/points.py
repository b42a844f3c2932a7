"""Points: the notes in Qdrant, in a folder or on a server."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock import private
from penstock.errors import SettingsError, Unavailable
from penstock.record.notes import KINDS, Found, Kind, Note
from penstock.settings import Settings

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

#: Seconds that a server has for an answer. A look into memory has its own, shorter limit.
ANSWER_S = 10
#: Ids of points that are read at once.
PAGE = 1_000
#: How a collection's name ends, after its app and kind: model, its hash, dimension.
COLLECTION = r"[a-z0-9.-]+-[0-9a-f]{8}-\d+"
MISSING = (
    "qdrant-client is not installed. In the checkout: pip install '.[memory]', and start again"
)


class Points:
    """Three collections, one for each kind, named after the app, the model and its dimension.

    A kind has a collection of its own because embedded Qdrant filters point by point in Python: at
    10,000 points a look took 140 ms with a filter and 24 ms without.

    Every method raises `Unavailable` with a sentence when Qdrant does not do what it is asked. With
    a folder each of them blocks, for all that it is a coroutine, and one must end before the next.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncQdrantClient | None = None
        self._lock: IO[str] | None = None
        self._names: dict[Kind, str] = {}
        #: Notes that are in collections of other models and not in these: where, and their points.
        self._missing: list[tuple[Kind, str, Any]] = []
        #: When Qdrant last did what it was asked, by the monotonic clock.
        self.answered_at = 0.0
        self.folder = settings.data / "memory" / "qdrant"
        url = settings.qdrant_url
        if url and not _is_address(url):
            raise SettingsError(
                f"QDRANT_URL={settings.redact(url)!r}: expected http://HOST:6333 or https://HOST,"
                f" or nothing for the folder {self.folder}."
            )

    @property
    def where(self) -> str:
        """The server or the folder, for people."""
        return self._settings.redact(self._settings.qdrant_url) or str(self.folder)

    @property
    def on_server(self) -> bool:
        return bool(self._settings.qdrant_url)

    async def open(self, label: str, dimension: int) -> int:
        """The collections for vectors of this model are there; how many points they hold."""
        names = collections(self._settings.app_id, label, dimension)
        with self._explaining():
            if self._client is None:
                # In a thread, because importing the client takes a second.
                self._client = await asyncio.to_thread(self._connect)
            for name in names.values():
                await self._make(self._client, name, dimension)
            self._names = names
            self._missing = await self._find_missing(self._client)
        return await self.count()

    @property
    def missing(self) -> int:
        """How many notes were made with other embeddings, and are still to be embedded with
        these."""
        return len(self._missing)

    async def take_missing(self, limit: int) -> list[Note]:
        """Up to `limit` of those notes. What is not put is missing again at the next `open`."""
        taken, self._missing = self._missing[:limit], self._missing[limit:]
        notes = []
        with self._explaining():
            client = self._opened()
            for kind, name, point in taken:
                for found in await client.retrieve(name, [point], with_payload=True):
                    values = found.payload or {}
                    id_, task, lesson = (
                        str(values.get(key, "")) for key in ("id", "task", "lesson")
                    )
                    created = float(values.get("created", 0.0))
                    notes.append(Note(id_, kind, task, lesson, created))
        return notes

    async def put(self, notes: Sequence[Note], vectors: Sequence[list[float]]) -> None:
        """The notes are stored, each over an earlier one with its id."""
        with self._explaining():
            from qdrant_client import models

            client = self._opened()
            for kind, name in self._names.items():
                points = [
                    models.PointStruct(
                        id=note.point,
                        vector=vector,
                        payload={
                            "id": note.id,
                            "task": note.task,
                            "lesson": note.lesson,
                            "created": note.created,
                        },
                    )
                    for note, vector in zip(notes, vectors, strict=True)
                    if note.kind == kind
                ]
                if points:
                    await client.upsert(name, points=points, wait=True)

    async def find(
        self,
        vector: list[float] | None,
        kinds: Sequence[Kind],
        limit: int,
        floor: float = -1.0,
        without: str = "",
    ) -> list[Found]:
        """The `limit` notes of these kinds whose vectors are nearest and not below `floor`, or
        without a vector those that were made last; the first of them first. None has an id that
        begins with `without`."""
        found: list[tuple[float, Found]] = []
        with self._explaining():
            from qdrant_client import models

            client = self._opened()
            order = models.OrderBy(key="created", direction=models.Direction.DESC)
            query = models.OrderByQuery(order_by=order) if vector is None else vector
            for kind in KINDS:
                if kind not in kinds:
                    continue
                # Left out here, because a filter costs embedded Qdrant five times the look.
                size = limit
                points: list[Any] = []
                while len(points) < limit:
                    answer = await client.query_points(
                        self._names[kind],
                        query=query,
                        limit=size,
                        with_payload=True,
                        score_threshold=None if vector is None else floor,
                    )
                    points = [one for one in answer.points if not _is_of(one.payload, without)]
                    if len(answer.points) < size:
                        break
                    size *= 2
                for point in points:
                    payload = point.payload or {}
                    task, lesson = str(payload.get("task", "")), str(payload.get("lesson", ""))
                    created = float(payload.get("created", 0.0))
                    rank = created if vector is None else point.score
                    found.append((rank, Found(kind, task, lesson, point.score)))
        # Sorting is stable: of equal ones the failures come first.
        return [note for _, note in sorted(found, key=lambda pair: -pair[0])[:limit]]

    async def count(self) -> int:
        with self._explaining():
            client = self._opened()
            counts = [await client.count(name, exact=True) for name in self._names.values()]
        return sum(each.count for each in counts)

    async def close(self) -> None:
        """The folder is free for another process."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()
        self._leave_folder()

    def _opened(self) -> "AsyncQdrantClient":
        if self._client is None:
            raise Unavailable("the memory is closed")
        return self._client

    def _connect(self) -> "AsyncQdrantClient":
        try:
            from qdrant_client import AsyncQdrantClient
        except ImportError as exc:
            raise Unavailable(MISSING) from exc
        if self._settings.qdrant_url:
            key = self._settings.qdrant_api_key
            return AsyncQdrantClient(
                url=self._settings.qdrant_url,
                # Not as `api_key`, which warns of http: inside one network that is usual.
                headers={"api-key": key} if key else None,
                timeout=ANSWER_S,
                # It would ask for the server's version, and warn when that is away.
                check_compatibility=False,
            )
        self._take_folder()
        try:
            # Read in this thread, and used in the caller's: one after the other.
            return AsyncQdrantClient(path=str(self.folder), force_disable_check_same_thread=True)
        except BaseException:
            self._leave_folder()
            raise

    def _take_folder(self) -> None:
        """The folder is ours. Raises `Unavailable` when another process has it.

        A lock of our own, because Qdrant reads all points before it looks at its lock.
        """
        private.make_folder(self.folder)
        lock = open(self.folder.with_name("qdrant.lock"), "a+")  # noqa: SIM115 - held while open
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.close()
            raise Unavailable(self._taken()) from exc
        self._lock = lock
        meta = self.folder / "meta.json"
        if not meta.exists():
            # Qdrant writes its first one in place: killed in between, it could never open it again.
            draft = meta.with_suffix(".new")
            draft.write_text(json.dumps({"collections": {}, "aliases": {}}))
            os.replace(draft, meta)

    def _leave_folder(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _taken(self) -> str:
        return (
            f"another process has {self.folder.absolute()}, and embedded Qdrant allows one. For"
            " several workers start a Qdrant server and set QDRANT_URL=http://HOST:6333"
        )

    async def _make(self, client: "AsyncQdrantClient", name: str, dimension: int) -> None:
        from qdrant_client import models

        if not await client.collection_exists(name):
            vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
            try:
                await client.create_collection(name, vectors_config=vectors)
            except Exception:
                # Another worker was faster.
                if not await client.collection_exists(name):
                    raise
        if self.on_server:
            # A server finds the latest by an index only; in a folder there are none.
            await client.create_payload_index(name, "created", models.PayloadSchemaType.FLOAT)

    async def _find_missing(self, client: "AsyncQdrantClient") -> list[tuple[Kind, str, Any]]:
        there = {one.name for one in (await client.get_collections()).collections}
        missing = []
        for kind, name in self._names.items():
            same = re.compile(re.escape(f"{self._settings.app_id}-memory-{kind}-") + COLLECTION)
            others = sorted(one for one in there - {name} if same.fullmatch(one))
            known = await _points_of(client, name) if others else {}
            for other in others:
                found = await _points_of(client, other)
                missing += [(kind, other, point) for point in found if point not in known]
                known |= found
        return missing

    @contextlib.contextmanager
    def _explaining(self) -> Any:
        """Whatever Qdrant raises is an `Unavailable` that says what to do."""
        try:
            yield
        except Unavailable:
            raise
        except Exception as exc:
            raise Unavailable(self._settings.redact(self._explained(exc))) from exc
        self.answered_at = time.monotonic()

    def _explained(self, error: Exception) -> str:
        if not self._settings.qdrant_url:
            if "already accessed by another instance" in str(error):
                return self._taken()
            return f"{self.folder.absolute()}: {type(error).__name__}: {str(error)[:300]}"
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return f"Qdrant answered {status}. Check QDRANT_API_KEY"
        if status is not None:
            content = getattr(error, "content", b"")[:200].decode("utf-8", "replace")
            return f"Qdrant answered {status}: {content}. Check QDRANT_URL"
        return f"Qdrant does not answer: {getattr(error, 'source', None) or error}"


async def _points_of(client: "AsyncQdrantClient", name: str) -> dict[Any, None]:
    """The ids of all points of a collection, in their order."""
    found: dict[Any, None] = {}
    offset: Any = None
    while True:
        points, offset = await client.scroll(
            name, limit=PAGE, offset=offset, with_payload=False, with_vectors=False
        )
        found |= dict.fromkeys(point.id for point in points)
        if offset is None:
            return found


def collections(app_id: str, label: str, dimension: int) -> dict[Kind, str]:
    """The collection of each kind, for vectors of this model only."""
    # The hash keeps apart what the letters do not: 'a/b' and 'a:b'.
    word = re.sub(r"[^a-z0-9.]+", "-", label.lower())[:60].strip("-.")
    mark = sha256(label.encode()).hexdigest()[:8]
    return {kind: f"{app_id}-memory-{kind}-{word}-{mark}-{dimension}" for kind in KINDS}


def _is_of(payload: dict[str, Any] | None, without: str) -> bool:
    """Whether the id of a note begins with `without`, where there is such a beginning."""
    return bool(without) and str((payload or {}).get("id", "")).startswith(without)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
