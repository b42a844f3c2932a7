"""Chains: a pipeline as data, and what is said about one that would not work."""

import itertools
import re
from typing import Any

import pytest

from penstock.errors import ChainError, StepFailed
from penstock.project.branches import Way
from penstock.project.chain_files import read_chain
from penstock.project.chains import Chain, GovernorSpec, StageSpec

SOUND = """\
pipeline: tale
topics:
  idea: What it is about
  draft:
  text: The finished text
stages:
  - {reads: idea, agent: teller, writes: draft}
  - {reads: draft, agent: teller, task: polish, writes: text, carries: [idea]}
  - {reads: text, step: present, name: shower, concurrency: 2}
"""


@pytest.fixture
def read_any(tmp_path):
    def read_(text: str) -> tuple[Chain | None, list[str]]:
        file = tmp_path / "tale.yaml"
        file.write_text(text)
        chain, document = read_chain(file)
        return chain, [said.replace(f"{tmp_path}/", "") for said in document.problems]

    return read_


@pytest.fixture
def read(read_any):
    def read_(text: str) -> Chain:
        chain, said = read_any(text)
        assert isinstance(chain, Chain) and said == []
        return chain

    return read_


@pytest.fixture
def refused(read_any):
    def refused_(text: str) -> str:
        said = read_any(text)[1]
        assert said
        return "\n".join(said)

    return refused_


def stages(*lines: str, topics: str = "") -> str:
    """A chain of these stages, the first of them on line 8, and of those of the topics a to d that
    they or `topics` name."""
    used = re.findall(r"\b[a-d]\b", " ".join(lines)) + list(topics)
    named = "".join(f"  {'' if one in used else '# '}{one}: {one.upper()}\n" for one in "abcd")
    head = f"pipeline: tale\ntopics:\n{named}stages:\n"
    return head + "".join(f"  - {{{line}}}\n" for line in lines)


def test_a_chain_is_its_topics_and_stages_in_the_order_of_the_file(read):
    chain: Chain = read(SOUND)
    assert chain.name == "tale"
    assert [(name, topic.about) for name, topic in chain.topics.items()] == [
        ("idea", "What it is about"), ("draft", ""), ("text", "The finished text"),
    ]  # fmt: skip
    assert [(s.reads, s.agent or s.step, s.writes) for s in chain.stages] == [
        ("idea", "teller", "draft"), ("draft", "teller", "text"), ("text", "present", None),
    ]  # fmt: skip


def test_a_part_has_a_word_in_prompts_the_chains_or_the_last_of_its_name(read, refused):
    named = SOUND.replace("draft:\n", "draft: {about: A first version, as: sketch}\n")
    (_, polish, _) = read(named).stages
    assert [polish.word_for(name) for name in ("idea", "draft", "a.b", "draft.title")] == [
        "idea", "sketch", "b", "title",
    ]  # fmt: skip
    assert read(named).topics["draft"].about == "A first version"
    assert refused(named.replace("as: sketch", "us: sketch")) == (
        "tale.yaml:4: unknown key 'topics.draft.us'. Allowed here: about, as."
    )
    assert "'topics.draft.as' is 'a <b>': " in refused(named.replace("sketch", "a <b>"))
    assert "'topics.draft' is 7: " in refused(SOUND.replace("draft:\n", "draft: 7\n"))


def test_the_entry_is_the_first_topic_or_the_one_that_is_named(read):
    assert read(SOUND).entry == "idea"
    text = "pipeline: p\nentry: b\ntopics: {a: A, b: B}\nstages: [{reads: b, step: x, writes: a}]"
    assert read(text).entry == "b"


def test_a_stage_is_named_after_what_it_does_unless_it_has_a_name(read):
    names = [stage.name for stage in read(SOUND).stages]
    assert names == ["tale_teller_idea", "tale_teller_polish_draft", "shower"]
    dotted = "pipeline: p\ntopics: {a.b: A}\nstages: [{reads: a.b, step: x}]"
    assert read(dotted).stages[0].name == "p_x_a_b"


