"""Files of telephone numbers: a CSV file with a column of numbers, or one number on each line; and what they hold."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.damage import footer_in, numbers_in, numbers_within, shown, swallowed_rows
from voiceflow_worker.campaigns.files.input_file import InputFile, read_lines
from voiceflow_worker.campaigns.files.rows import (
    RawRow,
    canonical_name,
    column_names,
    is_number_column,
    near_destination,
    refuse_numbers_in,
)
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS, country_of, is_assigned, kind_of, warnings_for
from voiceflow_worker.model.numbers.reading import (
    INTERNATIONAL,
    ParsedNumber,
    every_reading,
    is_national,
    read_country,
    read_number,
)
from voiceflow_worker.model.text.printable import as_stored, printable_line
from voiceflow_worker.model.text.wording import count_of, folded


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


_SEVERAL_CELLS = ",;\t|"
_AREA_AND_NUMBER = re.compile(r"(\d{2,5})[,;\t|](\d{5,8})")
"""A line of a list that has area codes in a column of their own, and no header, as that of the United States."""
_AREAS = frozenset({
    "area_code", "areacode", "area", "npa", "std_code", "vorwahl", "ortsvorwahl", "ddd", "lada", "prefijo", "indicatif",
    "prefisso", "kode_area",
})  # fmt: skip
_DIGEST = 32
_CERTAIN = re.compile(r"\+[1-9][0-9]{0,2}[0-9 ().-]{6,20}")


@dataclass(frozen=True, kw_only=True)
class NumberFile:
    """The numbers of a file in E.164 form, each with the first line that has it, and findings about bad lines.

    `warnings` are about numbers that no numbering plan knows, and about texts that are not certain: all their readings
    are among the numbers.
    """

    rows: int
    numbers: Mapping[str, int]
    findings: Sequence[Finding]
    warnings: Sequence[Finding] = ()
    name: str = ""
    """The file's name, without its folders."""
    digest: str = ""
    """The digest of the file's content, which marks what it puts on the list."""
    country: str | None = None
    national: int = 0
    """How many numbers have no country code, and were taken for numbers of the `country`."""

    @cached_property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """The count of the numbers by country and kind."""
        return counted(self.numbers)

    @cached_property
    def unassigned(self) -> Sequence[str]:
        """The numbers that no numbering plan has."""
        return [number for number in self.numbers if not is_assigned(number)]

    @property
    def assumed(self) -> str | None:
        """A warning about the numbers without a country code; None if there are none."""
        if not self.national:
            return None
        are = "is taken for one" if self.national == 1 else "are taken for numbers"
        return (
            f"{count_of(self.national, 'number')} without a country code {are} of {self.country}. If not all are, name "
            "the column of the countries, or write numbers with +"
        )

    @property
    def of_nobody(self) -> str:
        """The end of a sentence about the unassigned numbers; empty if there are none."""
        if not self.unassigned:
            return ""
        first = self.unassigned[0]
        why = "".join(warnings_for(first)[:1]).partition(";")[0]
        return f"; {len(self.unassigned)} of them protect nobody, such as line {self.numbers[first]}: {first} {why}"

    @property
    def in_words(self) -> str:
        """What the file holds, as a clause."""
        return counts_in_words(self.counts)

    def as_json(self) -> dict[str, object]:
        """What the file holds, for scripts."""
        counts = [{"country": place, "kind": kind, "numbers": count} for (place, kind), count in self.counts.items()]
        return {"rows": self.rows, "numbers": len(self.numbers), "counts": counts, "national": self.national}

    @property
    def bad_in_words(self) -> str:
        """The number of bad lines as a clause, such as `1 of 2 lines is not a number`."""
        bad = len(self.findings)
        are = "is not a number" if bad == 1 else "are not numbers"
        return f"{bad} of {count_of(self.rows, 'line')} {are}"


