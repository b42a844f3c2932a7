"""Prices: what a call cost, by the tables or by prices.yaml, and that nothing is made up."""

import datetime
import itertools
import pathlib
import subprocess
import sys

import genai_prices
import pytest

from penstock.models.prices import Price, Prices
from penstock.project.project import Project, read_project
from tests.unit.conftest import make_project

#: Input, cached and output tokens.
USAGES = [(1000, 0, 500), (1000, 200, 500), (1, 1, 0), (272_000, 0, 7), (272_001, 9, 7)]
NOON = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture(scope="module")
def prices() -> Prices:
    prices = Prices()
    prices.load()
    return prices


@pytest.fixture
def read(tmp_path: pathlib.Path):
    def read_(text: str) -> Project:
        (make_project(tmp_path) / "prices.yaml").write_text(text)
        return read_project(tmp_path)

    return read_


def problems(project: Project) -> list[str]:
    return [problem.replace(f"{project.root}/", "") for problem in project.problems]


# -- the tables


@pytest.mark.parametrize(
    ("label", "base_url"),
    [
        ("openai/gpt-4.1-mini", None),
        ("openai/gpt-4o", None),
        ("openai/gpt-5.5", None),  # dearer beyond 272,000 input tokens
        ("openai/gpt-5.6-luna", None),  # at first cheaper
        ("openai/text-embedding-3-small", None),
        ("openai/gpt-4.1", "https://api.openai.com/v1"),
        ("mistral/mistral-small-latest", "https://api.mistral.ai/v1"),
        ("mistral/mistral-large-latest", None),  # no price for cached tokens
        ("server/gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai/"),
        ("server/deepseek-chat", "https://api.deepseek.com/v1"),  # cheaper at night
        ("server/anthropic/claude-sonnet-4.5", "https://openrouter.ai/api/v1"),
        ("server/sonar", "https://api.perplexity.ai"),  # a price per request
    ],
)
def test_a_call_costs_what_the_package_says(prices, label, base_url):
    provider, _, name = label.partition("/")
    where = {"provider_id": provider} if base_url is None else {"provider_api_url": base_url}
    for (tokens, cached, output), time in itertools.product(USAGES, (NOON, MIDNIGHT)):
        output = 0 if "embedding" in label else output
        usage = genai_prices.Usage(
            input_tokens=tokens, cache_read_tokens=cached, output_tokens=output
        )
        expected = genai_prices.calc_price(usage, name, genai_request_timestamp=time, **where)
        cost, price = prices.of(
            label, tokens, cached, output, base_url=base_url, at=time.timestamp()
        )
        assert cost == float(expected.total_price) > 0
        entry = f"{expected.provider.id}/{expected.model.id}"
        assert price == f"genai-prices {genai_prices.__version__} {entry}"


def test_a_well_known_price_is_what_it_is_known_to_be(prices):
    """$0.40 and $1.60 a million, $0.10 for what was cached."""
    cost, _ = prices.of("openai/gpt-4.1-mini", 1_000_000, 500_000, 1_000_000)
    assert cost == 0.2 + 0.05 + 1.6


def test_a_price_by_the_time_of_day_is_that_of_the_call(prices):
    def cost(at):
        found, _ = prices.of(
            *("server/deepseek-chat", 1000, 0, 500),
            base_url="https://api.deepseek.com",
            at=at.timestamp(),
        )
        return found

    assert cost(NOON) == 2 * cost(MIDNIGHT)


def test_tokens_written_to_the_cache_have_a_price_of_their_own(prices):
    at = NOON.timestamp()
    counts = genai_prices.Usage(input_tokens=1000, cache_write_tokens=400, output_tokens=10)
    expected = genai_prices.calc_price(
        counts, "gpt-5.6-luna", provider_id="openai", genai_request_timestamp=NOON
    )
    cost, _ = prices.of("openai/gpt-5.6-luna", 1000, 0, 10, cache_write_tokens=400, at=at)
    plain, _ = prices.of("openai/gpt-5.6-luna", 1000, 0, 10, at=at)
    assert cost == float(expected.total_price) > plain