def test_a_stage_knows_what_it_does(read):
    first, second, third = read(SOUND).stages
    assert (first.does, second.does, third.does) == ("teller", "teller (polish)", "present")
    assert (second.carries, third.concurrency) == (["idea"], 2)
    assert (first.carries, first.concurrency) == (None, None)


def test_an_undeclared_topic_is_refused_with_the_line_and_the_one_meant(refused):
    assert refused(SOUND.replace("writes: draft", "writes: darft")) == (
        "tale.yaml:7: 'darft' is not one of the topics (idea, draft, text). Did you mean 'draft'?"
    )
    assert refused(SOUND.replace("reads: idea", "reads: ideas")).startswith(
        "tale.yaml:7: 'ideas' is not one of the topics"
    )
    assert refused(SOUND.replace("carries: [idea]", "carries: [idae]")).startswith(
        "tale.yaml:8: 'idae' is not one of the topics"
    )
    assert refused(SOUND + "entry: ida\n").startswith("tale.yaml:10: 'ida' is not one of")


def test_a_topic_that_nobody_writes_cannot_be_read(refused):
    message = refused(stages("reads: a, step: x, writes: b", "reads: c, step: y"))
    assert message.startswith("tale.yaml:9: stage 'tale_y_c' reads 'c', which no stage writes")
    assert "the entry ('a')" in message


def test_an_entry_that_nobody_reads_is_refused(refused):
    message = refused(stages("reads: b, step: x, writes: a") + "entry: a\n")
    assert message.startswith("tale.yaml:7: no stage reads the entry, 'a'")


def test_two_stages_of_one_name_are_refused_with_the_way_out(refused):
    message = refused(stages("reads: a, step: x, writes: b", "reads: a, step: x, writes: c"))
    assert message == (
        "tale.yaml:9: two stages are named 'tale_x_a': give one of them another 'name'"
    )


def test_two_stages_may_read_one_topic_and_two_may_write_one(read):
    chain: Chain = read(
        stages(
            "reads: a, step: x, writes: b",
            "reads: a, step: y, writes: b",
            "reads: b, step: z, writes: c",
            "reads: c, step: z, writes: d",
        )
    )
    assert len(chain.stages) == 4


def test_a_topic_that_nobody_reads_or_writes_is_refused_where_it_stands(refused):
    text = stages("reads: a, step: x, writes: b", "reads: b, step: y, writes: c", topics="d")
    said = refused(text)
    assert said == "tale.yaml:6: no stage reads or writes 'd'"


@pytest.mark.parametrize(
    ("lines", "line", "circle"),
    [
        (("reads: a, step: x, writes: a",), 8, "a -> a"),
        (("reads: a, step: x, writes: b", "reads: b, step: y, writes: a"), 9, "a -> b -> a"),
        (
            (
                "reads: a, step: x, writes: b",
                "reads: b, step: out, writes: d",
                "reads: b, step: y, writes: c",
                "reads: c, step: out, writes: d",
                "reads: c, step: z, writes: b",
            ),
            12,
            "b -> c -> b",
        ),
    ],
)
def test_a_cycle_is_refused_at_the_stage_that_closes_it(refused, lines, line, circle):
    message = refused(stages(*lines))
    assert message.startswith(f"tale.yaml:{line}: a cycle without an exit: {circle}.")


