"""What a call costs: exact decimals from a table of prices, or None where a price is not known.

The table that ships is `prices.toml`, with the source and the date of every figure. A user's own
file (TOML or JSON of the same form) goes before it, model by model. An unknown price is None,
never 0: a sum that leaves something out must say so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from .errors import UsageError
from .money import EXACT

VARIABLE = "ORCH_PRICES"
"""The environment variable that names the user's file."""

MAX_BYTES = 4 << 20
PLACES = 6
"""Decimal places that a rate may have, so that a cost has at most 12."""

_TOO_DEAR = 1_000_000
_DATED = re.compile(r"(?:[-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest)\Z")
_STANDARD = ("auto", "default", "standard_only")
"""Service tiers that are billed at the standard rates."""


class Counted(Protocol):
    """Token counts of a call; `tokens_in` includes what the vendor's cache read and wrote."""

    @property
    def tokens_in(self) -> int | None: ...
    @property
    def tokens_out(self) -> int | None: ...
    @property
    def tokens_cache_read(self) -> int | None: ...
    @property
    def tokens_cache_write(self) -> int | None: ...


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars for a million tokens of each kind."""

    tokens_in: Decimal
    tokens_out: Decimal
    tokens_cache_read: Decimal | None = None
    tokens_cache_write: Decimal | None = None


class Price(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's rates, and those of a call with more than `above_tokens_in` tokens in."""

    above_tokens_in: int | None = None
    above: Rates | None = None


class Vendor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's prices.

    Attributes:
        origin: where these prices hold; empty for any server.
        source, as_of: where the figures stand, and the day they were read.
        models: by name; `*` is for every model that is not named.
    """

    models: dict[str, Price]
    origin: str = ""
    source: str = ""
    as_of: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    providers: dict[str, Vendor]
    schema_version: int = 1


class Quote(NamedTuple):
    """What a call cost, and which table says so; both empty where no price is known."""

    usd: Decimal | None = None
    table: str = ""


class PriceTable:
    """Prices of providers and models.

    Args:
        name: of the table, as events carry it: `built-in 2026-11-10`, or the file's name and hash.
        vendors: by provider.
        below: the table that is asked for what this one does not have.
    """

    def __init__(
        self, name: str, vendors: Mapping[str, Vendor], below: PriceTable | None = None
    ) -> None:
        self.name = name
        self.vendors = vendors
        self.below = below

    def quote(
        self,
        provider: str,
        model: str,
        usage: Counted,
        *,
        base_url: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> Quote:
        """Return what a call cost.

        Args:
            provider: as in a spec.
            model: as it was asked for, or as it named itself.
            usage: as the provider counted.
            base_url: where the call went; empty for the vendor's own server.
            options: of the call: another service tier than the standard one has no known price.
        """
        table: PriceTable | None = self
        while table is not None:
            vendor = table.vendors.get(provider)
            price = _price(vendor, model, base_url) if vendor is not None else None
            if price is not None:
                tier = (options or {}).get("service_tier")
                known = tier is None or tier in _STANDARD
                usd = _amount(price, usage) if known else None
                return Quote(usd, table.name if usd is not None else "")
            table = table.below
        return Quote()


def cost(provider: str, model: str, usage: Counted, *, base_url: str = "") -> Decimal | None:
    """Return what a call costs at the prices that ship, in US dollars, or None."""
    return built_in().quote(provider, model, usage, base_url=base_url).usd


@functools.cache
def built_in() -> PriceTable:
    """Return the table that ships."""
    with open(os.path.join(os.path.dirname(__file__), "prices.toml"), "rb") as file:
        vendors = _parse(file.read(), "prices.toml").providers
    as_of = max(vendor.as_of for vendor in vendors.values())
    return PriceTable(f"built-in {as_of}", vendors)


def table(environ: Mapping[str, str], path: str = "") -> PriceTable:
    """Return the prices in force: the file `path`, else what ORCH_PRICES names, else what ships.

    `built-in` in the place of a file means what ships.

    Raises:
        UsageError: the file can't be read, or is no table of prices.
    """
    chosen = path or environ.get(VARIABLE, "").strip()
    if chosen in ("", "built-in"):
        return built_in()
    try:
        with open(chosen, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"can't read the prices: {error.strerror}", place=chosen) from error
    vendors = _parse(data, chosen).providers
    digest = hashlib.sha256(data).hexdigest()[:12]
    return PriceTable(f"{os.path.basename(chosen)} {digest}", vendors, built_in())


def _price(vendor: Vendor, model: str, base_url: str) -> Price | None:
    if vendor.origin and base_url and _origin(base_url) != _origin(vendor.origin):
        return None
    models = vendor.models
    return models.get(model) or models.get(_DATED.sub("", model)) or models.get("*")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _amount(price: Price, usage: Counted) -> Decimal | None:
    """Return the exact cost of counted tokens, None if a count or a rate is missing."""
    if usage.tokens_in is None or usage.tokens_out is None:
        return None
    rates: Rates = price
    if price.above is not None and usage.tokens_in > (price.above_tokens_in or 0):
        rates = price.above
    read, written = usage.tokens_cache_read or 0, usage.tokens_cache_write or 0
    parts = (
        (usage.tokens_in - read - written, rates.tokens_in),
        (read, rates.tokens_cache_read),
        (written, rates.tokens_cache_write),
        (usage.tokens_out, rates.tokens_out),
    )
    total = Decimal(0)
    for tokens, rate in parts:
        if tokens < 0 or (tokens and rate is None):
            return None
        if rate is not None:
            total = EXACT.add(total, EXACT.multiply(Decimal(tokens), rate))
    return EXACT.scaleb(total, -6)


def _parse(data: bytes, path: str) -> _File:
    """Return the table that a TOML or JSON file holds.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")  # noqa: TRY301 - one text
        text = data.decode()
        parse = json.loads if path.endswith(".json") else tomllib.loads
        found = msgspec.convert(parse(text, parse_float=Decimal), _File)
        _check(found)
    except (ValueError, msgspec.ValidationError, RecursionError) as error:
        raise UsageError(
            f"this is no table of prices: {error}",
            place=path,
            hint='write [providers.openai.models."NAME"] and below it tokens_in and tokens_out,'
            " in dollars for a million tokens",
        ) from error
    return found


def _check(found: _File) -> None:
    for provider, vendor in found.providers.items():
        for model, price in vendor.models.items():
            where = f"providers.{provider}.models.{model}"
            if (price.above is None) != (price.above_tokens_in is None):
                raise ValueError(f"{where}: `above` and `above_tokens_in` go together")
            for rates in (price, price.above):
                for name in Rates.__struct_fields__ if rates is not None else ():
                    _check_rate(f"{where}.{name}", getattr(rates, name))


def _check_rate(where: str, rate: Decimal | None) -> None:
    if rate is None:
        return
    if not rate.is_finite() or not 0 <= rate <= _TOO_DEAR:
        raise ValueError(f"{where} must be from 0 to {_TOO_DEAR}, not {rate}")
    exponent = rate.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -PLACES:
        raise ValueError(f"{where} has more than {PLACES} decimal places")
