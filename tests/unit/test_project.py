"""A project: its cards, chains and steps, read together, with all that is wrong with them."""

import pathlib

import pytest

from penstock.errors import ChainError, ProjectError
from penstock.project.project import Project, read_project
from tests.unit.conftest import CARD, CHAIN, make_project

STEP = """\
from penstock.steps import step, tool

@step("shout")
async def shout(work):
    return "!"

@tool("look")
def look(what: str) -> str:
    return what
"""
SHOUT = """\
pipeline: shouting
topics: {word: A word, loud: The word}
stages:
  - {reads: word, step: shout, writes: loud}
"""


def problems(project: Project) -> list[str]:
    """What is wrong, without the name of the temporary folder."""
    return [problem.replace(f"{project.root}/", "") for problem in project.problems]


@pytest.fixture
def read(tmp_path):
    return lambda *args, **options: read_project(make_project(tmp_path, *args, **options))


def test_a_sound_project_has_its_cards_chains_and_steps(read):
    project: Project = read(steps={"loud": STEP})
    assert project.problems == []
    project.require_sound()
    assert list(project.cards) == ["teller"]
    assert list(project.chains) == ["tale"]
    assert {"shout", "present"} <= set(project.registry.steps)
    assert set(project.registry.tools) == {"look"}
    assert [stage.name for stage in project.stages] == [
        "tale_teller_idea", "tale_teller_polish_draft", "tale_present_text",
    ]  # fmt: skip


def test_the_project_that_is_shipped_is_sound():
    project = read_project(pathlib.Path(__file__).parents[2])
    assert project.problems == []
    assert project.chain("story").entry == "premise"


def test_a_chain_of_python_steps_only_needs_no_card(read):
    project: Project = read(SHOUT, cards={}, steps={"loud": STEP})
    assert project.problems == []
    assert list(project.chains) == ["shouting"]


def test_a_folder_without_a_chain_says_how_to_get_one(tmp_path):
    (problem,) = read_project(tmp_path).problems
    assert problem.startswith(f"{tmp_path}: there is no chain here (topics/NAME.yaml).")
    assert "PENSTOCK_PROJECT" in problem and "penstock new NAME" in problem


def test_a_missing_card_is_named_with_the_one_that_was_probably_meant(read):
    assert problems(read(CHAIN.replace("agent: teller,", "agent: tellr,"))) == [
        f"topics/tale.yaml:{line}: the card agents/tellr.md is missing. Did you mean 'teller'?"
        for line in (8, 9)
    ]


def test_what_a_broken_card_says_is_read_all_the_same(read):
    assert problems(read(cards={"teller": "---\ntemperature: 9\n---\nTell."})) == [
        "agents/teller.md:2: 'temperature' is 9: Input should be less than or equal to 2",
        "topics/tale.yaml:9: agents/teller.md has no section '## Task: polish'. Tasks there: none.",
    ]
    (said,) = problems(read(cards={"teller": "---\nabout: [\n---\nTell."}))
    assert said.startswith("agents/teller.md:3: not YAML: "), "what its body says is not looked at"


def test_a_missing_task_is_named_with_the_tasks_that_there_are(read):
    assert problems(read(CHAIN.replace("task: polish", "task: polsh"))) == [
        "topics/tale.yaml:9: agents/teller.md has no section '## Task: polsh'."
        " Did you mean 'polish'? Tasks there: polish."
    ]


def test_a_card_of_tasks_only_cannot_be_used_without_one(read):
    (problem,) = problems(read(cards={"teller": "## Task: polish\n\nTell.\n"}))
    assert problem == "topics/tale.yaml:8: agents/teller.md has no instructions for this stage"


def test_a_missing_step_is_named_with_the_steps_that_there_are(read):
    (problem,) = problems(read(CHAIN.replace("step: present", "step: presnt")))
    assert problem == (
        "topics/tale.yaml:10: there is no step 'presnt'. Did you mean 'present'?"
        " Steps: persist, present, sandbox, take_job, write_file. Register one in steps/*.py"
        " with @step."
    )


