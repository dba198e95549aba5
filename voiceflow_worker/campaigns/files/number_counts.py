"""What a list of numbers holds: how many of each country and kind, and spellings that mean other countries too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from voiceflow_worker.model.numbers.phone import country_of, kind_of
from voiceflow_worker.model.numbers.reading import countries_of_spelling, is_national
from voiceflow_worker.model.text.wording import count_of

MOST_SPELLINGS = 1000
"""The most spellings whose other countries are looked for: each takes about a millisecond."""
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Spelling:
    """A number as it is written without a country code, and the other countries in which the text is a number too."""

    row: int
    written: str
    number: str
    countries: Sequence[str]

    def in_words(self) -> str:
        """The spelling and what else it could be, as a clause."""
        more = len(self.countries) - _MOST_NAMED
        others = f"{', '.join(self.countries[:_MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"
        return f"line {self.row}, {self.written}: {self.number} here, but also a number of {others}"

    def as_json(self) -> dict[str, object]:
        """The spelling as the command prints it for scripts."""
        return {"row": self.row, "written": self.written, "number": self.number, "countries": list(self.countries)}


@dataclass(slots=True)
class Spellings:
    """The spellings of a file that were read as numbers of a country, without a country code."""

    found: dict[str, Spelling] = field(default_factory=dict[str, Spelling])
    count: int = 0

    def add(self, row: int, written: str, number: str, home: str) -> None:
        """Look for the other countries of a spelling without a country code, unless there are too many."""
        if written in self.found or not is_national(written):
            return
        self.count += 1
        if len(self.found) < MOST_SPELLINGS:
            self.found[written] = Spelling(row, written, number, countries_of_spelling(written, but=home))

    @property
    def doubtful(self) -> Sequence[Spelling]:
        """The spellings that are numbers of other countries too."""
        return [each for each in self.found.values() if each.countries]

    def in_words(self) -> str | None:
        """A warning about spellings that are numbers of other countries too; None if there are none."""
        doubtful = self.doubtful
        if not doubtful:
            return None
        first = doubtful[0]
        by_country = Counter(country for each in doubtful for country in each.countries)
        most = ", ".join(f"{country} {count}" for country, count in by_country.most_common(_MOST_NAMED))
        looked = len(self.found)
        of = f"{looked} numbers" if looked == self.count else f"the first {looked} of {self.count} numbers"
        return (
            f"{len(doubtful)} of {of} without a country code would be valid in another country too, such as "
            f"{first.in_words()}. Most often: {most}. If not all are of one country, name the column of the countries, "
            "or write numbers with +"
        )


def counted(numbers: Iterable[str]) -> Mapping[tuple[str, str], int]:
    """The count of the numbers (in E.164 form) by country and kind, the largest first."""
    found = Counter((country_of(each) or "no country", kind_of(each)) for each in numbers)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def counts_in_words(counts: Mapping[tuple[str, str], int]) -> str:
    """The counts as a clause: `3 of DE (2 mobile, 1 fixed line), 1 of AT (1 mobile)`."""
    countries: dict[str, list[str]] = {}
    totals: Counter[str] = Counter()
    for (country, kind), count in counts.items():
        countries.setdefault(country, []).append(f"{count} {kind}")
        totals[country] += count
    parts = (f"{count} of {country} ({', '.join(countries[country])})" for country, count in totals.most_common())
    return f"{count_of(totals.total(), 'number')}: {', '.join(parts)}" if totals else "no number"
