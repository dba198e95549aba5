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
from voiceflow_worker.campaigns.files.no_call import Told, sense_of, told_beside, told_not_to_call
from voiceflow_worker.campaigns.files.number_formats import POWER
from voiceflow_worker.campaigns.files.rows import MEANINGS, RawRow, RowSource, row_name
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.finding import Finding, Remedy
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
    """What is said of the first of several rows that are alike. In its message, {rows} stands for all of them."""

    first: Finding
    count: int = 0

    def finding(self) -> Finding:
        """The warning about these rows."""
        message, others = self.first.message.replace("{rows}", count_of(self.count, "row")), self.count - 1
        if others and message == self.first.message:
            message += f". {count_of(others, 'more row')} like it."
        return replace(self.first, message=message)


class RowNotes:
    """What is said once of all rows of a `source` that are alike.

    `spoken` are the keys of the columns that texts speak. `warning` makes the warning about a row, its column and a
    message.
    """

    def __init__(
        self,
        source: RowSource,
        columns: CampaignColumns,
        *,
        spoken: Iterable[str],
        warning: Callable[[RawRow, str | None, str], Finding],
    ) -> None:
        self._source = source
        self._columns = columns
        self._spoken = dict.fromkeys(spoken, False)
        """The columns that are spoken; True for those that hold texts, and not only yes, no and numbers."""
        self._warning = warning
        self._alike: dict[str, _AlikeRows] = {}
        self._last: tuple[int, int, int] = (0, 0, 0)
        """Of the numbers that count up by one to the last row's: that one, the row of the first, and their count."""

    def findings(self, idle: Collection[str]) -> list[Finding]:
        """The warnings about all rows so far, but for `idle` ones. A False is a word for nothing among texts alone."""
        rare = ("a False", "a code")
        falses = {f"{each} among texts {name}" for name, texts in self._spoken.items() if not texts for each in rare}
        return [each.finding() for what, each in self._alike.items() if what not in {*falses, *idle}]

    def add(self, what: str, raw: RawRow, column: str | None, message: str) -> None:
        """Add a row about which `what` is said: a message about the first such row, and about all {rows} of them."""
        if what not in self._alike:
            self._alike[what] = _AlikeRows(self._warning(raw, column, message))
        self._alike[what].count += 1

    def add_bad(self, read: ReadRow, names: Mapping[str, str]) -> None:
        """Add a row of which a reserved column is wrong, which may have its name by chance; `names` are as written."""
        for column in dict.fromkeys(found.column or "" for found in read.findings if found.is_error):
            if column in MEANINGS and names.get(column) == column:
                message = f"is a reserved name: {MEANINGS[column]}. If it is not meant for that, {Remedy.IGNORE_COLUMN}"
                self.add(f"reserved {column}", read.raw, column, f"{message}. Wrong in {{rows}}")

    def add_call(self, raw: RawRow, call: CheckedCall) -> None:
        """Add a row with a call that speaks a word for nothing or an unread script, or whose cells say not to call."""
        names = raw.names or self._source.header
        for name, cell in (call.data or {}).items():
            if name not in self._spoken or cell is None or cell is True:
                continue
            if not (value := cell if isinstance(cell, str) else "False" if cell is False else written(cell)):
                continue
            if not value.isascii() and (other := unread(value, call.body)) is not None:
                message = (
                    f"has {other[0]} letters in {{rows}}, such as {value[:40]!r}, which the voice {other[1]} does not "
                    "read: write them in letters of its language, or give these rows another voice in a column "
                    "voice_profile"
                )
                self.add(f"script {name} {other}", raw, name, message)
            if not value.isalnum() and (problem := as_programs_write(value)) is not None:
                self.add(f"of a program {name} {problem[:5]}", raw, name, problem)
            if _SURVEY.fullmatch(value):
                message = f"holds {value} in {{rows}}, which surveys write for no answer: empty such cells"
                self.add(f"a code among texts {name}", raw, name, message)
            elif _NO_NAME.search(value) and name in _people(names):
                message = f"has a number or an address in place of a name in {{rows}}, such as {value[:40]!r}"
                self.add(f"no name {name}", raw, name, f"{message}: it is spoken, unless the cell is empty")
            if not stands_for_nothing(value):
                if not self._spoken[name] and isinstance(meaning_of(value), str):
                    self._spoken[name] = True
                continue
            what = "a word for nothing" if meaning_of(value) else "a False among texts"
            message = (
                f"holds {what} in {{rows}}, such as {value!r}, and {{{{ {name} }}}} speaks it as it stands: empty such "
                f"cells, or write {{{{ {name} or 'something' }}}}, which speaks the other"
            )
            self.add(f"{what} {name}", raw, name, message)
        for place, name, is_name in _telling(names):
            cell = raw.cells[place]
            told = told_beside(cell) if is_name else told_not_to_call(name, cell)
            if told is not None and row_name(name) not in {*self._columns.ignored, *self._columns.numbers}:
                remedy = Remedy.LEAVE_OUT_ROWS if told is Told.REMARK else Remedy.LEAVE_OUT
                message = f"{told}, such as row {raw.number}, {str(cell)[:40]!r}; {remedy}"
                self.add(f"no call {name}", raw, name, message)

    def about_numbers(self, call: CheckedCall, row: int) -> Iterator[tuple[str, str]]:
        """What is to be said, with its message, of a call to its own source, or of numbers that count up by one."""
        if telephone_of(call.source) in map(telephone_of, call.numbers):
            why = "the number that the calls come from: leave the own number out"
            yield f"own number {call.source}", f"{{rows}} call {call.source}, {why}"
        number, (last, first, count) = int(call.destination.removeprefix("+")), self._last
        self._last = (number, first, count + 1) if number == last + 1 else (number, row, 1)
        if self._last[2] == _MANY_IN_A_ROW:
            why = "a spreadsheet has perhaps filled them down; compare them with the source of the list"
            yield "counting", f"{count + 1} rows in a row have numbers that count up by one, from row {first} on: {why}"

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
                self.add("misread", raw, name or None, problem)
            if name and ("&" in text or "<" in text) and without_markup(text) != text:
                message = (
                    f"has HTML of another program in {{rows}}, which is not spoken: row {raw.number}, "
                    f"{text.strip()[:60]!r}, is read as {shown(text)[:60]!r}"
                )
                self.add(f"markup {row_name(name)}", raw, name, message)

    def _add_glued(self, raw: RawRow) -> None:
        for name, cell in zip(self._source.columns, raw.cells, strict=False):
            if '"' in cell and row_name(name) not in self._columns.numbers and (found := number_behind_quote(cell)):
                message = (
                    f"holds {found} right behind a quote, as if a line break were missing. That number is not called: "
                    "if it is a row of its own, give it a line of its own"
                )
                self.add("glued", raw, name or None, message)
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


def left_out_beside(beside: Mapping[str, str], texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A message for each column whose cells show something `beside` their numbers that no text speaks."""
    behind: dict[str, set[str]] = {}
    for each in (found for text in texts for found in _BARE.finditer(text)):
        behind.setdefault(row_name(each[1]), set()).add(without_accents(each[2] or ""))
    for name, words in behind.items():
        shown = beside.get(name, "")
        if shown and not any(word and _says(word, shown) for word in words):
            said = f"shows {shown} with its numbers, and {{{{ {name} }}}} speaks the number alone"
            remedy = "give the cells another format" if shown == POWER else f"write {shown} behind it in the text"
            yield name, f"{said}: {remedy}, if people are to hear it"


def _says(word: str, shown: str) -> bool:
    """Whether the word behind a number says what its cell shows: a sign, a unit that begins so, or a currency."""
    if not word.isalpha() or word[0] == without_accents(shown)[0]:
        return True
    names = currency_words(shown)
    if not names:
        return not shown[0].isalpha()
    return any(word.startswith(each[:4]) or (not word.isascii() and word[:2] in each) for each in names)
