"""The Faust app of this repository, built in the open.

What it runs is data. Each file in topics/ is a pipeline: its topics are Faust's topics, and each of
its stages is a Faust agent that reads one of them; what a stage tells its model is a card in
agents/. `faust -A app agents` lists them all. Those of topics/story.yaml:

    plotter_agent_stream  premise  -> plot
    writer_agent_stream   plot     -> story
    critic_agent_stream   story    -> critique
    writer_revise_stream  critique -> final
    editor_output_stream  final    -> the console
"""

import penstock.commands.faust_commands  # noqa: F401 - `faust -A app NAME` has Penstock's, too
from penstock.project.project import read_project
from penstock.settings import Settings
from penstock.worker.application import PenstockApp
from penstock.worker.seeding import begin_seeds, run_timers

settings = Settings.read()  # PENSTOCK_*
project = read_project(settings.root)  # topics/*.yaml and agents/*.md
app = PenstockApp(settings, project)  # a topic for each topic, an agent for each stage


@app.task
async def initiate_pipeline_once() -> None:
    """Begin each pipeline's first run, from the `seed` of its file."""
    await begin_seeds(app)


@app.task
async def create_runs_at_interval() -> None:
    """Begin further ones, every `every_s` seconds where the file has it."""
    await run_timers(app)
