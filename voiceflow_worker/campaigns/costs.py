"""What calls would cost: tables of prices, and how long a call speaks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

import orjson

from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import Action, heard_in
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import folded

_PLACES = ("prefix", "country")
_PRICES = ("per_minute", "per_call")
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_PREFIX = re.compile(r"\+?([1-9][0-9]{0,14})", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a call: a part for each minute, and a part for each call."""

    currency: str
    per_minute: Decimal = Decimal(0)
    per_call: Decimal = Decimal(0)

    def of(self, calls: int, *, seconds: float) -> Decimal:
        """The price of this number of calls, which last `seconds` in all."""
        return self.per_call * calls + self.per_minute * Decimal(str(round(seconds, 3))) / 60


@checked
@dataclass(slots=True)
class PriceTable:
    """Prices by the first digits of a number and by country. The longest matching digits decide, else the country."""

    name: str
    prefixes: dict[str, Price] = field(default_factory=dict[str, Price])
    countries: dict[str, Price] = field(default_factory=dict[str, Price])

    @classmethod
    def load(cls, path: Path | InputFile) -> PriceTable:
        """The table in a CSV file with the columns `country` or `prefix`, `currency`, and `per_minute` or `per_call`.

        Raises CampaignFileError, which names every bad line.
        """
        table = cls(str(path))
        rows = CsvRows(path if isinstance(path, InputFile) else InputFile(path), judge=_header_problem)
        names = [folded(name) for name in rows.columns]
        findings: list[Finding] = []
        for raw in rows:
            problem = next((message for _, message in raw.problems), None)
            if problem is None:
                cells = zip(names, raw.cells, strict=True)
                problem = table._add({name: cell.strip() for name, cell in cells if cell.strip()})
            if problem is not None:
                findings.append(Finding(file=str(path), row=raw.number, message=problem))
        if findings:
            lines = "; ".join(f"line {found.row} {found.message}" for found in findings[:5])
            raise CampaignFileError(f"{path} is not a price table: {lines}", findings)
        if not table.prefixes and not table.countries:
            raise CampaignFileError(f"{path} has no prices")
        return table

    def price_of(self, number: str) -> Price | None:
        """The price of a call to a number in E.164 form; None if the table has none."""
        digits = number.removeprefix("+")
        if self.prefixes:
            for length in range(len(digits), 0, -1):
                if (found := self.prefixes.get(digits[:length])) is not None:
                    return found
        return self.countries.get(country_of(number) or "") if self.countries else None

    def _add(self, row: Mapping[str, str]) -> str | None:
        """Add a line. Returns the reason why it cannot be read, or None."""
        if not _CURRENCY.fullmatch(row.get("currency", "")):
            return "has no currency of three letters, such as USD"
        if not any(name in row for name in _PRICES):
            return "has no price: give per_minute or per_call"
        try:
            amounts = {name: _amount(row[name]) for name in _PRICES if name in row}
        except ValueError as error:
            return str(error)
        price = Price(currency=row["currency"].upper(), **amounts)
        if (prefix := row.get("prefix")) is not None:
            match = _PREFIX.fullmatch(prefix)
            if match is None:
                return f"has the prefix {prefix!r}; write the first digits of a number with its country code: +658"
            return None if self.prefixes.setdefault(match[1], price) is price else f"gives a second price for {prefix}"
        country = row.get("country", "")
        if not _COUNTRY.fullmatch(country):
            return f"has the country {country!r}; write two letters, such as SG, or give a prefix"
        return (
            None
            if self.countries.setdefault(country.upper(), price) is price
            else f"gives a second price for {country}"
        )


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"has the price {text!r}; write a number such as 0.045")
    return amount


def _header_problem(names: Sequence[str]) -> str | None:
    present = set(map(folded, names))
    lacking = [" or ".join(each) for each in (_PLACES, _PRICES) if not present & set(each)]
    if "currency" not in present:
        lacking.append("currency")
    return f"is not a price table: it has no column {', no column '.join(lacking)}" if lacking else None


CHARACTERS_A_SECOND = 15.0
"""The pace of a voice that reads an alphabet: 150 words a minute."""
SYLLABLES_A_SECOND = 4.5
"""The pace of a voice that reads Chinese, Japanese or Korean. Each character is a syllable or a word."""

_ASKED = {"successMessage", "failureMessage"}
"""Parameters whose texts are spoken only after key presses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """All texts that a call speaks to the person who answers, in order, and the voice of the first text."""

    text: str = ""
    voice_profile: str | None = None
    seconds: float = 0.0


def speech_of(body: str) -> Speech:
    """The speech of a stored body. Audio files are left out."""
    heard = [
        each for each in heard_in(orjson.loads(body)) if each.action is not Action.PLAY_FILE and each.name not in _ASKED
    ]
    return Speech(
        text=" ".join(each.text for each in heard),
        voice_profile=next((each.voice for each in heard if each.voice is not None), None),
        seconds=sum(seconds_of(each.text) * each.times for each in heard),
    )


def seconds_of(text: str) -> float:
    """The seconds that a voice takes to speak a text, estimated from its length."""
    if text.isascii():
        return len(text) / CHARACTERS_A_SECOND
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return (len(text) - wide) / CHARACTERS_A_SECOND + wide / SYLLABLES_A_SECOND
