"""The columns of a campaign's rows: what each is, by its name and by the options, and the values of a row by them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from voiceflow_worker.campaigns.calls.body import missing_from
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.values import RowValues
from voiceflow_worker.campaigns.lists.columns import (
    COUNTRY,
    DESTINATION,
    NOT_READ,
    REASON,
    RESERVED,
    Role,
    Shape,
    refuse_header,
    row_name,
    shape_of,
)
from voiceflow_worker.campaigns.lists.filters import RowFilter
from voiceflow_worker.campaigns.lists.rows import OpenList, Row
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.speech_filters import SpecimenText
from voiceflow_worker.model.text.wording import folded
from voiceflow_worker.model.times import DATE_LIKE

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts


class CampaignColumns:
    """The columns of a campaign's rows: those of a table resolved once, those of objects once for each set of names.

    The filters `left_out` are read with them. Raises CampaignFileError for a column that options name and that is not
    there, or cannot be what they make of it.
    """

    def __init__(
        self,
        source: OpenList,
        options: CampaignOptions,
        *,
        file: str | None,
        left_out: RowFilter,
        menu_texts: MenuTexts | None,
    ) -> None:
        self._source, self._options, self._menu, self._file = source, options, menu_texts, file
        self._place, self._left_out = file or "the rows", left_out
        self.are_bodies: bool = not source.kind.is_table and options.template is None
        """Whether the rows are request bodies."""
        roles = options.roles
        self.numbers: list[str] = [*map(row_name, roles.called)]
        """The keys of the columns of numbers to call."""
        self.ignored: frozenset[str] = frozenset(map(row_name, roles.ignored))
        self._shapes: dict[tuple[str, ...], Shape] = {}
        """The shapes of rows by their own names; rows of a table have none."""
        self.names: Mapping[str, str] = self._shape_of(()).names
        """The names of columns in findings, by their keys."""
        read = (*roles.numbers[1:], *roles.names.values(), *self._asked)
        if self.are_bodies and read:
            raise CampaignFileError(f"{self._place}: request bodies have no column {read[0]!r}; change the bodies")
        if both := next((each for each in (*roles.called, *read) if row_name(each) in self.ignored), None):
            raise CampaignFileError(f"{self._place}: {both!r} cannot be ignored, because another field reads it")
        if source.kind.is_table:
            refuse_header(source.header, self._shapes[()], roles, place=self._place, asked=self._asked)

    @property
    def _asked(self) -> Sequence[str]:
        """Columns that each row must have."""
        roles = self._options.roles
        needed = [column for name, column in roles.names.items() if name in {COUNTRY, *RESERVED}]
        return *needed, *roles.keys, *self._left_out.columns, *self._options.counted

    @property
    def number_column(self) -> str:
        """Column of the numbers to call, as the header of a table spells it."""
        return self.names.get(self.numbers[0], self._options.roles.called[0])

    def _shape_of(self, names: tuple[str, ...]) -> Shape:
        if (found := self._shapes.get(names)) is None:
            header = names or self._source.header
            found = shape_of(header, self._options.roles, are_bodies=self.are_bodies, is_file=self._file is not None)
            if not self.are_bodies and header:
                self._left_out.read(header, key=names, place=self._place)
            self._shapes[names] = found
        return found

    def values_of(self, row: Row) -> RowValues:
        """Read the values of a row. What is wrong with its cells is among the findings."""
        shape, cells = self._shape_of(row.names), row.cells
        text = "\0".join(each for each in cells if isinstance(each, str))
        values = RowValues(shape.names, has_dates=self.are_bodies or DATE_LIKE.search(text) is not None)
        for name, message in row.problems:
            if name is not None and row_name(name) not in self.ignored:
                key = row_name(name)
                values.error(message, column=DESTINATION if key == self.numbers[0] else name, code=row.code)
        for name, message in shape.wrong:
            values.error(message, column=name)
        for column, cell in zip(shape.columns, cells, strict=False):
            if column.role is not Role.IGNORED and column.key not in values.wrong:
                values.take(column, cell)
        values.take_further_numbers(self.numbers[1:])
        for name in self._asked if row.names else ():
            key = self._options.roles.renamed.get(row_name(name), row_name(name))
            if key not in values.variables and not values.is_reported(key):
                values.error("is not in this row: give it, or null", column=name)
        if values.has_dates and self._options.date_order is not None:
            values.write_dates_out(self._options.date_order)
        return values

    # -- the header against the texts ---------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """Yield the warnings about the header of a table. Raises CampaignFileError if its calls have no text."""
        template = self._options.template
        if template is None:
            raise CampaignFileError(
                f"{self._file} is a table, so its calls need a text. Give one (`say`), or `template`."
            )
        read = [each for each in self._shapes[()].columns if each.role is not Role.IGNORED]
        variables = {name for each in read for name in (each.key, each.alias) if name}
        self._refuse_lacking(template, variables)
        yield from template.findings
        texts = self._menu
        if texts is None or len(texts.languages) < 2 or "language" in {*variables, *(self._options.data or {})}:
            return
        message = (
            f"the menu {texts.name} speaks {', '.join(texts.languages)}, and no column says which: everybody hears "
            "it in its first language. If people speak others, name the column of the languages "
            "(`columns: language=NAME`)."
        )
        yield Finding(file=self._file, row=self._source.header_row, severity=Severity.WARNING, message=message)

    def _refuse_lacking(self, template: FlowTemplate, present: Collection[str]) -> None:
        """Raise CampaignFileError for values that each row of a table lacks, or that no text fills in.

        To find them, the template and the texts of the menu are filled in for a row with a value in every column.
        """
        options, menu, source = self._options, self._menu, self._source
        given = {"source": options.source, "voice_profile": options.voice_profile}
        specimen: dict[str, object] = dict.fromkeys(present, SpecimenText("1"))
        specimen |= {name: value for name, value in given.items() if value is not None and name not in present}
        specimen |= options.data or {}
        missing, lacking = set[str](), {""}
        while lacking:  # each text says the first value that it lacks
            row = {**specimen, **dict.fromkeys(missing, SpecimenText("1"))}
            values, unfit = template.fill(row)
            problems = [(problem.column, problem.is_missing) for problem in unfit]
            problems += [] if menu is None else [(name, is_missing) for name, _, is_missing in menu.problems(row)]
            lacking = {name for name, is_missing in problems if is_missing and name is not None} - row.keys()
            lacking |= missing_from(template.body_of(values)) - row.keys()
            missing |= lacking
        if not missing:
            return
        columns = f" Columns found: {', '.join(filter(None, source.header))}."
        found = [
            Finding(
                file=self._file, row=source.header_row, column=name, code=-1009,
                message=self._why_lacking(name) + columns,
                kind="lacks_column_or_option" if name in given else "lacks_column",
            )
            for name in sorted(missing)
        ]  # fmt: skip
        lines = " ".join(f"{each.column} {each.message.removesuffix(columns)}" for each in found)
        raise CampaignFileError(f"{self._file}: {lines}{columns}", found)

    def _why_lacking(self, name: str) -> str:
        if now := self._options.roles.renamed.get(row_name(name)):
            return f"is read as {now}, as `columns` say: write {{{{{now}}}}} in the text."
        if name in {"source", "voice_profile"}:
            return (
                f"is needed by the call, but there is no such column. Give it for all rows (`{name}`), or add a column."
            )
        return "is needed by the call, but there is no such column. Add it, or name the one (`columns`)."

    def is_unread(self, name: str) -> bool:
        """Return whether nothing reads a column: no text, no menu, no option, and it is not reserved."""
        key = row_name(name)
        known = {*self.ignored, *self.numbers, *self._options.roles.renamed, *map(row_name, self._asked)}
        if not name.strip() or name in {DESTINATION, *RESERVED, NOT_READ, REASON} or key in known:
            return False
        template, menu = self._options.template, self._menu
        texts = (each for each in (template and template.variables, menu and menu.names) if each)
        return not any(key in map(folded, each) for each in texts)

    def is_filter(self, name: str) -> bool:
        """Return whether rows are left out by a column."""
        key = row_name(name)
        return bool(key) and self._options.roles.renamed.get(key, key) in map(row_name, self._left_out.columns)

    def is_decided(self, name: str) -> bool:
        """Return whether it is decided what a column means for who is called."""
        return row_name(name) in {*self.ignored, *self.numbers, *map(row_name, self._left_out.columns)}