def test_a_missing_tool_is_named_with_the_tools_that_there_are(read):
    card = CARD.replace("about: Tells it", "tools: [lok]")
    (problem,) = problems(read(cards={"teller": card}, steps={"loud": STEP}))
    assert problem == (
        "agents/teller.md:2: there is no tool 'lok'. Did you mean 'look'?"
        " Tools: look. Register one with @tool."
    )
    (problem,) = problems(read(cards={"teller": card}))
    assert "Tools: look" in problem, "what a step file left behind in this folder is read again"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import penstock.steps\n\nraise KeyError('x')\n", "steps/bad.py:3: KeyError: 'x'"),
        ("import nowhere\n", "steps/bad.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1\nif True\n", "steps/bad.py:2: SyntaxError: expected ':'"),
        ("raise ValueError('two\\nlines')\n", "steps/bad.py:1: ValueError: two lines"),
        ("x = 1\nraise SystemExit(3)\n", "steps/bad.py:2: SystemExit: 3"),
        (
            "from penstock.steps import step\n@step('two')\ndef two(a, b): ...\n",
            "steps/bad.py:2: the step 'two' takes one argument, the work",
        ),
        (
            "from penstock.steps import step\n@step('present')\ndef mine(work): ...\n",
            "steps/bad.py:2: 'present' is already registered by Penstock",
        ),
    ],
)
def test_a_step_file_that_cannot_be_loaded_is_said_with_its_line(read, source, expected):
    (problem,) = problems(read(steps={"bad": source}))
    assert problem.startswith(expected)


def test_two_files_cannot_register_one_name(read):
    (problem,) = problems(read(steps={"a": STEP, "b": STEP}))
    assert problem == "steps/b.py:3: 'shout' is already registered by steps/a.py"


def test_a_dataclass_in_a_step_file_finds_its_module(read):
    source = (
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass\nclass Word:\n    text: str\n" + STEP
    )
    assert read(SHOUT, steps={"loud": source}).problems == []


def test_steps_are_the_projects_own(read, tmp_path):
    read(steps={"loud": STEP})
    other = read_project(make_project(tmp_path / "other"))
    assert "shout" not in other.registry.steps


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (CHAIN, ["topics/two.yaml:1: the pipeline 'tale' is also in topics/tale.yaml"]),
        (
            CHAIN.replace("pipeline: tale", "pipeline: fable"),
            [
                f"topics/two.yaml:{line}: the topic '{topic}' belongs to 'tale' (topics/tale.yaml);"
                " a topic belongs to one pipeline"
                for line, topic in ((4, "idea"), (5, "draft"), (6, "text"))
            ],
        ),
        (
            "pipeline: fable\ntopics: {a: A}\n"
            "stages: [{reads: a, step: present, name: tale_present_text}]\n",
            ["topics/two.yaml:3: another pipeline has a stage 'tale_present_text'"],
        ),
    ],
)
def test_two_chains_that_collide_are_refused_and_the_first_stays(tmp_path, second, expected):
    root = make_project(tmp_path)
    (root / "topics" / "two.yaml").write_text(second)
    project = read_project(root)
    assert problems(project) == expected
    assert project.chains["tale"].file == root / "topics" / "tale.yaml"


def test_all_problems_are_said_at_once_and_the_rest_is_read_on(read):
    project: Project = read(
        CHAIN.replace("step: present", "step: nope"),
        cards={"teller": CARD, "other": ""},
        steps={"bad": "import nowhere\n"},
    )
    assert len(project.problems) == 3
    with pytest.raises(ProjectError) as caught:
        project.require_sound()
    assert caught.value.message == "\n".join(project.problems)


def test_an_unknown_pipeline_is_refused_with_the_ones_that_there_are(project):
    assert project.chain("tale").entry == "idea"
    with pytest.raises(ChainError) as caught:
        project.chain("tail")
    assert caught.value.message == (
        "there is no pipeline 'tail'. Did you mean 'tale'? Pipelines here: tale."
    )


def test_a_chain_may_end_in_yml_too(tmp_path):
    root = make_project(tmp_path)
    (root / "topics" / "tale.yaml").rename(root / "topics" / "tale.yml")
    assert list(read_project(root).chains) == ["tale"]


JUDGED = """\
pipeline: judged
topics: {work: A work, good: Good, bad: Bad}
stages:
  - {reads: work, agent: judge, part: judgement, by: BY, outcomes: {OUTCOMES}}
"""
JUDGE = """\
---
output:
  type: object
  required: [verdict]
  properties: {verdict: {enum: [PASS, FAIL]}, score: {type: number}}
---
Judge it.
"""
BOTH = "PASS: {writes: good}, FAIL: {writes: bad}"


