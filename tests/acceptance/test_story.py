"""`penstock story`: a finished story on an empty machine, with progress, labels and its trace."""

import re

import pytest

from tests.acceptance.homes import LABEL, UUID, Home, Screen, finals
from tests.servers import ScriptedServer

#: Who tells of which topic, in the order of the story.
STAGES = [("plotter", "plot"), ("writer", "story"), ("critic", "critique"), ("writer", "final")]
TOPICS = ["premise", *(topic for _, topic in STAGES)]
#: Who, what, how long, tokens in and out.
STAGE_LINE = re.compile(r"^  (\w+) +→ (\w+) +\d+\.\d s +(\d+) tokens in, (\d+) out$")
ODD = "Zoë & „der <b>Mond</b>“ — 100% of $HOME, `ls`; 'it''s' \\n {x} 🐕\nand a second line"


def stages_shown(screen: Screen) -> list[tuple[str, str]]:
    """Who told of what, by the progress on stderr; the first line is the premise."""
    lines = [STAGE_LINE.match(line) for line in screen.err.splitlines() if "→" in line]
    assert all(line and int(line[3]) and int(line[4]) for line in lines), screen.err
    return [(line[1], line[2]) for line in lines if line]


def parts_of(screen: Screen) -> tuple[str, str]:
    """The trace id and the story of a screen; in front of it stand its heading and the label."""
    heading, label, empty, story = screen.out.split("\n", 3)
    (trace_id,) = finals(heading)
    assert LABEL in label and not empty
    return trace_id, story


def test_a_story_shows_a_line_for_each_stage_and_prints_the_story_last(home: Home) -> None:
    screen = home.run("story", "A lighthouse that is afraid of the dark")

    assert stages_shown(screen) == STAGES
    trace_id, story = parts_of(screen)
    assert UUID.findall(screen.err) == [trace_id]
    assert "A lighthouse that is afraid of the dark" in screen.err.splitlines()[0]
    assert "lighthouse" in story and "dark" in story
    assert len(story.split("\n\n")) > 5 and len(story) > 1000, story


def test_a_premise_of_odd_characters_is_taken_as_it_stands(home: Home) -> None:
    screen = home.run("story", "--", f"--{ODD}\x1b[31m")

    trace_id, story = parts_of(screen)
    assert stages_shown(screen) == STAGES
    assert len(story) > 500
    # The record is exact; the screen shows no control character.
    (run,) = home.read(trace_id)
    assert run.entries[0].event.parts == {"premise": f"--{ODD}\x1b[31m"}
    assert ODD in screen.err and "\x1b" not in screen.text


def test_the_same_trace_gets_the_same_text_on_another_machine(
    home: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trace_id, story = parts_of(home.run("story", "A shy volcano"))
    other = Home(tmp_path_factory.mktemp("other"), PENSTOCK_SEED="0")

    other.submit("--premise", "A shy volcano", "--trace-id", trace_id)
    with other.worker():
        (again,) = other.wait_for(trace_id)

    (first,) = home.read(trace_id)
    assert [entry.event.parts for entry in again.entries] == [
        entry.event.parts for entry in first.entries
    ]
    assert again.answer == story.rstrip("\n")


def test_stories_at_the_same_time_keep_their_own_trace_ids_and_texts(
    home: Home, scripted: ScriptedServer
) -> None:
    # A model that takes its time, so that the first command's end is not the others'.
    scripted.script([{"fault": "timeout", "seconds": 0.3, "times": 12}])
    premises = ["a red kite", "a blue door", "a green hat"]
    model = f"{scripted.base_url}#scripted"

    commands = [home.start("story", premise, PENSTOCK_MODEL=model) for premise in premises]

    shown = {}
    for premise, command in zip(premises, commands, strict=True):
        done = command.finish()
        screen = Screen(done.returncode, done.stdout, done.stderr).ended()
        (trace_id,) = finals(screen.out)
        assert UUID.findall(screen.err) == [trace_id]
        assert stages_shown(screen) == STAGES
        shown[trace_id] = premise
    assert len(shown) == 3
    for run in home.read(*shown):
        assert [entry.topic for entry in run.entries] == TOPICS
        assert {entry.event.parts["premise"] for entry in run.entries} == {shown[run.trace_id]}
    assert len(scripted.logged("answered")) == 12


def test_a_story_is_written_by_the_worker_that_runs_already(
    home: Home, scripted: ScriptedServer
) -> None:
    with home.worker(PENSTOCK_MODEL=f"{scripted.base_url}#scripted"):
        screen = home.run("story", "A shy volcano")

    # The label follows who wrote the text, not the settings of the command.
    assert LABEL not in screen.text
    assert "Scripted answer" in screen.out


def test_without_a_premise_it_is_tim_the_flying_dog_and_a_program_gets_all_of_it_as_json(
    home: Home,
) -> None:
    run = home.run("story", "--json").json()

    assert run["state"] == "done" and run["pipeline"] == "story"
    assert [event["topic"] for event in run["events"]] == TOPICS
    assert run["events"][0]["parts"] == {"premise": "Tim the Flying Dog"}
    assert "Tim" in run["events"][-1]["parts"]["final"]
    assert {event["trace_id"] for event in run["events"]} == {run["trace_id"]}
    assert all(event["usage"]["output_tokens"] > 0 for event in run["events"][1:])
    assert {event["usage"]["model"] for event in run["events"][1:]} == {"offline/storyteller"}
    rubric = run["events"][3]["parts"]["critique"]
    assert rubric.keys() == {"critique", "scores", "verdict"}
    assert rubric["verdict"] in ("publish", "revise", "rewrite")
    assert all(1 <= score <= 10 for score in rubric["scores"].values())
