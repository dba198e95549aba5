"""The columns of a campaign's rows: what each is, by its name and by the options, and the values of a row by them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.campaigns.calls.body import missing_from
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.values import RowValues, part_of
from voiceflow_worker.campaigns.lists.columns import (
    DESTINATION,
    IGNORE,
    LIMITS,
    NOT_READ,
    REASON,
    RESERVED,
    Column,
    Role,
    canonical_name,
    column_of,
    lacks_column,
    row_name,
)
from voiceflow_worker.campaigns.lists.filters import RowFilter
from voiceflow_worker.campaigns.lists.rows import OpenList, Row
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Severity, columns_text
from voiceflow_worker.ivr.speech_filters import SpecimenText
from voiceflow_worker.model.text.wording import folded
from voiceflow_worker.model.times import DATE_LIKE

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts


class Shape(NamedTuple):
    """The columns of a row, in the order of its cells; their names in findings, by their keys; what is wrong with them.

    `wrong` are pairs of a column and a message.
    """

    columns: Sequence[Column]
    names: Mapping[str, str]
    wrong: Sequence[tuple[str, str]] = ()


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
        self._place = file or "the rows"
        self._is_table = source.kind.is_table
        self.are_bodies: bool = not self._is_table and options.template is None
        """Whether the rows are request bodies."""
        roles = options.roles
        named = roles.named_numbers
        self._given = named[0] if roles.numbers else None
        self._numbers, *further = map(row_name, named)
        self.further: list[str] = further
        if further and self.are_bodies:
            raise InvalidInputError(
                f"a request body calls one number, so columns of several ({', '.join(named)}) need a text (`say`)"
            )
        self.numbers: frozenset[str] = frozenset({DESTINATION, self._numbers, *further})
        """The keys of all columns of numbers to call."""
        self._parts = [] if self._is_table else [each for each in named if "." in each]
        """The columns of numbers that may be parts of objects, such as contact.phone."""
        self.ignored: dict[str, str] = {row_name(each): each for each in roles.ignored}
        self.unseen: dict[str, str] = (
            {} if self._is_table else {**{row_name(each): each for each in named[1:]}, **self.ignored}
        )
        """The named columns that no object has had so far, by their keys."""
        self._left_out = left_out
        self._language: str | None = None if row_name(roles.language or "language") == "language" else roles.language
        """The column of the languages, if it has another name than `language`."""
        self._renamed = self._rename()
        if self._is_table:
            left_out.read(source.header, key=(), place=self._place)
        self.asked: Sequence[str] = (*roles.named, *left_out.columns, *options.counted)
        """The columns that each row must have."""
        table = [self._of_table(*each) for each in zip(source.header, source.columns, strict=True)]
        self._shapes: dict[tuple[str, ...], Shape] = {(): Shape(table, self._names(source.header))}
        """The shapes of rows by their own names; rows of a table have none."""
        read = [each for each in table if each.role is not Role.IGNORED]
        self.variables: frozenset[str] = frozenset(name for each in read for name in (each.key, each.alias) if name)
        """The keys of a table's columns."""
        self._refuse()

    @property
    def number_column(self) -> str:
        """The column of the numbers to call, as the header of a table spells it."""
        return self.names.get(self._numbers, self._given or DESTINATION)

    @property
    def names(self) -> Mapping[str, str]:
        """The names of columns in findings, by their keys."""
        return self._shapes[()].names

    def values_of(self, row: Row) -> RowValues:
        """Read the values of a row. What is wrong with its cells is among the findings."""
        names, cells = row.names, row.cells
        for each in self._parts:
            if each not in names and (part := part_of(row.data, each)) is not None:
                names, cells = (*names, each), (*cells, part)
        if (shape := self._shapes.get(names)) is None:
            shape = self._shapes[names] = self._of_objects(names, row.names)
        text = "\0".join(each for each in cells if isinstance(each, str))
        values = RowValues(shape.names, has_dates=self.are_bodies or DATE_LIKE.search(text) is not None)
        for name, message in row.problems:
            if name is not None and row_name(name) not in self.ignored:
                is_number = row_name(name) == self._numbers
                values.error(message, column=DESTINATION if is_number else name, code=row.code)
        for name, message in shape.wrong:
            values.error(message, column=name)
        for column, cell in zip(shape.columns, cells, strict=False):
            if column.role is not Role.IGNORED and column.key not in values.wrong:
                values.take(column, cell)
        if self.further:
            values.take_further_numbers(self.further)
        if self.asked:
            self._take_asked(values)
        if values.has_dates and self._options.date_order is not None:
            values.write_dates_out(self._options.date_order)
        return values

    def _take_asked(self, values: RowValues) -> None:
        """Take the language of a row from its column. An object must have each column that was named."""
        for name in self.asked:
            if row_name(name) not in values.variables and not values.is_reported(name):
                values.error("is not in this row: give it, or null", column=name)
        if self._language is not None:
            if "language" in values.variables:
                values.error(f"is in this row beside {self._language!r}; rename one", column="language")
            for texts in (values.variables, values.data):
                texts["language"] = values.variables.get(row_name(self._language))

    def reserved(self, name: str) -> str:
        """The reserved name that a column has, or gets from the options; its own name for others."""
        return self._renamed.get(row_name(name), canonical_name(name))

    def _names(self, written: Iterable[str]) -> Mapping[str, str]:
        """The names of columns in findings, by their keys: as they are written."""
        own = {row_name(name): name.strip() for name in written if name.strip()}
        names = {**self._options.roles.names, **own}
        if self._given is not None:
            names[DESTINATION] = names[self._numbers] = own.get(self._numbers, self._given)
        if self._language is not None:
            names["language"] = own.get(row_name(self._language), self._language)
        return names

    def _of_table(self, written: str, name: str) -> Column:
        if not name or name == NOT_READ or row_name(name) in self.ignored:
            return Column(written.strip(), name, row_name(name), Role.IGNORED)
        return column_of(written.strip(), name, numbers=None if self._given is None else self._numbers)

    def _of_objects(self, names: Sequence[str], own: Iterable[str]) -> Shape:
        if not self.are_bodies:
            self._left_out.read(tuple(own), key=tuple(own), place=self._place)
        columns: list[Column] = []
        keys = {row_name(name) for name in own} - self.ignored.keys()
        doubled = {
            name: column
            for name, column in self._options.roles.names.items()
            if name in keys - self._renamed.keys() and row_name(column) in keys
        }
        wrong = [(column, _beside(name, name)) for name, column in doubled.items()]
        wrong += self._misspelt(own)
        is_first = True
        for name in names:
            key = row_name(name)
            read = self._renamed.get(key, name)
            is_reason = read in {REASON, NOT_READ} and (self.are_bodies or (is_first and self._file is not None))
            is_ignored = key in self.ignored
            is_first = is_first and is_ignored
            if is_ignored or is_reason or name in doubled:
                columns.append(Column(name, name, key, Role.IGNORED))
            elif self.are_bodies:
                is_own = read in {DESTINATION, *RESERVED}
                role = (Role.NUMBER if read == DESTINATION else Role.RESERVED) if is_own else Role.BODY
                columns.append(Column(name, read, "", role))
            elif row_name(read) == self._numbers and self._given is not None:
                columns.append(column_of(name, DESTINATION, numbers=self._numbers))
            else:
                columns.append(column_of(name, canonical_name(read)))
        seen = {*map(row_name, own), *(each.key for each in columns if each.role is not Role.IGNORED)}
        self.unseen = {name: each for name, each in self.unseen.items() if name not in seen}
        return Shape(columns, self._names(own), wrong)

    def _rename(self) -> Mapping[str, str]:
        """Give columns the names that options have for them: these, by their keys. Raises CampaignFileError."""
        options, roles, place = self._options, self._options.roles.names, self._place
        renamed = {row_name(column): name for name, column in roles.items()}
        if both := next((each for each in (self._numbers, *self.further) if each in renamed), None):
            column = roles[renamed[both]]
            raise CampaignFileError(f"{place}: {column!r} has numbers to call, and cannot be {renamed[both]} too")
        if renamed and not self._is_table and options.template is None:
            raise CampaignFileError(f"{place}: request bodies have no columns; leave out `columns`, or give a text")
        if not self._is_table:
            self.unseen |= {row_name(column): column for column in roles.values()}
            return renamed
        own = {row_name(name): name.strip() for name in self._source.columns if name.strip()}
        for name, column in roles.items():
            if row_name(column) not in own:
                raise self._lacks(column)
            if name in own.keys() - renamed.keys() - self.ignored.keys():
                raise CampaignFileError(f"{place}: {column!r} {_beside(name, own[name])}")
        ignored = {name: f"{name} of the file" for name in roles if name in self.ignored.keys() - renamed.keys()}
        self.ignored |= {row_name(name): self.ignored.pop(each) for each, name in ignored.items()}
        renamed |= ignored
        self._source.columns = tuple(renamed.get(row_name(each), each) for each in self._source.columns)
        return renamed

    def _lacks(self, column: str) -> CampaignFileError:
        if row_name(column) == REASON and NOT_READ in self._source.columns:
            return CampaignFileError(
                f"{self._file} has in its first column, reason, why rows were rejected, and it is not read: rename it"
            )
        return lacks_column(column, self._source.header or self._source.columns, place=self._place)

    def _refuse(self) -> None:
        """Raise CampaignFileError if a column that options name is not there, or cannot be ignored."""
        place, roles = self._place, self._options.roles
        ignored = self.ignored.keys() - roles.names.keys()
        if both := next((each for each in (*self.asked, *roles.names.values()) if row_name(each) in ignored), None):
            raise CampaignFileError(f"{place}: the column {both!r} cannot be ignored, because another field reads it")
        if self.asked and self.are_bodies:
            raise CampaignFileError(f"{place}: request bodies have no column {self.asked[0]!r}; change the bodies")
        if not self._is_table:
            return
        if self.ignored.keys() & self.numbers:
            raise CampaignFileError(f"{place}: the column of the numbers to call cannot be ignored")
        present = self.variables | (self.ignored.keys() & set(map(row_name, self._source.header)))
        if lacking := [each for each in (*self.asked, *self.ignored.values()) if row_name(each) not in present]:
            raise self._lacks(lacking[0])
        if self._language is not None and "language" in self.variables:
            raise CampaignFileError(f"{place} has a column language beside {self._language!r}; rename one")
        for name, message in self._misspelt(self._source.header):
            found = Finding(file=self._file, row=self._source.header_row, column=name, message=message)
            raise CampaignFileError(f"{place}: {name!r} {message}", [found])

    def _misspelt(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield each column whose name is that of a limit in another spelling, with the error about it.

        Whoever gives an end or a beginning wants nobody to ring beyond it.
        """
        decided = {*self.ignored, *self._renamed, *map(row_name, self.asked)}
        for name in names:
            key = row_name(name)
            if key in LIMITS and name.strip() != key and key not in decided:
                take, ignore = (columns_text([f"{role}={name.strip()}"]) for role in (key, IGNORE))
                yield (
                    name.strip(),
                    f"is not read. Take it for {key} (`columns: {take}`), or ignore it (`columns: {ignore}`).",
                )

    # -- the header against the texts ---------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """The warnings about the header of a table whose calls have a text. Raises CampaignFileError if it has none."""
        template = self._options.template
        if template is None:
            raise CampaignFileError(
                f"{self._file} is a table, so its calls need a text. Give one (`say`), or `template`."
            )
        variables = self.variables | ({"language"} if self._language else set[str]())
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
        columns = f" Columns found: {', '.join(filter(None, source.header or source.columns))}."
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
        renamed = self._options.roles.names.items()
        if now := next((each for each, column in renamed if row_name(column) == row_name(name)), None):
            return f"is read as {now}, as `columns` say: write {{{{{now}}}}} in the text."
        if name in {"source", "voice_profile"}:
            return (
                f"is needed by the call, but there is no such column. Give it for all rows (`{name}`), or add a column."
            )
        if isinstance(column := self._options.roles.as_table().get(name), str):
            return f"is a role of a column, and no name for texts: write {{{{{row_name(column)}}}}}."
        return "is needed by the call, but there is no such column. Add it, or name the one (`columns`)."

    def is_unread(self, name: str) -> bool:
        """Whether nobody reads a column: no text or menu that is known, no option, and it is not reserved."""
        key = row_name(name)
        known = {*self.ignored, *self.numbers, *self._renamed, *map(row_name, (*self.asked, *self._parts))}
        if not name.strip() or name in {*RESERVED, NOT_READ, REASON} or key in known:
            return False
        template, menu = self._options.template, self._menu
        texts = (each for each in (template and template.variables, menu and menu.names) if each)
        return not any(key in map(folded, each) for each in texts)

    def is_filter(self, name: str) -> bool:
        """Whether rows are left out by a column."""
        return bool(name.strip()) and row_name(self.reserved(name)) in map(row_name, self._left_out.columns)

    def is_decided(self, name: str) -> bool:
        """Whether it is said what a column means for who is called: it filters rows, is not read, or has numbers."""
        return row_name(name) in {*self.ignored, *self.numbers, *map(row_name, self._left_out.columns)}


def _beside(name: str, own: str) -> str:
    """Why a column cannot be read under a name that another column has."""
    return f"is to be {name}, and {own!r} is there too. Ignore it (`columns: {columns_text([f'{IGNORE}={own}'])}`)."
