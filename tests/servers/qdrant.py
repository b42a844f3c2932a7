"""As much of Qdrant's HTTP API as the memory uses, over an embedded Qdrant in a folder.

Run as `python tests/servers/qdrant.py --port 0 --folder FOLDER`; prints `{"port": N}` when it
listens. A stand-in for the server, whose binary no package registry has: what the client sends and
what becomes of it are real, the server's own behaviour under load is not. With `--key` it answers
401 to everybody who has another one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from qdrant_client import QdrantClient, models


class Server:
    """One collection API call, one call of the embedded client, on the loop: nothing overlaps."""

    def __init__(self, folder: str, key: str) -> None:
        self.client = QdrantClient(path=folder)
        self.key = key

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self.guard])
        one = "/collections/{name}"
        application.router.add_get("/collections", self.collections)
        application.router.add_get(f"{one}/exists", self.exists)
        application.router.add_put(one, self.create)
        application.router.add_delete(one, self.delete)
        application.router.add_put(f"{one}/index", self.index)
        application.router.add_put(f"{one}/points", self.upsert)
        application.router.add_post(f"{one}/points/query", self.query)
        application.router.add_post(f"{one}/points/count", self.count)
        application.router.add_post(f"{one}/points/scroll", self.scroll)
        application.router.add_post(f"{one}/points", self.retrieve)
        return application

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.key and request.headers.get("api-key") != self.key:
            return web.Response(status=401, text="Must provide an API key")
        try:
            answer: web.StreamResponse = await handler(request)
        except ValueError as exc:
            status = 404 if "not found" in str(exc) else 400
            return web.json_response({"status": {"error": str(exc)}, "time": 0.0}, status=status)
        return answer

    async def collections(self, request: web.Request) -> web.Response:
        return result(self.client.get_collections())

    async def exists(self, request: web.Request) -> web.Response:
        return result({"exists": self.client.collection_exists(request.match_info["name"])})

    async def create(self, request: web.Request) -> web.Response:
        asked = models.CreateCollection.model_validate(await request.json())
        self.client.create_collection(request.match_info["name"], vectors_config=asked.vectors)
        return result(True)

    async def delete(self, request: web.Request) -> web.Response:
        return result(self.client.delete_collection(request.match_info["name"]))

    async def index(self, request: web.Request) -> web.Response:
        models.CreateFieldIndex.model_validate(await request.json())
        return result({"operation_id": 0, "status": "completed"})

    async def upsert(self, request: web.Request) -> web.Response:
        asked = models.PointsList.model_validate(await request.json())
        return result(self.client.upsert(request.match_info["name"], points=asked.points))

    async def query(self, request: web.Request) -> web.Response:
        asked = models.QueryRequest.model_validate(await request.json())
        answer = self.client.query_points(
            request.match_info["name"], query=asked.query, limit=asked.limit or 10
        )
        return result(answer)

    async def count(self, request: web.Request) -> web.Response:
        return result(self.client.count(request.match_info["name"]))

    async def scroll(self, request: web.Request) -> web.Response:
        asked = models.ScrollRequest.model_validate(await request.json())
        points, following = self.client.scroll(
            request.match_info["name"],
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=asked.with_payload or False,
        )
        found = [point.model_dump(mode="json") for point in points]
        return result({"points": found, "next_page_offset": following})

    async def retrieve(self, request: web.Request) -> web.Response:
        asked = models.PointRequest.model_validate(await request.json())
        found = self.client.retrieve(request.match_info["name"], asked.ids)
        return result([point.model_dump(mode="json") for point in found])


def result(value: Any) -> web.Response:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return web.json_response({"result": value, "status": "ok", "time": 0.0})


async def serve(arguments: argparse.Namespace) -> None:
    runner = web.AppRunner(Server(arguments.folder, arguments.key).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", arguments.port).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="As much of Qdrant as the memory uses.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--folder", required=True, help="where the points are")
    parser.add_argument("--key", default="", help="the API key that it asks for")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
