"""The command line: every command with its section, its options and a line of help.

It imports none of them, so that help and completion come at once.
"""

import click

from penstock.commands.command import Command


class WorkerCommand(click.Command):
    """Faust's worker, with the options that it has there. Faust's command line runs it."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from penstock.commands.worker import worker

        found: list[click.Parameter] = worker._click.get_params(ctx)
        return found


as_json = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, for programs.")
wait_for_job = click.Option(["--wait"], is_flag=True, help="Wait until it is over.")
wait_for_runs = click.Option(["--wait"], is_flag=True, help="Follow the runs to their end.")


def tags(help: str) -> click.Option:
    return click.Option(["--tag", "tags"], multiple=True, metavar="NAME=VALUE", help=help)


#: So that a shell completes them; whether they are there the command itself says.
file = click.Path(readable=False, allow_dash=True)

#: In the order in which help shows them.
SECTIONS = {
    "Runs": (
        Command(
            "story",
            "runs:story",
            "Write a story from a premise, now, and print it.",
            click.Argument(["premise"], required=False),
            as_json,
        ),
        Command(
            "run",
            "runs:run",
            "Begin a run of a pipeline, now, and print what it makes.",
            click.Argument(["pipeline"]),
            click.Argument(["text"], required=False),
            as_json,
        ),
        Command(
            "submit",
            "runs:submit",
            "Put a run, or a file of runs, on for the worker.",
            click.Argument(["pipeline"]),
            click.Argument(["text"], required=False),
            click.Option(["--premise"], help="The premise of a story."),
            click.Option(
                ["--part", "parts"],
                multiple=True,
                metavar="NAME=VALUE",
                help="What the run begins with, by name; may be repeated.",
            ),
            tags("What the run is to be found by; may be repeated. No prompt has it."),
            click.Option(
                ["--file"],
                type=file,
                metavar="RUNS.JSONL",
                help='One run a line: {"premise": ...}, with an optional trace_id and tags. "-" is'
                " stdin.",
            ),
            click.Option(
                ["--trace-id"], help="A UUID of your own; one that was used before begins nothing."
            ),
            wait_for_runs,
            as_json,
        ),
        Command(
            "runs",
            "listing:runs",
            "List the runs, the newest first, or find some by what they are.",
            click.Option(["--pipeline"], metavar="NAME", help="Of this pipeline."),
            click.Option(
                ["--state"],
                type=click.Choice(["running", "done", "dead", "cancelled"]),
                help="That are so now.",
            ),
            click.Option(
                ["--text"], metavar="WORDS", help='In which these words stand, or "these together".'
            ),
            click.Option(
                ["--card"], metavar="NAME", help="That had this agent: NAME, or NAME@HASH."
            ),
            click.Option(["--model"], metavar="NAME", help="That asked this model."),
            click.Option(["--cost"], metavar="'>0.1'", help="By their cost in US dollars."),
            click.Option(["--took"], metavar="'>30s'", help="By their time: s, m, h or d."),
            click.Option(
                ["--since"], metavar="2h", help="That began since: 30m, 2h, 7d or a date."
            ),
            tags("That were submitted with this tag; may be repeated."),
            click.Option(
                ["--limit"],
                type=click.IntRange(1, 100_000),
                default=50,
                show_default=True,
                help="So many at most.",
            ),
            as_json,
        ),
        Command(
            "trace",
            "runs:trace",
            "Draw a run as a tree: what each step waited for, called, made and cost.",
            click.Argument(["trace_id"]),
            click.Option(["--full"], is_flag=True, help="Texts whole."),
            as_json,
        ),
        Command(
            "cost",
            "listing:cost",
            "Sum up what calls of models used and cost, and what recalled answers saved.",
            click.Option(
                ["--by"],
                type=click.Choice(["pipeline", "card", "model", "day", "tag"]),
                default="pipeline",
                show_default=True,
                help="What to sum by; days are UTC.",
            ),
            as_json,
        ),
        Command(
            "rerun",
            "runs:rerun",
            "Run again from a step on, as a new run.",
            click.Argument(["trace_id"]),
            click.Option(
                ["--from", "topic"],
                required=True,
                metavar="TOPIC",
                help="The topic whose event the new run goes on from.",
            ),
            click.Option(["--wait"], is_flag=True, help="Follow the run to its end."),
            as_json,
        ),
        Command(
            "cancel",
            "runs:cancel",
            "End a run where it is: its calls are cut off, and no worker takes it up again.",
            click.Argument(["trace_id"], required=False),
            click.Option(
                ["--topic"],
                metavar="NAME",
                help="Not one, but all that wait on a topic which no stage reads any more.",
            ),
            as_json,
        ),
        Command(
            "dead-letters",
            "dead_letters:dead_letters",
            "List dead letters, show one, replay or drop them.",
            click.Argument(
                ["action"],
                required=False,
                default="list",
                type=click.Choice(["list", "show", "replay", "drop"]),
            ),
            click.Argument(["dead_letter_id"], required=False),
            click.Option(["--edit"], is_flag=True, help="Mend the record before a replay."),
            click.Option(["--all", "every"], is_flag=True, help="Not one, but all."),
            click.Option(["--cause"], metavar="NAME", help="With --all: those of one cause."),
            click.Option(["--full"], is_flag=True, help="With show: also long texts as a whole."),
            as_json,
        ),
    ),
    "Jobs": (
        Command(
            "push-job",
            "jobs:push_job",
            "Push a job: an agent answers it by its system prompt, and the answer is a file.",
            click.Argument(["name"]),
            click.Option(["--system"], required=True, help="What the agent is told to be."),
            click.Option(["--query"], required=True, help="What it is asked."),
            click.Option(["--context", "about"], help="What it should know."),
            click.Option(
                ["--output-file"],
                required=True,
                metavar="NAME",
                help="The answer's file, under data/outputs/.",
            ),
            click.Option(
                ["--priority"],
                type=click.Choice(["high", "low"]),
                default="low",
                show_default=True,
                help="High ones go before all low ones.",
            ),
            wait_for_job,
            as_json,
        ),
        Command(
            "job-status",
            "jobs:job_status",
            "Say what has become of a job, and of others that were pushed under its name.",
            click.Argument(["name"]),
            wait_for_job,
            as_json,
        ),
        Command("jobs", "jobs:jobs", "List the jobs, the first that was pushed first.", as_json),
        Command(
            "cancel-job",
            "jobs:cancel_job",
            "End a job where it is: no worker takes it up again.",
            click.Argument(["name"]),
            as_json,
        ),
    ),
    "Projects": (
        Command(
            "new",
            "projects:new",
            "Make a project of your own in a new folder.",
            click.Argument(["name"]),
        ),
        Command(
            "check",
            "projects:check",
            "Check the cards, chains and steps of this project.",
            as_json,
        ),
        Command(
            "settings",
            "projects:settings",
            "List the settings, their defaults and what they mean.",
            as_json,
        ),
        Command(
            "sandbox",
            "sandbox:sandbox",
            "Run a Python file where it can do no harm, and print the verdict.",
            click.Argument(["file"], required=False, type=file),
            click.Option(
                ["--stdin"], type=file, metavar="FILE", help="What it reads; '-' is this stdin."
            ),
            click.Option(
                ["--expected"], type=file, metavar="FILE", help="What it must print to pass."
            ),
            click.Option(
                ["--warm-up"], is_flag=True, help="Make it ready and test it; run nothing."
            ),
            as_json,
        ),
    ),
    "Operations": (
        WorkerCommand("worker", help="Start a worker that runs the pipelines."),
        Command(
            "status",
            "status:status",
            "Show how the workers are: their broker, models, memory and sandbox.",
            as_json,
        ),
        Command(
            "lag",
            "lag:lag",
            "Show how many events of each topic are not finished, and what is held back.",
            as_json,
        ),
        Command(
            "doctor",
            "doctor:doctor",
            "Check broker, models, cards, chains and folders, and say what to do.",
            as_json,
        ),
        Command(
            "stress",
            "stress:stress",
            "Put many tasks on the mesh at once, and show how it copes.",
            click.Argument(["count"], type=click.IntRange(1, 100_000), default=50, required=False),
            as_json,
        ),
    ),
}