def test_a_stage_does_one_thing(refused):
    either = "a stage has either 'agent: CARD' or 'step: NAME', one of the two"
    assert refused(stages("reads: a")).endswith(either)
    assert refused(stages("reads: a, agent: x, step: y")).endswith(either)
    assert "'task' goes with 'agent'" in refused(stages("reads: a, step: y, task: z"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("pipeline: tale\n", "", "tale.yaml:1: the key 'pipeline' is missing."),
        ("pipeline: tale", "pipeline: a tale", "tale.yaml:1: 'pipeline' is 'a tale': "),
        ("  draft:", "  a draft:", "tale.yaml:4: 'topics.a draft.[key]' is 'a draft': "),
        ("topics:", "topic:", "tale.yaml:2: unknown key 'topic'. Did you mean 'topics'?"),
        ("agent: teller, w", "agnt: teller, w", "tale.yaml:7: unknown key 'stages.0.agnt'."),
        ("concurrency: 2", "concurrency: 0", "tale.yaml:9: 'stages.2.concurrency' is 0: "),
        ("stages:", "every_s: 5\nstages:", "'every_s' starts runs from 'seed'"),
        ("stages:", "every_s: -5\nstages:", "'every_s' is -5: "),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_key(refused, old, new, expected):
    assert SOUND.count(old) == 1
    assert expected in refused(SOUND.replace(old, new))


def test_a_chain_without_stages_or_topics_is_refused(refused):
    assert "'stages' is []" in refused("pipeline: p\ntopics: {a: A}\nstages: []\n")
    assert "'topics' is {}" in refused("pipeline: p\ntopics: {}\nstages: [{reads: a, step: x}]\n")


def test_a_seed_is_checked_as_a_run_is(refused, read):
    assert read(SOUND + "seed: {idea: A snail}\n").seed == {"idea": "A snail"}
    assert refused(SOUND + "seed:\n  text: A snail\n") == (
        "tale.yaml:10: seed: a run of 'tale' begins with 'idea' (What it is about); found text"
    )
    assert refused(SOUND + "seed:\n  idea:\n") == "tale.yaml:10: seed: 'idea' is empty"


def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path):
    chain, document = read_chain(tmp_path / "none.yaml")
    (said,) = document.problems
    assert chain is None and said.startswith(f"{tmp_path}/none.yaml:1: cannot be read: ")


def test_what_begins_a_run_is_checked(read):
    chain: Chain = read(SOUND)
    given = {"idea": {"hero": "a snail"}, "draft": "begun"}
    assert chain.read_parts(given) == given
    for parts, expected in (
        ({}, "a run of 'tale' begins with 'idea' (What it is about); found nothing"),
        ({"draft": "x"}, "found draft"),
        ({"idea": "x", "drft": "y"}, "'tale' has no part 'drft'; it knows idea, draft, text"),
        ({"idea": ""}, "'idea' is empty"),
        ({"idea": None}, "'idea' is empty"),
        ({"idea": []}, "'idea' is empty"),
    ):
        with pytest.raises(ChainError) as caught:
            chain.read_parts(parts)
        assert expected in caught.value.message


def test_nought_and_no_are_parts_and_not_empty(read):
    chain: Chain = read(SOUND)
    assert chain.read_parts({"idea": 0}) == {"idea": 0}
    assert chain.read_parts({"idea": False}) == {"idea": False}


BEGUN = Way("task", {}, {})
LOOP = """\
pipeline: loop
topics: {task: T, code: C, good: G}
stages:
  - {reads: task, agent: coder, writes: code}
  - reads: code
    step: try
    part: result
    by: verdict
    outcomes:
      PASS: {writes: good}
      FAIL: {writes: task, at_most: 3, then: good}
      else: {}
  - {reads: good, step: present, carries: [result, code]}
"""


def test_outcomes_say_where_an_answer_goes_and_how_often_it_may_go_back(read):
    coder, trying, shown = read(LOOP).stages
    assert (coder.targets, trying.targets, shown.targets) == (["code"], ["good", "task"], [])
    assert (coder.makes, trying.makes) == ("code", "result")
    assert choose(trying, "PASS") == Way("good", {}, {})
    assert choose(trying, "?") == Way(None, {}, {})
    way = Way("task", {}, {})
    went = []
    for _ in range(5):
        way = choose(trying, "FAIL", way)
        went.append(way.topic)
    assert went == ["task", "task", "task", "good", "good"]
    assert way == Way("good", {"s/FAIL": 3}, {}), "its bound is no news"


def choose(stage: StageSpec, verdict: str, way: Way = BEGUN, **parts: Any) -> Way:
    assert stage.branches is not None
    return stage.branches.choose("s", {"verdict": verdict}, way.rounds, way.seen, parts.get)


def test_a_way_back_is_not_gone_again_with_what_it_was_gone_with_before(read):
    (_, trying, _) = read(LOOP.replace("at_most: 3", "at_most: 9, while_new: code")).stages
    way, went = BEGUN, []
    for code in ("a\nb", "c", "d", None, None, "a  \r\nb\n"):
        way = choose(trying, "FAIL", way, code=code)
        went.append(way.topic)
    assert went == 5 * ["task"] + ["good"], "a part that is not there is no repetition"
    assert way.ended == "code is the same as in round 1" and way.rounds == {"s/FAIL": 5}
    (again,) = {choose(trying, "FAIL", way, code=code).topic for code in ("a\n b", {"a": 1}, "x")}
    assert again == "task"
    assert choose(trying, "PASS", way, code="c").ended == ""


def test_a_way_back_is_not_gone_when_a_part_says_that_it_leads_nowhere(read):
    (_, trying, _) = read(LOOP.replace("at_most: 3", "at_most: 3, unless: code.right")).stages
    for said, topic in ((None, "task"), (False, "task"), ("", "task"), (True, "good")):
        way = choose(trying, "FAIL", BEGUN, **{"code.right": said})
        assert way.topic == topic
    assert (way.ended, way.rounds) == ("code.right is true", {})


def test_an_answer_that_the_chain_has_no_way_for_is_refused_with_the_ways_there_are(read):
    branches = read(LOOP.replace("      else: {}\n", "")).stages[1].branches
    for value, found in (({"verdict": "MAYBE"}, "'MAYBE'"), ({}, "None"), ("PASS", "no JSON")):
        with pytest.raises(StepFailed) as caught:
            branches.choose("s", value, {}, {}, {}.get)
        assert "the chain has PASS, FAIL" in str(caught.value) and found in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("FAIL: {writes: task, at_most: 3, then: good}", "FAIL: {writes: task}",
         "tale.yaml:9: a cycle without an exit: task -> code -> task."),
        ("at_most: 3, then: good", "at_most: 3, then: task",
         "tale.yaml:9: a cycle without an exit: task -> code -> task."),
        ("writes: good}", "writes: god}", "tale.yaml:10: 'god' is not one of the topics"),
        ("then: good", "then: god", "tale.yaml:11: 'god' is not one of the topics"),
        ("at_most: 3, then: good", "then: good", "give both"),
        ("at_most: 3, then: good", "while_new: code", "'while_new' ends a way back"),
        ("at_most: 3", "at_most: 3, unless: cod.x", "tale.yaml:11: 'cod.x' is not one of the"),
        ("    part: result\n", "", "needs 'part: NAME'"),
        ("    by: verdict\n", "", "'by: FIELD' and 'outcomes' go together"),
        ("at_most: 3", "at_most: 0", "tale.yaml:11: 'stages.1.outcomes.FAIL.at_most' is 0"),
        ("at_most: 3", "atmost: 3", "Did you mean 'at_most'?"),
        ("carries: [result", "carries: [resul", "'resul' is not one of the topics"),
    ],
)  # fmt: skip
def test_outcomes_that_would_not_work_are_refused_where_they_stand(refused, old, new, said):
    assert old in LOOP
    assert said in refused(LOOP.replace(old, new))