def read_number_file(
    path: Path, *, columns: Sequence[str] = (), country: str | None = None, country_column: str | None = None
) -> NumberFile:
    """Read the numbers of a file, in any usual spelling. Without + or 00 they need a `country`, as of `read_number`.

    If rows differ, it is in the `country_column` of a CSV.

    A CSV has a header, and `columns` of numbers; the default is the column named destination, phone, number, msisdn or
    the like, if there is only one. Of several columns, a row needs one number at least, and each is taken. Area codes
    may have a column of their own. A file whose first line is a number, or an area code and a number, has no header.
    Raises CampaignFileError for a file that cannot be read, or whose numbers may be in several columns, and
    InvalidInputError for an unknown country.
    """
    if path.suffix.lower() in {".xlsx", ".parquet"}:
        with InputFile(path).opened():
            what = "a list of numbers is read from a CSV or a text; save the sheet as CSV UTF-8"
            raise CampaignFileError(f"{path}: {what}")
    columns = [name for each in columns for name in column_names(each)]
    if country is not None and country_column is not None:
        raise InvalidInputError("the country and the column of countries exclude each other: give one of them")
    if country is not None:
        country = read_country(country)
    is_list = not columns and country_column is None and _is_list(path)
    taken = _Taken(str(path), country, is_list=is_list)
    if is_list:
        for line in read_lines(InputFile(path)):
            if text := line.text.strip():
                taken.read(
                    line.number,
                    _AREA_AND_NUMBER.sub(r"\1 \2", text),
                    line=text,
                    problem=line.problem or footer_in([text]),
                )
    else:
        _read_table(path, columns, country_column, taken)
    with InputFile(path).opened_raw() as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:_DIGEST]
    return NumberFile(
        rows=len(taken.lines),
        numbers=taken.numbers,
        findings=taken.findings,
        warnings=taken.warnings,
        name=as_stored(printable_line(path.name)),
        digest=digest,
        country=country,
        national=taken.national,
    )


def _is_list(path: Path) -> bool:
    """True if the first line of the file is a number instead of a header."""
    for line in islice(read_lines(InputFile(path)), 50):
        if text := line.text.strip():
            if text.startswith(("{", "[{", '["')) or text == "[":
                raise CampaignFileError(
                    f"{path} is JSON text, and a list of numbers is read from a CSV or a text; write its numbers, one "
                    "on each line (such as by jq -r '.[].phone')"
                )
            digits = sum(map(str.isdigit, text))
            is_one = not any(mark in text for mark in _SEVERAL_CELLS) or _AREA_AND_NUMBER.fullmatch(text) is not None
            return digits >= FEWEST_DIGITS and is_one
    raise CampaignFileError(f"{path} is empty; write one number on each line, or a CSV file with a column of numbers")


class _Taken:
    """What was taken so far from the cells of a table, whose rows may differ in their country, or from a list."""

    def __init__(self, file: str, country: str | None, *, is_list: bool) -> None:
        self._file = file
        self._country = country
        self._is_list = is_list
        self.lines: set[int] = set()
        self.numbers: dict[str, int] = {}
        self.findings: list[Finding] = []
        self.warnings: list[Finding] = []
        self.national = 0
        """How many texts without a country code were read as certain numbers of the country of the file."""

    def read(
        self, row: int, text: str = "", *, area: str = "", home: str = "", line: str = "", problem: str | None = None
    ) -> None:
        """Read a cell: its numbers, or a finding. `home` and `area` are the country and the area code in its row.

        With a `problem`, the row cannot be read. All numbers in the `line` of such a row are taken.
        """
        self.lines.add(row)
        try:
            if problem is not None:
                raise PhoneNumberError(problem)
            # A number with + is protected whatever its row says of the country.
            country = read_country(home) if home and not text.startswith("+") else self._country
            is_joined = area.isdecimal() and not text.startswith(("+", "00"))
            found = _with_area(area, text, country) if is_joined else every_reading(text, country)
        except InvalidInputError as error:
            self._save(row, line)
            code = error.code if isinstance(error, PhoneNumberError) and problem is None else None
            asked = Remedy.NAME_COUNTRY if self._is_list else Remedy.NAME_COUNTRIES
            message = str(error).replace(Remedy.NAME_COUNTRY, asked)
            self.findings.append(Finding(file=self._file, row=row, message=message, code=code))
            return
        if country is not None and country == self._country != INTERNATIONAL:
            self.national += len(found) == 1 and is_national(text)
        for number in found:
            self.numbers.setdefault(number.e164, row)
            for message in number.messages:
                self.warn(row, message)

    def warn(self, row: int, message: str, line: str = "") -> None:
        """Warn of a row. All numbers in the `line` are taken: a list errs on the safe side."""
        self.lines.add(row)
        self.warnings.append(Finding(file=self._file, row=row, severity=Severity.WARNING, message=message))
        self._save(row, line)

    def _save(self, row: int, line: str) -> None:
        for text in numbers_in(line):
            with suppress(InvalidInputError):
                for number in every_reading(text, self._country):
                    self.numbers.setdefault(number.e164, row)


