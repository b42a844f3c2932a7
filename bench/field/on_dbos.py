"""DBOS: a workflow of four steps, on SQLite.

The workflow's input and each step's result are a transaction of their own before the workflow goes
on, so a finished step is not called again after a crash; the one that was under way is. What was
pending is taken up again by `DBOS.launch()`.
"""

import pathlib

from dbos import DBOS, DBOSConfig, SetWorkflowID

from bench.calls import CALLS, TEXT
from bench.field.chain import TaskChain
from bench.figures import Options
from bench.projects import STAGES

#: Workflows are functions of a module, which DBOS finds by their names; so is what they call.
call = CALLS["instant"]


@DBOS.step()
async def answer(text: str) -> str:
    return await call()


@DBOS.workflow()
async def chain(text: str) -> str:
    for _ in range(STAGES):
        text = await answer(text)
    return text


class Dbos(TaskChain):
    def __init__(self, folder: pathlib.Path, options: Options) -> None:
        global call
        super().__init__(folder, options)
        call = self.call
        self._config: DBOSConfig = {
            "name": "bench",
            "system_database_url": f"sqlite:///{folder / 'dbos.db'}",
            "application_version": "1",
            "executor_id": "bench",
            "log_level": "ERROR",
        }

    async def start(self) -> None:
        DBOS(config=self._config)
        DBOS.launch()

    async def stop(self) -> None:
        DBOS.destroy()

    async def run(self, id_: str) -> None:
        with SetWorkflowID(id_):
            await chain(TEXT)
