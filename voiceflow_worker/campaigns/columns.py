"""The columns of a campaign, resolved: what each is, by its name and by the options, and what is told of the names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.values import Draft, is_used, missing_from, part_of
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
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, columns_text, message_of, tell
from voiceflow_worker.ivr.speech_filters import SpecimenText
from voiceflow_worker.model.jobs.job import person_in

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts


class Shape(NamedTuple):
    """The columns of a row, in the order of its cells; their names as written, by their keys; what is wrong with them.

    `wrong` are pairs of a column and a message.
    """

    columns: Sequence[Column]
    names: Mapping[str, str]
    wrong: Sequence[tuple[str, str]] = ()


class CampaignColumns:
    """The columns of a campaign's rows: those of a table resolved once, those of objects once for each set of names.

    What `left_out` was typed is read with them. Raises CampaignFileError for a column that options name and that is not
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
        if self.further and self.are_bodies:
            raise InvalidInputError(tell("one_number_in_body", columns=", ".join(named)))
        self.numbers: frozenset[str] = frozenset({DESTINATION, self._numbers, *self.further})
        """The keys of all columns of numbers to call."""
        self._parts = [] if self._is_table else [each for each in named if "." in each]
        """The columns of numbers that may be parts of objects, such as contact.phone."""
        self.ignored: dict[str, str] = {row_name(each): each for each in roles.ignored}
        self.unseen: dict[str, str] = (
            {} if self._is_table else {**{row_name(each): each for each in named[1:]}, **self.ignored}
        )
        """The named columns that no object has had so far, by their keys."""
        self.names: Mapping[str, str] = {**_own_names(source.header), **roles.names}
        """The names of columns as they are written, by their keys."""
        self._left_out = left_out
        self._renamed = self._rename()
        if self._is_table:
            left_out.read(source.header, key=(), place=self._place)
        self._language: str | None = None if row_name(roles.language or "language") == "language" else roles.language
        """The column of the languages, if it has another name than `language`."""
        self._asks = bool(self.asked)
        table = [self._of_table(*each) for each in zip(source.header, source.columns, strict=True)]
        self._shapes: dict[tuple[str, ...], Shape] = {(): Shape(table, self.names)}
        """The shapes of rows by their own names; rows of a table have none."""
        read = [each for each in table if each.role is not Role.IGNORED]
        self.variables: frozenset[str] = frozenset(name for each in read for name in (each.key, each.alias) if name)
        """The keys of a table's columns."""
        self._refuse()

    @property
    def menu_names(self) -> frozenset[str]:
        """The names that the texts of the menu speak."""
        return frozenset() if self._menu is None else self._menu.names

    @property
    def number_column(self) -> str:
        """The column of the numbers to call, as the header of a table spells it."""
        return self.names.get(self._numbers, self._given or DESTINATION)

    @property
    def asked(self) -> Sequence[str]:
        """The columns that each row must have."""
        return (*self._options.roles.named, *self._left_out.columns, *self._options.counted)

    def fill(self, raw: Row, draft: Draft) -> None:
        """Take the cells of a row that can be read."""
        names, cells = raw.names, raw.cells
        for each in self._parts:
            if each not in names and (part := part_of(raw.data, each)) is not None:
                names, cells = (*names, each), (*cells, part)
        if (shape := self._shapes.get(names)) is None:
            shape = self._shapes[names] = self._of_objects(names, raw.names)
        draft.names = shape.names
        wrong = {row_name(found.column or "") for found in draft.findings} if draft.findings else ()
        for name, message in shape.wrong:
            draft.error(message, column=name)
        for column, cell in zip(shape.columns, cells, strict=False):
            if column.role is not Role.IGNORED and column.key not in wrong:
                draft.take(column, cell)
        if self.further:
            draft.take_further_numbers(self.further)
        if self._asks:
            self._take_asked(draft)

    def _take_asked(self, draft: Draft) -> None:
        """Take the language of a row from its column. An object must have each column that was named."""
        found = {*draft.variables, *(row_name(each.column or "") for each in draft.findings)}
        for name in self.asked:
            if row_name(name) not in found:
                draft.error("is not in this row: give it, or null", column=name)
        if self._language is not None:
            if "language" in draft.variables:
                draft.error(f"is in this row beside {self._language!r}; rename one", column="language")
            for texts in (draft.variables, draft.data):
                texts["language"] = draft.variables.get(row_name(self._language))

    def names_in(self, raw: Row) -> Mapping[str, str]:
        """The names of a row's columns as they are written, by their keys."""
        known = self._shapes.get(raw.names)
        return _own_names(raw.names) if known is None else known.names

    def in_file(self, raw: Row, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """These findings, with the names of columns as the file spells them, and that of the row's person.

        Reserved names stay as they are.
        """
        names = self.names_in(raw)
        told: list[Finding] = []
        for found in findings:
            name = found.column or ""
            if name == DESTINATION and self._given is not None:
                own = names.get(self._numbers, self._given)
            elif name == "language" and self._language is not None:
                own = names.get(row_name(self._language), self._language)
            else:
                own = name if name in {DESTINATION, *RESERVED} else names.get(row_name(name), name)
            cells = dict(zip(raw.names or self._source.header, raw.cells, strict=False))
            column = found.column if own == name else own
            told.append(replace(found, column=column, person=person_in(cells)))
        return tuple(told)

    def reserved(self, name: str) -> str:
        """The reserved name that a column has, or gets from the options; its own name for others."""
        return self._renamed.get(row_name(name), canonical_name(name))

    def key_of(self, column: str | None) -> str:
        """The name in findings of a column that a source names: that of the numbers to call is the destination."""
        return DESTINATION if row_name(column or "") == self._numbers else column or ""

    def _of_table(self, written: str, name: str) -> Column:
        if not name or name == NOT_READ or row_name(name) in self.ignored:
            return Column(written.strip(), name, row_name(name), Role.IGNORED)
        return column_of(written.strip(), name, numbers=None if self._given is None else self._numbers)

    def _of_objects(self, names: Sequence[str], own: Iterable[str]) -> Shape:
        if not self.are_bodies:
            self._left_out.read(tuple(own), key=tuple(own), place=self._place)
        columns: list[Column] = []
        keys, wrong = {row_name(name) for name in own} - self.ignored.keys(), list[tuple[str, str]]()
        doubled = set[str]()
        for name, column in self._options.roles.names.items():
            if name in keys - self._renamed.keys() and row_name(column) in keys:
                wrong.append((column, tell("two_in_row", name=name)))
                doubled.add(name)
        wrong += [*self._misspelt(own), *self._twins_in(own)]
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
        return Shape(columns, _own_names(own), wrong)

    def _rename(self) -> Mapping[str, str]:
        """Give columns the names that options have for them: these, by their keys. Raises CampaignFileError."""
        options, roles, place = self._options, self._options.roles.names, self._place
        renamed = {row_name(column): name for name, column in roles.items()}
        if both := next((each for each in (self._numbers, *self.further) if each in renamed), None):
            column = roles[renamed[both]]
            raise CampaignFileError(f"{place}: {column!r} has numbers to call, and cannot be {renamed[both]} too")
        if renamed and not self._is_table and options.template is None:
            raise CampaignFileError(f"{place}: request bodies have no columns; leave out columns, or give a text")
        if not self._is_table:
            self.unseen |= {row_name(column): column for column in roles.values()}
            return renamed
        own = _own_names(self._source.columns)
        for name, column in roles.items():
            if row_name(column) not in own:
                raise self._lacks(column)
            if name in own.keys() - renamed.keys() - self.ignored.keys():
                raise CampaignFileError(tell("two_columns", file=place, own=own[name], column=column, name=name))
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
            raise CampaignFileError(
                f"{place}: the column {both!r} cannot be ignored, because another field, such as leave_out, reads it; "
                f"if it has a reserved name by chance, columns give it another, such as own={both}"
            )
        if self.asked and self.are_bodies:
            hint = "leave out the lines themselves" if self._left_out.columns else "write + before numbers"
            hint = "give each its own not_before and valid_until" if self._options.counted else hint
            raise CampaignFileError(f"{place}: request bodies have no column {self.asked[0]!r}; {hint}")
        if not self._is_table:
            return
        if self.ignored.keys() & self.numbers:
            raise CampaignFileError(f"{place}: the column of the numbers to call cannot be ignored")
        ignorable = self.ignored.keys() & set(map(row_name, self._source.header))
        named = (*self.asked, *self.ignored.values())
        if lacking := [each for each in named if row_name(each) not in self.variables | ignorable]:
            raise self._lacks(lacking[0])
        if self._language is not None and "language" in self.variables:
            raise CampaignFileError(f"{place} has a column language beside {self._language!r}; rename one")
        for name, message in (*self._misspelt(self._source.header), *self._twins_in(self._source.header)):
            found = Finding(file=self._file, row=self._source.header_row, column=name, message=message)
            raise CampaignFileError(_of_file(f"{place}: {name!r}", message), [found])

    def _misspelt(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield each column whose name is that of a limit in another spelling, with the error about it.

        Whoever gives an end or a beginning wants nobody to ring beyond it.
        """
        decided = {*self.ignored, *self._renamed, *map(row_name, (*self.asked, *self._options.roles.named))}
        for name in names:
            key = row_name(name)
            if key in LIMITS and name.strip() != key and key not in decided:
                pairs = {Remedy.TAKE_COLUMN: key, Remedy.IGNORE_COLUMN: IGNORE}
                given = {remedy: columns_text([f"{role}={name.strip()}"]) for remedy, role in pairs.items()}
                yield name.strip(), tell("other_spelling", name=key).giving(given)

    def _twins_in(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the column of the country of one of several numbers, with the error that another is not read."""
        country = self._options.roles.country
        for name in names if country is not None and self.further else ():
            key = row_name(name)
            is_twin = key.rstrip("_0123456789") == row_name(country or "").rstrip("_0123456789")
            if is_twin and key not in {row_name(country or ""), *self.ignored}:
                told = f"would say the country of all numbers of a person, and {name.strip()!r} stands beside it."
                yield country or "", f"{told} Write the numbers with +, or ignore {name.strip()!r}."

    # -- what is told of names -----------------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """What is told of the header of a table whose calls have a text. Raises CampaignFileError if one is lacking."""
        template = self._options.template
        if template is None:
            raise CampaignFileError(tell("no_text", file=self._file))
        variables = self.variables | ({"language"} if self._language else set[str]())
        self._refuse_lacking(template, variables)
        yield from template.findings
        yield from self._no_language(variables)

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
        told = [(name, self._why_lacking(name)) for name in sorted(missing)]
        columns = f"; columns found: {', '.join(filter(None, source.header or source.columns))}"
        found = [
            Finding(file=self._file, row=source.header_row, column=name, code=-1009, message=message.plus(end))
            for (name, message), end in zip(told, ("",) * (len(told) - 1) + (columns,), strict=True)
        ]
        lines = "; ".join(f"{each.column} {each.message}" for each in found)
        raise CampaignFileError(Message(f"{self._file}: {lines}", *(each.message for each in found)), found)

    def _why_lacking(self, name: str) -> Message:
        renamed = self._options.roles.names.items()
        if now := next((each for each, column in renamed if row_name(column) == row_name(name)), None):
            return tell("name_read_as", name=now)
        option, hint = {"source": Remedy.GIVE_SOURCE, "voice_profile": Remedy.GIVE_VOICE}.get(name), ""
        if isinstance(column := self._options.roles.as_table().get(name), str):
            hint = f"; or write {{{{{row_name(column)}}}}}: {name} is a role of that column, and no name for texts"
        if option is not None:
            return tell("lacks_column_or_option", remedy=option, name=name, hint=hint)
        return tell("lacks_column", name=name, hint=hint)

    def _no_language(self, variables: Collection[str]) -> Iterator[Finding]:
        """A warning if nothing says which language of the menu a person speaks."""
        texts = self._menu
        if texts is None or len(texts.languages) < 2 or "language" in {*variables, *(self._options.data or {})}:
            return
        message = tell("no_language", menu=texts.name, languages=", ".join(texts.languages))
        yield self._warning(message, self._source.header_row, None)

    def is_unread(self, name: str) -> bool:
        """Whether nobody reads a column: no text or menu that is known, no option, and it is not reserved."""
        key = row_name(name)
        known = {*self.ignored, *self.numbers, *self._renamed, *map(row_name, self.asked)}
        if (
            not name.strip()
            or name in {*RESERVED, NOT_READ, REASON}
            or key in known
            or key in map(row_name, self._parts)
        ):
            return False
        template, menu = self._options.template, self._menu
        return not any(is_used(name, each) for each in (template and template.variables, menu and menu.names) if each)

    def is_filter(self, name: str) -> bool:
        """Whether rows are left out by a column."""
        return bool(name.strip()) and row_name(self.reserved(name)) in map(row_name, self._left_out.columns)

    def is_decided(self, name: str) -> bool:
        """Whether it is said what a column means for who is called: it filters rows, is not read, or has numbers."""
        return row_name(name) in {*self.ignored, *self.numbers, *map(row_name, self._left_out.columns)}

    def _warning(self, message: str, row: int | None, column: str | None) -> Finding:
        return Finding(file=self._file, row=row, column=column, severity=Severity.WARNING, message=message)


def _of_file(place: str, message: str) -> Message:
    """Return the message of a column as that of a whole file."""
    told = message_of(message)
    return Message(f"{place} {told}", told, kind=told.kind, values=told.values)


def _own_names(names: Iterable[str]) -> Mapping[str, str]:
    """The names of columns as they are written, by their keys."""
    return {row_name(name): name.strip() for name in names if name.strip()}
