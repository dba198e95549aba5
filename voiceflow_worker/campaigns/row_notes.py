"""Warnings about rows that are alike: each is given once, with the first of these rows and their number."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.columns import CampaignColumns
from voiceflow_worker.campaigns.files.damage import (
    as_programs_write,
    misread,
    number_behind_quote,
    shown,
    without_markup,
)
from voiceflow_worker.campaigns.files.no_call import sense_of, told_beside, told_not_to_call
from voiceflow_worker.campaigns.files.number_formats import POWER
from voiceflow_worker.campaigns.files.rows import MEANINGS, RawRow, RowSource, row_name
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.finding import Finding, Message, names_in, tell
from voiceflow_worker.ivr.meanings import meaning_of, stands_for_nothing, written
from voiceflow_worker.ivr.scripts import unread
from voiceflow_worker.model.numbers.phone import telephone_of
from voiceflow_worker.model.text.names_of_the_world import currency_words, without_accents
from voiceflow_worker.model.text.wording import count_of, name_columns

_SURVEY = re.compile(r"-(?:9{2,4}|9[78]|8{2,3}|77|66|99[78])|\.[a-z]")
_NO_NAME = re.compile(r"^[+(]*\d|\w@\w|://")
"""How a number or an address begins, or what is in it."""
_BARE = re.compile(r"(?<![$€£¥₹])(?<![$€£¥₹] )(?<!\b[A-Z]{3} )\{\{\s*([\w .-]+?)\s*\}\}[\s-]*([^\W\d_]+|[$€£¥₹%°])?")
"""A name in a text that speaks its value as it is, without a currency before it, and the word behind it."""
_MANY_IN_A_ROW = 10
"""How many numbers that count up by one nobody has in a list by chance."""


@dataclass(slots=True)
class _AlikeRows:
    """Rows of which the same is told: the warning about the first, its kind and its values, and their count."""

    first: Finding
    kind: str
    values: Mapping[str, object]
    count: int = 0

    def finding(self) -> Finding:
        """The warning about these rows."""
        message, others = tell(self.kind, rows=count_of(self.count, "row"), **self.values), self.count - 1
        if others and "rows" not in names_in(self.kind):
            message = message.plus(f". {count_of(others, 'more row')} like it.")
        return replace(self.first, message=message)


class RowNotes:
    """What is said once of all rows of a `source` that are alike: of one kind, in one column.

    `spoken` are the keys of the columns that texts speak. `warning` makes the warning about a row and a column.
    """

    def __init__(
        self,
        source: RowSource,
        columns: CampaignColumns,
        *,
        spoken: Iterable[str],
        warning: Callable[[RawRow, str | None], Finding],
    ) -> None:
        self._source = source
        self._columns = columns
        self._spoken = dict.fromkeys(spoken, False)
        """The columns that are spoken; True for those that hold texts, and not only yes, no and numbers."""
        self._warning = warning
        self._alike: dict[tuple[object, ...], _AlikeRows] = {}
        self._last: tuple[int, int, int] = (0, 0, 0)
        """Of the numbers that count up by one to the last row's: that one, the row of the first, and their count."""

    def findings(self, idle: Collection[tuple[str, str]]) -> list[Finding]:
        """The warnings about all rows so far, but for `idle` ones. A False is a word for nothing among texts alone."""
        rare = ("spoken_false", "survey_code")
        silent = {*idle, *((each, name) for name, texts in self._spoken.items() if not texts for each in rare)}
        return [each.finding() for key, each in self._alike.items() if key[:2] not in silent]

    def add(self, raw: RawRow, column: str | None, kind: str, *apart: str, **values: object) -> None:
        """Add a row about which something is told, with the values of the first one. Those `apart` are told apart."""
        key = (kind, row_name(column or ""), *apart)
        if key not in self._alike:
            self._alike[key] = _AlikeRows(self._warning(raw, column), kind, values)
        self._alike[key].count += 1

    def add_told(self, raw: RawRow, column: str | None, told: Message) -> None:
        """Add a row about which this is told."""
        if told.kind is not None:
            self.add(raw, column, told.kind, **told.values)

    def add_bad(self, read: ReadRow, names: Mapping[str, str]) -> None:
        """Add a row of which a reserved column is wrong, which may have its name by chance; `names` are as written."""
        for column in dict.fromkeys(found.column or "" for found in read.findings if found.is_error):
            if column in MEANINGS and names.get(column) == column:
                self.add(read.raw, column, "reserved_name_wrong", meaning=MEANINGS[column])

    def add_call(self, raw: RawRow, call: CheckedCall) -> None:
        """Add a row with a call that speaks a word for nothing or an unread script, or whose cells say not to call."""
        names = raw.names or self._source.header
        for name, cell in (call.data or {}).items():
            if name not in self._spoken or cell is None or cell is True:
                continue
            if not (value := cell if isinstance(cell, str) else "False" if cell is False else written(cell)):
                continue
            if not value.isascii() and (other := unread(value, call.body)) is not None:
                self.add(raw, name, "other_script", *other, letters=other[0], voice=other[1], value=value[:40])
            if not value.isalnum() and (problem := as_programs_write(value)) is not None:
                self.add_told(raw, name, problem)
            if _SURVEY.fullmatch(value):
                self.add(raw, name, "survey_code", value=value)
            elif _NO_NAME.search(value) and name in _people(names):
                self.add(raw, name, "no_name", value=value[:40])
            if not stands_for_nothing(value):
                if not self._spoken[name] and isinstance(meaning_of(value), str):
                    self._spoken[name] = True
                continue
            self.add(raw, name, "spoken_nothing" if meaning_of(value) else "spoken_false", name=name, value=value)
        for place, name, is_name in _telling(names):
            cell = raw.cells[place]
            told = told_beside(cell) if is_name else told_not_to_call(name, cell)
            if told is not None and row_name(name) not in {*self._columns.ignored, *self._columns.numbers}:
                self.add(raw, name, told, row=raw.number, value=str(cell)[:40])

    def add_numbers(self, raw: RawRow, call: CheckedCall, column: str) -> None:
        """Add a row with a call to its own source, or at the end of numbers that count up by one."""
        row = raw.number
        if telephone_of(call.source) in map(telephone_of, call.numbers):
            self.add(raw, column, "own_number", str(call.source), number=call.source)
        number, (last, first, count) = int(call.destination.removeprefix("+")), self._last
        self._last = (number, first, count + 1) if number == last + 1 else (number, row, 1)
        if self._last[2] == _MANY_IN_A_ROW:
            self.add(raw, column, "counting", count=count + 1, first=first)

    def add_texts(self, raw: RawRow, texts: Iterable[tuple[str, str]]) -> None:
        """Add a row whose texts seem to be wrongly decoded, have HTML, or a number where a line break may be missing.

        The texts come with the names of their columns.
        """
        if '""' in raw.text and self._source.kind.is_table:
            self._add_glued(raw)
        damaged = False
        for name, text in texts:
            if not damaged and (problem := misread(text)) is not None:
                damaged = True
                self.add_told(raw, name or None, problem)
            if name and ("&" in text or "<" in text) and without_markup(text) != text:
                said, heard = text.strip()[:60], shown(text)[:60]
                self.add(raw, name, "markup", row=raw.number, value=said, spoken=heard)

    def _add_glued(self, raw: RawRow) -> None:
        for name, cell in zip(self._source.columns, raw.cells, strict=False):
            if '"' in cell and row_name(name) not in self._columns.numbers and (found := number_behind_quote(cell)):
                self.add(raw, name or None, "glued", number=found)
                return


