"""Price tables: the price of a call by the country or the first digits of its number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.text.names import folded

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


@dataclass(slots=True)
class PriceTable:
    """Prices by the first digits of a number and by country. The longest matching digits decide, else the country."""

    name: str
    prefixes: dict[str, Price] = field(default_factory=dict[str, Price])
    countries: dict[str, Price] = field(default_factory=dict[str, Price])

    @classmethod
    def load(cls, path: Path) -> PriceTable:
        """The table in a CSV file with the columns `country` or `prefix`, `currency`, and `per_minute` or `per_call`.

        Raises CampaignFileError, which names every bad line.
        """
        table = cls(str(path))
        rows = CsvRows(InputFile(path), judge=_header_problem)
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
