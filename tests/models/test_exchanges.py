"""Exchanges: a dead letter of a model's answer shows what was asked and what was said."""

import asyncio
import types
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from agents import Model, ModelResponse, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from penstock.commands.dead_letters import show
from penstock.errors import ModelRefused
from penstock.models.names import Target
from penstock.models.providers import Providers
from penstock.project.branches import Outcome
from penstock.project.cards import read_card
from penstock.project.chains import StageSpec
from penstock.record import dead_letters, events
from penstock.record.dead_letters import LONGEST, DeadLetter, Exchange
from penstock.record.events import first_event
from penstock.settings import Settings
from penstock.steps import Registry
from penstock.worker.processing import Processing
from penstock.worker.runner import agent_step
from tests.unit.houses import env_of
from tests.unit.test_work import Notebook

CARD = """\
---
output: {type: object, properties: {verdict: {type: string}}, required: [verdict]}
---
Judge the snail.
"""
SPEC = StageSpec(
    name="judge", reads="idea", agent="judge", part="judged", by="verdict",
    outcomes={"GOOD": Outcome(writes="draft")},
).within("tale")  # fmt: skip


class Saying(Model):
    """A model that gives one answer after the other, or raises."""

    def __init__(self, answers: Sequence[str | Exception]) -> None:
        self._answers = list(answers)

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        said = self._answers.pop(0)
        if isinstance(said, Exception):
            raise said
        text = ResponseOutputText(text=said, type="output_text", annotations=[])
        item = ResponseOutputMessage(
            id="m", content=[text], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[item], usage=Usage(requests=1), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def dead_letter(tmp_path) -> Callable[..., DeadLetter]:
    """The dead letter of an event whose agent gives these answers."""

    def run(*answers: str | Exception, idea: str = "a snail", **settings: Any) -> DeadLetter:
        async def main() -> DeadLetter:
            (tmp_path / "judge.md").write_text(CARD)
            providers = Providers()
            target = Target("server", "m", "http://127.0.0.1:1/v1", "sk-secret-of-the-server")
            providers.get(target).model = Saying(answers)
            card = read_card(tmp_path / "judge.md")
            do = agent_step(SPEC, card, target, providers, Registry(), Settings())
            event = first_event("tale", {"idea": idea})
            message = types.SimpleNamespace(
                topic="idea", partition=0, offset=0, key=event.key, value=events.dump(event)
            )
            env = env_of(Notebook(), settings=Settings(**settings))
            ending = await Processing(SPEC, do).process(message, env)
            await providers.close()
            return dead_letters.load(ending.outputs[0][2])

        return asyncio.run(main())

    return run


def test_answers_that_do_not_fit_are_kept_with_the_question(dead_letter):
    found = dead_letter("I like it", '{"mood": "good"}')
    assert (found.cause, len(found.unusable)) == ("ModelMisbehaved", 2)
    exchange = found.exchange
    assert exchange.answers == ["I like it", '{"mood": "good"}']
    assert exchange.instructions == "Judge the snail."
    assert "a snail" in exchange.input and "could not be used" in exchange.input


def test_an_answer_that_decides_for_no_outcome_is_kept_too(dead_letter):
    found = dead_letter('{"verdict": "MAYBE"}')
    assert found.cause == "StepFailed" and "'MAYBE'" in found.message
    assert found.exchange.answers == ['{"verdict": "MAYBE"}']


def test_a_question_that_was_refused_is_kept_without_an_answer(dead_letter, capsys):
    found = dead_letter(ModelRefused("no"))
    assert found.cause == "ModelRefused"
    assert found.exchange.answers == [] and "a snail" in found.exchange.input
    show([found], as_json=False, longest=100)
    assert capsys.readouterr().out.endswith("\nand gave no answer.\n")


def test_long_texts_are_kept_up_to_a_limit_and_never_at_the_cost_of_the_record(dead_letter):
    long = dead_letter("x" * (LONGEST + 5), "no").exchange.answers[0]
    assert long == "x" * LONGEST + "… (5 characters more)"
    small = dead_letter("no" * 2000, "no", idea="y" * 1000, max_event_bytes=2000)
    assert small.exchange is None and len(small.record) > 1000


def test_no_secret_is_kept(dead_letter):
    found = dead_letter("no: sk-secret-1234567890", "no", openai_api_key="sk-secret-1234567890")
    assert "sk-secret-1234567890" not in found.exchange.answers[0]


def test_what_is_shown_is_text_and_short_unless_all_of_it_is_asked_for(dead_letter, capsys):
    exchange = Exchange(
        model="m", instructions="Judge", input="y" * 30, answers=["\x1b[2Jone", "two"]
    )
    one = msgspec.structs.replace(dead_letter("no", "no"), exchange=exchange)
    show([one], as_json=False, longest=20)
    shown = capsys.readouterr().out
    assert shown.endswith(
        f"\nm was told:\nJudge\n\nand asked:\n{'y' * 20}… (10 characters more: --full)\n"
        "\nand said (1 of 2):\n[2Jone\n\nand said (2 of 2):\ntwo\n"
    )
    show([one], as_json=False, longest=30)
    assert "--full" not in capsys.readouterr().out
    show([one], as_json=False)
    assert "told" not in capsys.readouterr().out, "a list has a line for each"
