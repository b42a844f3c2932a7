"""A chain's telemetry, its start, its single workers, and agents that are asked again."""

from penstock.project.chains import Chain
from penstock.project.project import read_project
from tests.unit.conftest import CHAIN, make_project
from tests.unit.test_chains import read, read_any, refused

__all__ = ["read", "read_any", "refused"]

WITH_TELEMETRY = CHAIN.replace(
    "stages:", "  activity: What was done\ntelemetry: activity\nstages:", 1
)


def test_the_stages_of_agents_have_the_chains_telemetry_and_steps_have_none(read):
    chain: Chain = read(WITH_TELEMETRY)
    assert chain.telemetry == "activity"
    assert [stage.telemetry for stage in chain.stages] == ["activity", "activity", None]
    assert read(CHAIN).telemetry is None


def test_telemetry_on_a_topic_that_there_is_not_is_refused_with_the_one_meant(refused):
    message = refused(WITH_TELEMETRY.replace("telemetry: activity", "telemetry: activty"))
    assert message == (
        "tale.yaml:8: 'activty' is not one of the topics (idea, draft, text, activity)."
        " Did you mean 'activity'?"
    )


def test_a_chain_begins_by_itself_unless_it_says_otherwise(read, refused):
    assert read(CHAIN).start == "automatic"
    assert read(CHAIN + "start: manual\n").start == "manual"
    assert "'start' is 'never': " in refused(CHAIN + "start: never\n")
    seedless = CHAIN.partition("seed:")[0]
    message = refused(seedless + "start: manual\n")
    assert message == "tale.yaml:11: 'start: manual' is about the seed, and there is none"


def test_one_worker_is_a_word_of_the_stage_and_makes_its_topic_one_workers(tmp_path, read, refused):
    text = CHAIN.replace("step: present", "step: present, one_worker: true")
    assert [stage.one_worker for stage in read(text).stages] == [False, False, True]
    project = read_project(make_project(tmp_path / "one", text))
    assert project.problems == [] and project.one_worker_topics == {"text"}
    assert "'stages.2.one_worker' is 'yes please'" in refused(
        CHAIN.replace("step: present", "step: present, one_worker: yes please")
    )


def test_an_agent_that_is_asked_again_has_another_task_and_a_step_has_none(tmp_path, read, refused):
    text = CHAIN.replace(
        "agent: teller, writes: draft", "agent: teller, again: polish, writes: draft"
    )
    assert [stage.again for stage in read(text).stages] == ["polish", None, None]
    assert read_project(make_project(tmp_path / "again", text)).problems == []
    assert "'again' goes with 'agent', not with 'step'" in refused(
        CHAIN.replace("step: present", "step: present, again: polish")
    )
    wrong = read_project(
        make_project(tmp_path / "wrong", text.replace("again: polish", "again: mend"))
    )
    (problem,) = wrong.problems
    assert "has no section '## Task: mend'. Tasks there: polish." in problem