@pytest.mark.parametrize(
    ("by", "outcomes", "said"),
    [
        ("verdict", BOTH, None),
        ("score", "'5': {writes: good}, else: {writes: bad}", None),
        (
            "verdic",
            BOTH,
            "'by: verdic' is no field of the output of agents/judge.md (verdict, score). Did you"
            " mean 'verdict'?",
        ),
        (
            "verdict",
            "PASS: {writes: good}, FAILED: {writes: bad}",
            "'FAILED' is no value of 'verdict' in agents/judge.md (PASS, FAIL). Did you mean"
            " 'FAIL'?",
        ),
        (
            "verdict",
            "PASS: {writes: good}",
            "'verdict' of agents/judge.md can be 'FAIL', and no outcome says where that goes. Add"
            " it, or 'else'",
        ),
    ],
)
def test_what_decides_a_branch_is_in_the_cards_schema_and_each_value_has_a_way(
    read, by, outcomes, said
):
    chain = JUDGED.replace("BY", by).replace("OUTCOMES", outcomes)
    if "bad" not in outcomes:
        chain = chain.replace(", bad: Bad", "")
    found = problems(read(chain, cards={"judge": JUDGE}))
    assert found == ([] if said is None else [f"topics/tale.yaml:4: {said}"])


def test_a_branch_by_an_agent_that_answers_in_prose_is_refused(read):
    chain = JUDGED.replace("BY", "verdict").replace("OUTCOMES", BOTH)
    (said,) = problems(read(chain, cards={"judge": "Judge it.\n"}))
    assert "'by: verdict' needs an answer in JSON, and agents/judge.md has no 'output'" in said


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("gpt-4.1-mini", "is not a provider"),
        ("anthropic/claude", "is not a provider"),
        ("opnai/gpt-4.1-mini", "is not a provider"),
        ("ollama/", "the name is missing"),
        ("offline/x", "the offline model is"),
        ("local/gone.gguf", "there is no file"),
        ("http://", "there is no host"),
        ("http://host:port/v1#m", "or no port"),
    ],
)
def test_a_name_that_is_no_models_is_said_when_the_card_is_read(read, model, what):
    cards = {"teller": CARD, "unused": f"---\nmodel: '{model}'\n---\nTell it.\n"}
    (said,) = problems(read(cards=cards))
    assert said.startswith(f"agents/unused.md:2: model '{model}': ")
    assert what in said


def test_a_tool_that_is_not_there_is_said_also_of_a_card_that_nobody_uses_yet(read):
    cards = {"teller": CARD, "unused": "---\ntools: [lok]\n---\nLook.\n"}
    (said,) = problems(read(cards=cards, steps={"loud": STEP}))
    assert said.startswith("agents/unused.md:2: there is no tool 'lok'. Did you mean 'look'?")


def test_what_only_hardly_anybody_means_is_no_problem(read):
    meeting = (
        CHAIN.replace("reads: draft, agent", "reads: idea, agent")
        .replace("task: polish, writes: text", "task: polish, writes: draft")
        .replace("reads: text, step: present", "reads: draft, step: present, writes: text")
    )
    project: Project = read(meeting)
    project.require_sound()
    (warning,) = project.warnings
    assert "topics/tale.yaml:9: 'tale_teller_idea' and 'tale_teller_polish_idea' both" in warning


@pytest.mark.parametrize(
    ("front", "key", "name"),
    [
        ("given: [ides, draft]", "given", "ides"),
        ("instructions_from: tone", "instructions_from", "tone"),
        ("recall: {about: [idea, tilte]}", "recall.about", "tilte"),
    ],
)
def test_what_a_card_takes_out_of_the_run_can_be_there(read, front, key, name):
    chain = CHAIN.replace("agent: teller, task: polish", "agent: editor")
    cards = {"teller": CARD, "editor": f"---\n{front}\n---\nMend it.\n"}
    (said,) = problems(read(chain, cards=cards))
    assert said.startswith(
        f"topics/tale.yaml:9: '{key}' of agents/editor.md names '{name}', which is no part of"
        " 'tale' and no field of 'draft' (idea, draft, text"
    )
    schema = "{type: object, properties: {ides: {}, tone: {}, tilte: {}}}"
    cards["teller"] = CARD.replace("about: Tells it", f"output: {schema}")
    assert problems(read(chain, cards=cards)) == [], "a field of what the stage reads"
    chain = chain.replace("agent: teller", "step: present")
    assert problems(read(chain, cards=cards)) == [], "a step writes what it likes"


def test_files_that_are_neither_cards_nor_chains_are_not_passed_over_in_silence(tmp_path):
    root = make_project(tmp_path)
    for name in ("agents/b.markdown", "topics/c.json", "agents/.hidden"):
        (root / name).write_text("")
    warnings = read_project(root).warnings
    assert [said.removeprefix(f"{root}/") for said in warnings] == [
        "agents/b.markdown: is not read: agents/ is for NAME.md",
        "topics/c.json: is not read: topics/ is for NAME.yaml",
    ]