@lru_cache(maxsize=256)
def _people(names: tuple[str, ...]) -> frozenset[str]:
    """The keys of the columns that have the names of people."""
    return frozenset(map(row_name, name_columns(names)))


@lru_cache(maxsize=256)
def _telling(names: tuple[str, ...]) -> list[tuple[int, str, bool]]:
    """The columns that may say whom not to call, each with its place, and whether it has the names of people."""
    people = name_columns(names)
    found = ((place, name, name in people) for place, name in enumerate(names))
    return [each for each in found if each[2] or sense_of(each[1]) is not None]


def left_out_beside(beside: Mapping[str, str], texts: Iterable[str]) -> Iterator[tuple[str, Message]]:
    """A message for each column whose cells show something `beside` their numbers that no text speaks."""
    behind: dict[str, set[str]] = {}
    for each in (found for text in texts for found in _BARE.finditer(text)):
        behind.setdefault(row_name(each[1]), set()).add(without_accents(each[2] or ""))
    for name, words in behind.items():
        shown = beside.get(name, "")
        if shown and not any(word and _says(word, shown) for word in words):
            kind = "power_not_spoken" if shown == POWER else "unit_not_spoken"
            yield name, tell(kind, unit=shown, name=name)


def _says(word: str, shown: str) -> bool:
    """Whether the word behind a number says what its cell shows: a sign, a unit that begins so, or a currency."""
    if not word.isalpha() or word[0] == without_accents(shown)[0]:
        return True
    names = currency_words(shown)
    if not names:
        return not shown[0].isalpha()
    return any(word.startswith(each[:4]) or (not word.isascii() and word[:2] in each) for each in names)