def test_a_governor_names_a_topic_that_somebody_reads(read, refused):
    governed = SOUND + "governor: {topic: draft, limit: 3}\n"
    assert read(governed).governor == GovernorSpec(topic="draft", limit=3)
    assert "Did you mean 'draft'?" in refused(governed.replace("topic: draft", "topic: drafts"))
    unread = stages("reads: a, step: x, writes: b") + "governor: {topic: b, limit: 3}\n"
    assert "no stage reads 'b', so nothing of it is ever finished" in refused(unread)
    assert "'governor.limit' is -1" in refused(governed.replace("limit: 3", "limit: -1"))


def test_a_chain_may_have_two_entries_and_a_run_begins_with_one_of_them(read):
    text = stages(
        "reads: a, step: x, writes: c",
        "reads: b, step: y, writes: c",
        "reads: c, step: z, writes: d",
    )
    chain = read(text.replace("stages:", "entry: [b, a]\nstages:"))
    assert chain.entries == ("b", "a") and chain.entry == "b"
    assert chain.entry_of({"a": 1}) == "a" and chain.entry_of({}) == "b"
    assert chain.read_parts({"a": "x", "c": "y"}) == {"a": "x", "c": "y"}
    for given, said in (
        ({"c": 1}, "begins with 'b' (B) or 'a' (A); found c"),
        ({"a": 1, "b": 2}, "begins with 'b' (B) or 'a' (A), with one of them; found a, b"),
        ({"a": ""}, "'a' is empty"),
    ):
        with pytest.raises(ChainError) as caught:
            chain.read_parts(given)
        assert said in caught.value.message


