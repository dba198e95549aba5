"""Rows of one person, by the column of the person: one call, if they agree in all that is spoken or timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from voiceflow_worker.campaigns.calls.filters import LeftOut
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.values import Draft, id_text, is_used, says_nothing
from voiceflow_worker.campaigns.columns import CampaignColumns
from voiceflow_worker.campaigns.doubts import Doubts
from voiceflow_worker.campaigns.files.damage import shown
from voiceflow_worker.campaigns.files.rows import NOT_READ, RESERVED, RawRow, RowSource, row_name
from voiceflow_worker.finding import Finding, Remedy, ranges_text, tell
from voiceflow_worker.ivr.meanings import written
from voiceflow_worker.model.flows.values import is_missing
from voiceflow_worker.model.text.wording import name_columns

_LONGEST, _MOST_SHOWN = 30, 5


class _Cell(NamedTuple):
    """A column of a row: its name, its key among the values of the row, and whether it is spoken or times the call."""

    name: str
    key: str
    matters: bool


class People:
    """The people of a `source` whose rows have the person in a column. All its rows are kept in memory, as they come.

    An id that says nothing is none: each such row is a person of its own, and so is one that is left out by its number.
    """

    def __init__(
        self,
        source: RowSource,
        options: CampaignOptions,
        columns: CampaignColumns,
        left_out: LeftOut,
        doubts: Doubts,
        *,
        file: str | None,
    ) -> None:
        self._source, self._options, self._columns = source, options, columns
        self._left_out, self._doubts, self._file = left_out, doubts, file
        self._person = options.roles.person or ""
        self._cells: dict[tuple[str, ...], list[_Cell]] = {}
        self._varied: dict[str, list[tuple[RawRow, dict[str, Any]]]] = {}

    def joined(self, rows: Iterable[RawRow]) -> Iterator[RawRow]:
        """These rows of the source, those of one person as one row with the others."""
        column, people = row_name(self._person), dict[str, list[RawRow]]()
        for raw in rows:
            names = raw.names or self._source.header
            cells = (cell for name, cell in zip(names, raw.cells, strict=False) if row_name(name) == column)
            person = _id_of(next(cells, None))
            if is_nobody := says_nothing(person):
                self._doubts.add(raw, self._person, "no_person_id", row=raw.number, value=person[:_LONGEST] or "empty")
            is_own = is_nobody or self._left_out.has_number(raw.number)
            people.setdefault(f"\0{raw.number}" if is_own else person, []).append(raw)
        for first, *others in people.values():
            yield first._replace(others=(*others,), counts=sum(each.counts for each in (first, *others)))

    def agreed(self, read: ReadRow, draft: Draft) -> ReadRow:
        """The row of a person; it is bad if its rows do not agree in all that is spoken or timed.

        Columns that nobody reads may differ: that is told by `close`.
        """
        rows = [(read.raw, draft), *draft.beside]
        differing: dict[str, list[str]] = {}
        for name, key, matters in self._cells_of(read.raw):
            values = [_text_of(each, key) for _, each in rows]
            if len(set(values)) == 1:
                continue
            if matters:
                differing[name] = values
            else:
                other = next(place for place, value in enumerate(values) if value != values[0])
                said: dict[str, Any] = {"row": rows[other][0].number, "value": values[other][:_LONGEST]}
                said |= {"earlier": read.raw.number, "first": values[0][:_LONGEST]}
                self._varied.setdefault(name, []).append((rows[other][0], said))
        if not differing:
            return read
        numbers = [raw.number for raw, _ in rows]
        names, person = list(differing), _text_of(draft, row_name(self._person))
        told = tell(
            "person_differs",
            which=f"rows {ranges_text(sorted(numbers), most=_MOST_SHOWN)}",
            person=person[:_LONGEST],
            differs="; ".join(f"{name}: {_values(differing[name])}" for name in names),
        ).giving({Remedy.LEAVE_OUT_ROWS: ranges_text(sorted(numbers))})
        wrong = (Finding(file=self._file, row=number, column=names[0], message=told) for number in numbers)
        return read.without_call(*wrong)._replace(is_left_out=False)

    def close(self) -> None:
        """Tell of the columns in which rows of one person differ, names first."""
        names = name_columns(self._varied)
        for column in sorted(self._varied, key=lambda each: each not in names):
            for raw, said in self._varied[column]:
                self._doubts.add(raw, column, "person_varies", **said)

    def _cells_of(self, raw: RawRow) -> list[_Cell]:
        names = (*dict.fromkeys(chain(*(each.names for each in (raw, *raw.others)))),) or self._source.header
        if (found := self._cells.get(names)) is None:
            found = self._cells[names] = list(self._read_of(names))
        return found

    def _read_of(self, names: Iterable[str]) -> Iterator[_Cell]:
        """The columns that rows of one person are compared in: not those of the person, or of each number."""
        columns, options, roles = self._columns, self._options, self._options.roles
        of_number = (*roles.countries, *filter(None, (roles.calling_code, roles.area_code)))
        own = {row_name(self._person), *columns.numbers, *columns.ignored, *map(row_name, of_number)}
        texts = (options.template and options.template.variables, columns.menu_names)
        timed = {*map(row_name, (*filter(None, (roles.language, roles.region)), *options.counted)), *RESERVED}
        for name in names:
            reserved = columns.reserved(name)
            key = row_name(reserved)
            if not name.strip() or row_name(name) in own or reserved == NOT_READ:
                continue
            is_timed = row_name(name) in timed or (reserved in timed and not columns.is_unread(name))
            is_timed = is_timed and not (reserved == "batch_id" and options.batch_id is not None)
            yield _Cell(name.strip(), key, is_timed or any(is_used(key, each) for each in texts if each))


def _id_of(cell: object) -> str:
    """The id in a cell, in one spelling, by the rule of unique keys."""
    return "" if cell is None else id_text(shown(written(cell)))


def _text_of(draft: Draft, key: str) -> str:
    value = draft.variables.get(key)
    return "" if is_missing(value) else written(value)


def _values(values: Iterable[str]) -> str:
    several = [each[:_LONGEST] or "empty" for each in dict.fromkeys(values)]
    return ", ".join(several[:_MOST_SHOWN]) + (" …" if len(several) > _MOST_SHOWN else "")
