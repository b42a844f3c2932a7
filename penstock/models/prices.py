"""Prices: what a model call cost, in US dollars, and by which price.

The prices are those of the project's `prices.yaml`, then those in the tables of the package
genai-prices, as they were when it was released: nothing is asked of any network. What has no price
in either is unknown, and unknown is never 0.
"""

import datetime
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import pydantic

from penstock.models import wrote_offline

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

#: US dollars per million tokens; a price above it is a mistake.
HIGHEST = 1_000_000
#: The providers that the tables know by our names for them. A compatible server is looked up by
#: its address.
BY_NAME, BY_ADDRESS = ("openai", "mistral"), ("openai", "mistral", "server")

_MILLION, _THOUSAND, _ZERO = Decimal(1_000_000), Decimal(1_000), Decimal(0)
_UNKNOWN: tuple[None, str] = (None, "")


class Price(pydantic.BaseModel, extra="forbid", frozen=True, strict=True):
    """What a model costs, in US dollars per million tokens. `cached` is for input tokens that the
    provider had in its cache; without it they cost what `input` says."""

    input: float = pydantic.Field(ge=0, le=HIGHEST)
    output: float = pydantic.Field(ge=0, le=HIGHEST)
    cached: float | None = pydantic.Field(default=None, ge=0, le=HIGHEST)


class _Rates(NamedTuple):
    """US dollars per token of each kind, and per request. None: no price is known.

    They are for calls with more than `above` input tokens, and then for all tokens of the call:
    that is how providers bill long inputs.
    """

    above: int
    input: Decimal | None
    cached: Decimal | None
    written: Decimal | None
    output: Decimal | None
    request: Decimal = _ZERO
    free: bool = False


class _Period(NamedTuple):
    """The rates, those of the longest inputs first, at the times that `holds` returns True for."""

    holds: Callable[[datetime.datetime], bool] | None
    rates: tuple[_Rates, ...]


class _Known(NamedTuple):
    """The price of a label. The first of its periods that holds counts, else the last."""

    name: str
    periods: tuple[_Period, ...]


_FREE = _Rates(-1, _ZERO, _ZERO, _ZERO, _ZERO, free=True)


class Prices:
    """What model calls cost. `project_prices` are those of the project's `prices.yaml`, by label;
    they stand above the tables'."""

    def __init__(self, project_prices: Mapping[str, Price] | None = None) -> None:
        self._project_prices = dict(project_prices or {})
        #: By label and address. None: it has no price.
        self._known: dict[tuple[str, str | None], _Known | None] = {}

    def load(self) -> None:
        """Read the tables, which takes some tenths of a second, so that `of` need not. Meant for a
        thread, beside the import of the SDK. Quick when they have been read."""
        _look_up("", "openai", None)

    def of(
        self,
        label: str,
        input_tokens: int,
        cached_tokens: int,
        output_tokens: int,
        *,
        cache_write_tokens: int = 0,
        base_url: str | None = None,
        at: float | None = None,
    ) -> tuple[float | None, str]:
        """Return what a call cost in US dollars, and the name of the price; `(None, "")` when that
        is unknown. Never raises for what a server reports.

        `cached_tokens` and `cache_write_tokens` are among `input_tokens`. `base_url` is the address
        that was asked, None for the provider's own: a compatible server has OpenAI's prices only if
        it is OpenAI's. `at` is when it was asked, in seconds since 1970 UTC, now if None: some
        prices depend on it. Without `load` the first call reads the tables.

        The cost is also unknown when the server reported no input tokens or numbers that contradict
        each other, or the tables have no price for some of the tokens.
        """
        key = (label, base_url)
        try:
            known = self._known[key]
        except KeyError:
            known = self._known[key] = self._find(label, base_url)
        if known is None:
            return _UNKNOWN
        counts = (input_tokens, cached_tokens, cache_write_tokens, output_tokens)
        try:
            cost = _cost(_rates(known.periods, input_tokens, at), *counts)
        except (ArithmeticError, TypeError, ValueError):  # what a server calls a number
            return _UNKNOWN
        return _UNKNOWN if cost is None else (cost, known.name)

    def _find(self, label: str, base_url: str | None) -> _Known | None:
        price = self._project_prices.get(label)
        if price is not None:
            return _Known(f"prices.yaml {label}", (_Period(None, (_of_project(price),)),))
        if wrote_offline(label):
            return _Known(f"free {label}", (_Period(None, (_FREE,)),))
        provider, _, name = label.partition("/")
        if not name or provider not in (BY_NAME if base_url is None else BY_ADDRESS):
            return None
        return _look_up(name, provider, base_url)