def _with_area(area: str, text: str, country: str | None) -> Sequence[ParsedNumber]:
    """The numbers that a text is behind an area code, and by itself."""
    found: list[ParsedNumber] = []
    for each in (f"{area} {text}", text):
        with suppress(PhoneNumberError):
            found.append(read_number(each, country))
    return found or every_reading(f"{area} {text}", country)


def _read_table(path: Path, wanted: Sequence[str], country_column: str | None, taken: _Taken) -> None:
    named = [] if country_column is None else [country_column]
    rows = CsvRows(InputFile(path), judge=lambda names: _judge_header(path, names, wanted, named))
    places, homes = _places(rows.columns, wanted), _places(rows.columns, named) if named else []
    others = [place for place, name in enumerate(rows.columns) if name and place not in {*places, *homes}]
    areas = [place for place in others if folded(rows.columns[place]) in _AREAS]
    rows.spare = frozenset({"", *(rows.columns[place] for place in others)})

    def home(cells: Sequence[str]) -> str:
        return "".join(cells[place] for place in homes if place < len(cells))

    def within(raw: RawRow, cells: Sequence[str]) -> bool:
        """Take all numbers in the cells that have taken in lines; whether there are such cells."""
        found = swallowed_rows(cells, numbers=places, needed=1, delimiters=rows.delimiter)
        if found is not None:
            said = f"the line {found.in_words(begins=raw.number)}. All numbers in the lines go on the list"
            taken.warn(raw.number, said, raw.text)
            for line, text, own in numbers_within(cells, rows.delimiter):
                taken.read(raw.number + line, text, home=home(own))
        return found is not None

    for raw in rows:
        if raw.problems:
            if not within(raw, raw.cells):
                taken.read(raw.number, line=raw.text, problem=footer_in(raw.cells) or raw.problems[0][1])
            continue
        cells = list(map(shown, raw.cells))
        # A number that somebody wrote with + is one, whatever the name of its column.
        if not wanted and (found := [place for place in others if _CERTAIN.fullmatch(cells[place])]):
            raise _several(f"{path}, line {raw.number}", rows.columns, [*places, *found])
        # Two lines in a cell of numbers are read together: they may be one number.
        whole = [place for place in places if not ("\n" in cells[place] and rows.delimiter in cells[place])]
        has_lines = within(raw, ["" if place in whole else cell for place, cell in enumerate(cells)])
        read = whole if has_lines else places
        for text in [cells[place] for place in read if cells[place]] or ([""] if read == places else []):
            area = cells[areas[0]].strip("() ") if len(areas) == len(places) == 1 else ""
            said = footer_in(cells)
            taken.read(raw.number, text, area=area, home=home(cells), line=raw.text, problem=said)
        if not has_lines:
            abroad = ((each, text) for each in others for text in numbers_in(cells[each]) if text.startswith("+"))
            for each, text in abroad:
                said = f"{rows.columns[each]} holds {text}, which is not a number, and is not put on the list"
                taken.warn(raw.number, f"{said}: name only columns of numbers")


def _judge_header(path: Path, names: Sequence[str], wanted: Sequence[str], more: Sequence[str]) -> None:
    """Raise CampaignFileError for a header that does not say which columns have the numbers, or lacks one of `more`."""
    refuse_numbers_in(names, place=path)
    shown = ", ".join(filter(None, names)) or "nothing"
    for name in (*wanted, *more):
        if not _places(names, [name]):
            raise CampaignFileError(f"{path} has no column {name!r}; columns found: {shown}")
    places = _places(names, wanted)
    if not places:
        problem = f"has no column whose name suggests phone numbers; {Remedy.NAME_COLUMNS}; columns found: {shown}"
        raise CampaignFileError(f"{path} {problem}")
    if len(places) > 1 and not wanted:
        raise _several(str(path), names, places)


def _several(place: str, names: Sequence[str], places: Sequence[int]) -> CampaignFileError:
    shown = ", ".join(names[each] for each in sorted(places))
    return CampaignFileError(f"{place}: several columns look like telephone numbers ({shown}); {Remedy.NAME_COLUMNS}")


def _places(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The columns of these names, else all that by their names are columns of numbers."""
    if wanted:
        asked = {folded(canonical_name(name)) for name in wanted}
        return [place for place, name in enumerate(names) if folded(name) in asked]
    found = [place for place, name in enumerate(names) if is_number_column(name)]
    near = near_destination(name for name in names if name)
    return found or ([names.index(near)] if near is not None else [])