def test_each_of_several_entries_must_be_a_topic_that_somebody_reads(refused):
    text = stages("reads: a, step: x, writes: c", topics="b")
    assert "no stage reads the entry, 'b'" in refused(
        text.replace("stages", "entry: [a, b]\nstages")
    )
    assert "tale.yaml:7: 'q' is not one of the topics (a, b, c)" in refused(
        text.replace("stages", "entry: [a, q]\nstages")
    )
    assert "'entry" in refused(text.replace("stages", "entry: []\nstages"))


def test_a_stage_may_wait_until_another_is_done(read, refused):
    both = ("reads: a, step: x, writes: c, name: one", "reads: b, step: y, writes: c, name: two")
    rest = "reads: c, step: z, writes: d"
    text = stages(f"{both[0]}", f"{both[1]}, after: one", rest).replace(
        "stages:", "entry: [a, b]\nstages:"
    )
    assert [stage.after for stage in read(text).stages] == [None, "one", None]
    assert "'onne' is not one of the stages (one, two, tale_z_c). Did you mean 'one'?" in refused(
        text.replace("after: one", "after: onne")
    )
    assert "stages that wait for each other: two after two" in refused(
        text.replace("after: one", "after: two")
    )
    assert "wait for each other: one after two after one" in refused(
        text.replace("name: one", "name: one, after: two")
    )


def test_a_check_goes_with_an_agent(refused):
    said = refused(stages("reads: a, step: x, check: y"))
    assert "'check' goes with 'agent'" in said


def test_everything_that_is_wrong_with_a_chain_is_said_at_once_in_the_order_of_the_file(read_any):
    chain, said = read_any("""\
pipeline: a tale
topics: {a: A, b: B, c: C, d: D}
entry: aa
stages:
  - {reads: a, agnt: x, writes: bb, concurrency: 0}
  - {reads: b, step: y, by: verdict, writes: q}
  - step: z
    reads: b
    part: p
    by: verdict
    outcomes:
      PASS: {wrties: c}
      FAIL: {writes: b, then: a}
  - {step: w, writes: c, after: nobody}
  - text
governor: {topic: r, limit: many}
seed: {b: x}
every_s: soon
""")
    expected = [
        "1: 'pipeline' is 'a tale': String should match pattern",
        "2: no stage reads or writes 'd'",
        "3: 'aa' is not one of the topics (a, b, c, d). Did you mean 'a'?",
        "5: unknown key 'stages.0.agnt'. Did you mean 'agent'?",
        "5: 'stages.0.concurrency' is 0: ",
        "5: 'bb' is not one of the topics (a, b, c, d). Did you mean 'b'?",
        "6: 'by: FIELD' and 'outcomes' go together",
        "6: 'q' is not one of the topics (a, b, c, d).",
        "11: a cycle without an exit: b -> b.",
        "12: unknown key 'stages.2.outcomes.PASS.wrties'. Did you mean 'writes'?",
        "13: 'then' says where it goes after 'at_most' rounds: give both",
        "14: the key 'stages.3.reads' is missing.",
        "14: 'nobody' is not one of the stages (",
        "15: 'stages.4' is 'text': Input should be a valid dictionary",
        "16: 'governor.limit' is 'many': Input should be a valid integer",
        "16: 'r' is not one of the topics (a, b, c, d).",
        "18: 'every_s' is 'soon': Input should be a valid number",
    ]
    for found, begin in itertools.zip_longest(said, expected, fillvalue=""):
        assert found.removeprefix("tale.yaml:").startswith(begin)
    assert chain is not None and [stage.agent for stage in chain.stages] == ["x", *4 * [None]]