def _rates(periods: tuple[_Period, ...], input_tokens: int, at: float | None) -> _Rates:
    """Return the rates of a call with `input_tokens` at the time `at`."""
    period = periods[-1]
    if len(periods) > 1:
        time = datetime.datetime.now(datetime.UTC)
        if at is not None:
            time = datetime.datetime.fromtimestamp(at, datetime.UTC)
        period = next((one for one in periods if one.holds is None or one.holds(time)), period)
    for rates in period.rates:
        if input_tokens > rates.above:
            return rates
    return period.rates[-1]


def _cost(rates: _Rates, input_: int, cached: int, written: int, output: int) -> float | None:
    """Return the cost of a call. In Decimal, as the package does it: the last digit is right."""
    if rates.free:
        return 0.0
    new = input_ - cached - written
    if input_ <= 0 or new < 0 or cached < 0 or written < 0 or output < 0:
        return None
    total = rates.request
    for count, rate in (
        (new, rates.input),
        (cached, rates.cached),
        (written, rates.written),
        (output, rates.output),
    ):
        if count:
            if rate is None:
                return None
            total += rate * count
    cost = float(total)
    return cost if math.isfinite(cost) else None


def _of_project(price: Price) -> _Rates:
    cached = price.input if price.cached is None else price.cached
    per_million = (price.input, cached, price.output)
    input_, cached_, output = (Decimal(str(one)) / _MILLION for one in per_million)
    free = not (input_ or cached_ or output)
    return _Rates(-1, input_, cached_, input_, output, free=free)


def _look_up(name: str, provider: str, base_url: str | None) -> _Known | None:
    """Return the price of the model `name` in the tables, None where they have none."""
    # Imported here: commands that call no model do not pay for the tables.
    import genai_prices

    try:
        if base_url is None:
            found = genai_prices.calc_price(genai_prices.Usage(), name, provider_id=provider)
        else:
            found = genai_prices.calc_price(genai_prices.Usage(), name, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    version = genai_prices.__version__
    return _Known(
        f"genai-prices {version} {found.provider.id}/{found.model.id}", _periods_of(found.model)
    )


def _periods_of(model: "ModelInfo") -> tuple[_Period, ...]:
    """Return the periods of a model in the tables: there the last that holds counts, else the
    first."""
    if not isinstance(model.prices, list):
        return (_Period(None, _rates_of(model.prices)),)
    periods = [
        _Period(one.constraint.active if one.constraint else None, _rates_of(one.prices))
        for one in reversed(model.prices)
    ]
    return tuple(periods)


def _rates_of(price: "ModelPrice") -> tuple[_Rates, ...]:
    """Return the rates in a price of the tables, those of the longest inputs first."""
    from genai_prices.types import TieredPrices

    kinds = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok", "requests_kcount")
    by_kind = [getattr(price, kind) for kind in kinds]
    tiers = [tier for one in by_kind if isinstance(one, TieredPrices) for tier in one.tiers]

    def rate(one: "Decimal | TieredPrices | None", start: int) -> Decimal | None:
        if not isinstance(one, TieredPrices):
            return one
        begun = [tier.price for tier in one.tiers if tier.start <= start]
        return begun[-1] if begun else one.base

    rates = []
    for start in sorted({-1, *(tier.start for tier in tiers)}, reverse=True):
        *per_million, per_thousand = (rate(one, start) for one in by_kind)
        input_, cached, written, output = (
            None if one is None else one / _MILLION for one in per_million
        )
        # Tokens of a kind that has no price of its own are input as any other.
        cached, written = (input_ if one is None else one for one in (cached, written))
        request = (per_thousand or _ZERO) / _THOUSAND
        free = all(one == 0 for one in (input_, cached, written, output, request))
        rates.append(_Rates(start, input_, cached, written, output, request, free))
    return tuple(rates)