# -- unknown, and free


@pytest.mark.parametrize(
    "label",
    [
        "ollama/llama3",
        "ollama/gpt-4o",
        "local/models/gpt-4o.gguf",
        "server/gpt-4o",
        "openai/no-such-model",
        "openai/default",
        "mistral/gpt-4o",
        "anthropic/claude-sonnet-4-5",  # no provider of ours
        "openai/whisper-1",  # by the hour
        *("openai/", "openai", "/", "", "nobody/\n💸", "openai/" + "x" * 10_000),
    ],
)
def test_what_has_no_price_is_unknown_and_not_free(prices, label):
    for _ in range(2):
        assert prices.of(label, 1000, 200, 500) == (None, "")


def test_a_compatible_server_has_not_the_prices_of_openai(prices):
    for label in ("openai/gpt-4o", "server/gpt-4o", "ollama/gpt-4o"):
        for url in ("http://localhost:8000/v1", "https://example.com/api.openai.com", "", "["):
            assert prices.of(label, 1000, 0, 500, base_url=url) == (None, "")
    assert prices.of("openai/gpt-4o", 1000, 0, 500)[0] == 0.0075


@pytest.mark.parametrize(
    "usage",
    [
        *((0, 0, 0), (0, 0, 12), (-1, 0, 5), (10, -1, 5), (10, 0, -5), (10, 11, 5)),
        *((None, 0, 5), ("10", 0, 5), (10, 0, None), (float("nan"), 0, 1), (10**400, 0, 5)),
    ],
    ids=lambda usage: str(usage)[:20],
)
def test_the_cost_of_numbers_that_make_no_sense_is_unknown(prices, usage):
    """A server that counts answers only reports 0 input tokens: what they cost is not known."""
    assert prices.of("openai/gpt-4.1-mini", *usage) == (None, "")
    assert prices.of("openai/gpt-5.6-luna", *usage) == (None, "")


def test_tokens_of_a_kind_without_a_price_make_the_cost_unknown(prices):
    assert prices.of("openai/text-embedding-3-small", 1000, 0, 1) == (None, "")


def test_the_offline_model_is_free_whatever_it_counts():
    for usage in ((0, 0, 0), (1000, 0, 500)):
        assert Prices().of("offline/storyteller", *usage) == (0.0, "free offline/storyteller")


# -- prices.yaml


def test_the_price_file_stands_above_the_tables(read):
    project = read(
        "ollama/gemma3:1b: {input: 0.4, output: 1.6, cached: 0.1}\n"
        "openai/gpt-4o: {input: 1, output: 2}\n"
        "local/models/free.gguf: {input: 0, output: 0}\n"
        "server/m: {input: 0.3, output: 0}\n"
    )
    assert project.problems == project.warnings == []
    assert project.prices["openai/gpt-4o"] == Price(input=1, output=2)
    prices = Prices(project.prices)
    assert prices.of("ollama/gemma3:1b", 1000, 200, 500) == (
        0.00114,
        "prices.yaml ollama/gemma3:1b",
    )
    assert prices.of("openai/gpt-4o", 1000, 200, 500) == (0.002, "prices.yaml openai/gpt-4o")
    assert prices.of("local/models/free.gguf", 0, 0, 9) == (
        0.0,
        "prices.yaml local/models/free.gguf",
    )
    assert prices.of("server/m", 3, 0, 9, base_url="http://m/v1")[0] == 0.0000009
    assert prices.of("openai/gpt-4o-mini", 1000, 0, 500)[0] == 0.00045


def test_a_project_without_a_price_file_has_no_prices(project):
    assert (project.prices, project.problems) == ({}, [])