@pytest.mark.parametrize(
    ("lines", "met"),
    [
        (
            ("reads: a, step: x, writes: b", "reads: a, step: y, writes: b", "reads: b, step: z"),
            "b",
        ),
        (
            (
                "reads: a, step: x, writes: b",
                "reads: a, step: y, writes: c",
                "reads: b, step: z, writes: d",
                "reads: c, step: z, writes: d",
                "reads: d, step: w",
            ),
            "d",
        ),
    ],
)
def test_a_chain_whose_branches_meet_gets_a_warning_that_what_follows_is_done_twice(
    tmp_path, lines, met
):
    (tmp_path / "tale.yaml").write_text(stages(*lines))
    _, document = read_chain(tmp_path / "tale.yaml")
    assert document.problems == []
    (said,) = document.warnings
    assert f"both write '{met}' in a run, as both follow from 'a'" in said


@pytest.mark.parametrize(
    "lines",
    [
        # Nobody reads where they meet; one of two ways; two entries; a way back.
        ("reads: a, step: x, writes: b", "reads: a, step: y, writes: b"),
        (
            "reads: a, step: x, by: v, part: p, outcomes: {P: {writes: b}, F: {writes: c}}",
            "reads: b, step: y, writes: d",
            "reads: c, step: z, writes: d",
            "reads: d, step: w",
        ),
        (
            "reads: a, step: x, writes: b",
            "reads: a, step: show",
            "reads: b, step: y, by: v, part: p, outcomes: {F: {writes: a, at_most: 2, then: c}}",
            "reads: c, step: z",
        ),
    ],
)
def test_ways_of_which_a_run_takes_one_may_meet(tmp_path, lines):
    (tmp_path / "tale.yaml").write_text(stages(*lines))
    _, document = read_chain(tmp_path / "tale.yaml")
    assert (document.problems, document.warnings) == ([], [])


def test_a_chain_of_a_thousand_stages_is_checked(read):
    topics = "".join(f"  t{number}:\n" for number in range(1001))
    lines = "".join(f"- {{reads: t{n}, step: x, writes: t{n + 1}}}\n" for n in range(1000))
    assert len(read(f"pipeline: long\ntopics:\n{topics}stages:\n{lines}").stages) == 1000


def test_an_agent_that_reads_what_agents_report_would_never_end(refused):
    said = refused(
        stages("reads: a, agent: x, writes: b", "reads: c, agent: y, writes: d") + "telemetry: c\n"
    )
    assert "tale.yaml:9: a cycle without an exit: c -> c." in said


def test_names_that_kafka_does_not_take_are_said(read_any, refused, tmp_path):
    text = stages("reads: a, step: x, writes: b").replace("b", "..")
    assert "'..' is no name that a topic can have" in refused(text)
    text = stages("reads: a, step: x, writes: b", "reads: b, step: y, writes: c")
    (tmp_path / "tale.yaml").write_text(text.replace("b", "x.1").replace("c", "x_1"))
    (said,) = read_chain(tmp_path / "tale.yaml")[1].warnings
    assert "'x_1' and 'x.1' are one name to Kafka" in said
