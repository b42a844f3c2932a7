"""LangGraph: a graph of four nodes with its SQLite saver.

`durability="sync"`: a checkpoint is written, on a database with `synchronous=FULL`, before the next
node starts, so a finished node is not called again after a crash; the one that was under way is.
Nobody resumes a run: the application has to know its threads, and ask for each again.
"""

import pathlib
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.calls import TEXT
from bench.field.chain import TaskChain
from bench.figures import Options
from bench.projects import STAGES


class State(TypedDict):
    text: str


def _config(id_: str) -> RunnableConfig:
    return {"configurable": {"thread_id": id_}}


class LangGraph(TaskChain):
    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        super().__init__(folder, options)
        self._opening = AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db"))
        self._builder = StateGraph(State)
        names = [f"s{number}" for number in range(STAGES)]
        for name in names:
            self._builder.add_node(name, self._answer)
        for before, after in zip([START, *names], [*names, END], strict=True):
            self._builder.add_edge(before, after)
        self._graph: Any = None
        self._left: set[str] = set()

    async def _answer(self, state: State) -> State:
        return {"text": await self.call()}

    async def start(self) -> None:
        saver = await self._opening.__aenter__()
        self._graph = self._builder.compile(checkpointer=saver)
        threads = {
            found.config["configurable"]["thread_id"]: None async for found in saver.alist(None)
        }
        for id_ in threads:
            if (await self._graph.aget_state(_config(id_))).next:
                self._left.add(id_)
                await self.begin(id_)

    async def stop(self) -> None:
        await self._opening.__aexit__(None, None, None)

    async def run(self, id_: str) -> None:
        # Without an input a thread goes on from its last checkpoint.
        given = None if id_ in self._left else {"text": TEXT}
        await self._graph.ainvoke(given, _config(id_), durability="sync")