@pytest.mark.parametrize("text", ["", "# none yet\n", "{}"])
def test_an_empty_price_file_has_none_either(read, text):
    project = read(text)
    assert (project.prices, project.problems) == ({}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ollama/x: {input: 1, ouput: 2}",
            "1: unknown key 'ollama/x.ouput'. Did you mean 'output'? Allowed here: input, output,"
            " cached.",
        ),
        ("\nollama/x:\n  input: 1\n  output: -2", "4: 'ollama/x.output' is -2: Input should be g"),
        ("ollama/x: {input: '1', output: 2}", "1: 'ollama/x.input' is '1': Input should be a val"),
        ("ollama/x: {input: true, output: 2}", "1: 'ollama/x.input' is True: Input should be a v"),
        ("ollama/x: {input: .nan, output: 2}", "1: .nan is a number beyond JSON"),
        ("ollama/x: {input: 9e+9, output: 2}", "1: 'ollama/x.input' is '9e+9': Input should be a"),
        ("ollama/x: {input: 9.0e+9, output: 2}", "1: 'ollama/x.input' is 9000000000.0: Input sho"),
        ("ollama/x: {input: 1}", "1: the key 'ollama/x.output' is missing."),
        ("ollama/x: 3", "1: 'ollama/x' is 3: Input should be"),
        ("ollama/x:", "1: 'ollama/x' is None: Input should be"),
        ("- ollama/x", "1: expected 'key: value' lines"),
        ("ollama/x: [", "1: not YAML"),
        (
            "a/b: {input: 1, output: 1}",
            "1: 'a/b' is no label of a model. A label is PROVIDER/NAME, with one of",
        ),
        (
            "opnai/gpt-4o: {input: 1, output: 1}",
            "1: 'opnai/gpt-4o' is no label of a model. Did you mean 'openai'?",
        ),
        ("gpt-4o: {input: 1, output: 1}", "1: 'gpt-4o' is no label of a model."),
        ("openai/: {input: 1, output: 1}", "1: 'openai/' is no label of a model."),
    ],
)
def test_a_mistake_in_the_price_file_names_its_line_and_key(read, text, expected):
    (problem,) = problems(read(text))
    assert problem.startswith(f"prices.yaml:{expected}")


def test_each_mistake_is_said(read):
    text = "ollama/x: {input: -1, output: 2}\nollama/y: {inptu: 1, output: x}\n"
    found = problems(read(text))
    assert [problem.split(":")[1] for problem in found] == ["1", "2", "2"]


def test_a_price_file_that_cannot_be_read_is_a_problem(tmp_path):
    (make_project(tmp_path) / "prices.yaml").mkdir()
    (problem,) = problems(read_project(tmp_path))
    assert problem.startswith("prices.yaml:1: cannot be read: ")


def test_a_price_file_of_another_name_is_warned_of(tmp_path):
    (make_project(tmp_path) / "prices.yml").write_text("")
    (warning,) = read_project(tmp_path).warnings
    assert warning.endswith("prices.yml: is not read: prices stand in prices.yaml")


def test_an_edit_of_the_price_file_is_a_change_of_the_project(read):
    project = read("ollama/x: {input: 1, output: 1}")
    assert project.digest_files() == project.files and "prices.yaml" in project.files
    (project.root / "prices.yaml").write_text("ollama/x: {input: 2, output: 1}")
    assert project.digest_files() != project.files


# -- what it takes


def test_the_tables_are_imported_when_they_are_needed_and_nothing_is_asked_of_the_network():
    code = (
        "import sys, threading; import penstock.project.project\n"
        "from penstock.models.prices import Prices\n"
        "prices = Prices()\n"
        "prices.of('offline/storyteller', 1, 0, 1), prices.of('ollama/x', 1, 0, 1)\n"
        "print('genai_prices' in sys.modules)\n"
        "def refuse(event, _):\n"
        "    if event.startswith('socket.'): raise SystemExit(event)\n"
        "sys.addaudithook(refuse)\n"
        "prices.load()\n"
        "print('genai_prices' in sys.modules, threading.active_count())\n"
        "print(prices.of('openai/gpt-4.1-mini', 1000, 200, 500)[0])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True", "1", "0.00114"]
