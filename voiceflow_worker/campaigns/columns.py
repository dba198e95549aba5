"""The columns of a campaign, resolved: what each is, by its name and by the options, and what is told of the names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.campaigns.calls.filters import LeftOut
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.values import Draft, is_used, missing_from, part_of
from voiceflow_worker.campaigns.files.rows import (
    DESTINATION,
    IGNORE,
    MEANINGS,
    NOT_READ,
    REASON,
    RESERVED,
    ROLES,
    Column,
    ColumnReader,
    ColumnRoles,
    RawRow,
    Role,
    RowSource,
    canonical_name,
    column_of,
    is_number_column,
    is_other_spelling,
    lacks_column,
    near_destination,
    refuse_numbers_in,
    row_name,
)
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Message, Remedy, Severity, columns_text, tell
from voiceflow_worker.ivr.speech_filters import SpecimenText
from voiceflow_worker.model.jobs.job import person_in
from voiceflow_worker.model.text.wording import did_you_mean

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts

_LIMITS = frozenset({"not_before", "valid_until"})


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
        source: RowSource,
        options: CampaignOptions,
        *,
        file: str | None,
        left_out: LeftOut,
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
        self._told: set[str] = set()
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

    def fill(self, raw: RawRow, draft: Draft, *, is_plain: bool) -> None:
        """Take the cells of a row that can be read; with `is_plain`, it has nothing that programs leave in cells."""
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
                draft.take(column, cell, is_plain=is_plain)
        if self.further:
            draft.take_further_numbers(self.further)
        if self._asks:
            self._take_asked(raw, draft)

    def _take_asked(self, raw: RawRow, draft: Draft) -> None:
        """Take the language of a row from its column. An object must have each column that was named."""
        found = {*draft.variables, *(row_name(each.column or "") for each in draft.findings)}
        for name in self.asked:
            if row_name(name) not in found:
                draft.error(f"is not in this row: give it, or null{did_you_mean(name, raw.names)}", column=name)
        if self._language is not None:
            if "language" in draft.variables:
                draft.error(f"is in this row beside {self._language!r}; rename one", column="language")
            for texts in (draft.variables, draft.data):
                texts["language"] = draft.variables.get(row_name(self._language))

    def names_in(self, raw: RawRow) -> Mapping[str, str]:
        """The names of a row's columns as they are written, by their keys."""
        known = self._shapes.get(raw.names)
        return _own_names(raw.names) if known is None else known.names

    def in_file(self, raw: RawRow, findings: Iterable[Finding]) -> tuple[Finding, ...]:
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
        if (twin := self._twin_in(own)) is not None:
            wrong.append(twin)
        is_first = True
        for name in names:
            key = row_name(name)
            read = self._renamed.get(key, name)
            is_reason = read == REASON and (self.are_bodies or (is_first and self._file is not None))
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
        for name in roles.keys() - RESERVED:
            used = (options.template and options.template.variables, self.menu_names, self._left_out.typed)
            meant = get_close_matches(name, (DESTINATION, IGNORE, *ROLES, *RESERVED), n=1, cutoff=0.8)
            is_idle = roles[name] not in options.counted and not any(is_used(name, each) for each in used if each)
            if meant and is_idle:
                raise CampaignFileError(
                    f"{place}: no text or filter has {name!r}; did you mean {meant[0]}={roles[name]}?"
                )
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
        if (twin := self._twin_in(self._source.header)) is not None:
            raise CampaignFileError(f"{place}: {twin[0]} {twin[1]}")

    def _twin_in(self, names: Iterable[str]) -> tuple[str, str] | None:
        """The column of the country of one of several numbers, and that another such column is not read."""
        column = self._options.roles.country
        if column is None or not self.further:
            return None
        for each in names:
            if _stem(each) == _stem(column) and row_name(each) not in {row_name(column), *self.ignored}:
                return column, (
                    f"would say the country of all numbers of a person, and {each.strip()} stands beside it: write the "
                    f"numbers with +, call one of them, or ignore {each.strip()}"
                )
        return None

    # -- what is told of names -----------------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """What is told of the header of a table whose calls have a text. Raises CampaignFileError if one is lacking."""
        template, source = self._options.template, self._source
        if template is None:
            raise CampaignFileError(tell("no_text", file=self._file))
        variables = self.variables | ({"language"} if self._language else set[str]())
        self._refuse_lacking(template, variables)
        yield from template.findings
        yield from self._told_of(filter(None, source.columns), source.header_row)
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
        values, unfit = template.fill(specimen)
        missing = {problem.column for problem in unfit if problem.is_missing and problem.column is not None}
        problems = [] if menu is None else menu.problems(specimen)
        missing |= {name for name, _, is_missing in problems if is_missing and name is not None} - specimen.keys()
        missing |= missing_from(template.body_of(values)) - specimen.keys()
        if not missing:
            return
        told = [(name, self._why_lacking(name, present)) for name in sorted(missing)]
        columns = f"; columns found: {', '.join(filter(None, source.header or source.columns))}"
        found = [
            Finding(file=self._file, row=source.header_row, column=name, code=-1009, message=message.plus(end))
            for (name, message), end in zip(told, ("",) * (len(told) - 1) + (columns,), strict=True)
        ]
        lines = "; ".join(f"{each.column} {each.message}" for each in found)
        raise CampaignFileError(Message(f"{self._file}: {lines}", *(each.message for each in found)), found)

    def _why_lacking(self, name: str, present: Collection[str]) -> Message:
        renamed = self._options.roles.names.items()
        if now := next((each for each, column in renamed if row_name(column) == row_name(name)), None):
            return tell("name_read_as", name=now)
        option, hint = {"source": Remedy.GIVE_SOURCE, "voice_profile": Remedy.GIVE_VOICE}.get(name), ""
        if close := get_close_matches(name, present, n=1):
            # A name cannot begin with a digit; an underscore in front of it does not count.
            hint = f", or did you mean {'_' if close[0][0].isdigit() else ''}{close[0]}?"
        if isinstance(column := self._options.roles.as_table().get(name), str):
            hint = f"; or write {{{{{row_name(column)}}}}}: {name} is a role of that column, and no name for texts"
        if option is not None:
            return tell("lacks_column_or_option", remedy=option, name=name, hint=hint)
        return tell("lacks_column", name=name, hint=hint)

    def new_keys(self, raw: RawRow) -> Iterator[Finding]:
        """What is to be said of the keys of an object that no earlier one had."""
        if not raw.names or self.are_bodies or self._told.issuperset(raw.names):
            return
        new = [name for name in raw.names[raw.names[0] == REASON :] if name not in self._told]
        self._told.update(new)
        yield from self._told_of(new, raw.number)

    def is_spare(self, name: str) -> bool:
        """True for a column that neither a call nor its menu needs."""
        is_needless = row_name(name) in self.ignored or not self._is_wanted(name)
        return bool(name) and is_needless and self._options.menu is None

    def _no_language(self, variables: Collection[str]) -> Iterator[Finding]:
        """A warning if nothing says which language of the menu a person speaks, or if no menu heeds what does."""
        texts, named = self._menu, self._options.roles.language
        if texts is None and named is not None and "voice_profile" not in variables:
            yield self._warning(tell("language_alone"), self._source.header_row, named)
        if texts is None or len(texts.languages) < 2 or "language" in {*variables, *(self._options.data or {})}:
            return
        message = tell("no_language", menu=texts.name, languages=", ".join(texts.languages))
        yield self._warning(message, self._source.header_row, None)

    def _told_of(self, names: Iterable[str], row: int | None) -> Iterator[Finding]:
        """What is to be said of columns by their names, whatever their cells hold."""
        for name in names:
            written = self.names.get(row_name(name), name)
            named = map(row_name, self._options.roles.named)
            if {row_name(name), name} & {*self.ignored, *self._renamed, *self._options.roles.names, *named}:
                continue
            if is_other_spelling(name):
                pairs = {Remedy.TAKE_COLUMN: row_name(name), Remedy.IGNORE_COLUMN: IGNORE}
                given = {remedy: columns_text([f"{role}={written}"]) for remedy, role in pairs.items()}
                told = tell("other_spelling", meaning=MEANINGS[row_name(name)], name=row_name(name)).giving(given)
                # Whoever has given an end or a beginning wants nobody to ring beyond it.
                severity = Severity.ERROR if row_name(name) in _LIMITS else Severity.WARNING
                yield replace(self._warning(told, row, written), severity=severity)
                continue
            if row_name(name) == "language" and self._menu is not None and self._menu.has_languages:
                continue
            if row_name(name) == "language" and not self._is_wanted(name):
                message = tell("language_unused")
            elif self._is_wanted(name):
                continue
            elif close := self._meant(name):
                message = tell("unused_nearly", meant=close[0])
            else:
                continue
            yield self._warning(message, row, name)

    def is_unread(self, name: str) -> bool:
        """Whether nobody reads a column: no text or menu that is known, no option, and it is not reserved."""
        key = row_name(name)
        known = {*self.ignored, *self.numbers, *self._renamed, *map(row_name, self.asked), *RESERVED, NOT_READ, REASON}
        if not name.strip() or (key in known and not is_other_spelling(name)) or key in map(row_name, self._parts):
            return False
        template, menu = self._options.template, self._menu
        return not any(is_used(name, each) for each in (template and template.variables, menu and menu.names) if each)

    def is_filter(self, name: str) -> bool:
        """Whether rows are left out by a column."""
        return bool(name.strip()) and row_name(self.reserved(name)) in map(row_name, self._left_out.columns)

    def is_decided(self, name: str) -> bool:
        """Whether it is said what a column means for who is called: it filters rows, is not read, or has numbers."""
        return row_name(name) in {*self.ignored, *self.numbers, *map(row_name, self._left_out.columns)}

    def _is_wanted(self, name: str) -> bool:
        template = self._options.template
        known = {*self.numbers, *map(row_name, self.asked), *(each.partition(".")[0] for each in self._parts)}
        if name in {NOT_READ, *RESERVED} or row_name(name) in known:
            return True
        if template is None or is_used(name, template.variables):
            return True
        # Later prompts and handlers of a menu may use any column; a misspelled reserved name is still reported.
        return self._options.menu is not None and not self._meant(name)

    def _meant(self, name: str) -> list[str]:
        """A list with the known name that is most similar to `name`; empty if no known name is similar."""
        template = self._options.template
        known = [DESTINATION, *RESERVED, *(template.variables if template is not None else ())]
        return get_close_matches(name.casefold(), known, n=1, cutoff=0.7)

    def _warning(self, message: str, row: int | None, column: str | None) -> Finding:
        return Finding(file=self._file, row=row, column=column, severity=Severity.WARNING, message=message)


def _own_names(names: Iterable[str]) -> Mapping[str, str]:
    """The names of columns as they are written, by their keys."""
    return {row_name(name): name.strip() for name in names if name.strip()}


class ListColumns(ColumnReader):
    """The columns of a list of numbers, which need not be called `destination`, nor is one of that name read then."""

    fewest_cells = 1

    def names(self, header: Sequence[str], *, place: object) -> tuple[str, ...]:
        """The canonical names. Raises CampaignFileError as `found` does, and for a header that cannot be used."""
        found = self.found(header, place=place)
        own = row_name(found.numbers[0])
        others = [f"the other {name}" if row_name(name) == DESTINATION != own else name for name in header]
        return ColumnReader(found).names(others, place=place)

    def found(self, header: Sequence[str], *, place: object) -> ColumnRoles:
        """The roles that count in a list: if no column of numbers is named, the one that is so by its name.

        Raises CampaignFileError if none is, or several are.
        """
        roles, ignored = self.roles, set(map(row_name, self.roles.ignored))
        read = [name for name in map(canonical_name, header) if name and row_name(name) not in ignored]
        numbers = list(roles.numbers)
        if not numbers:
            numbers = list(filter(is_number_column, read)) or list(filter(None, [near_destination(read)]))
        if not numbers:
            refuse_numbers_in(read, place=place)
            raise CampaignFileError(
                tell("no_number_column", file=str(place), columns=", ".join(read) or "nothing"), columns=read
            )
        if len(numbers) > 1 and not roles.numbers:
            raise several_numbers(place, numbers)
        numbers.sort(key=lambda each: row_name(each) != DESTINATION)
        return replace(roles, numbers=(*numbers,), language=None, names={})


def _stem(name: str) -> str:
    """The name of a column without the digits at its end: `phone` of `Phone 2`."""
    return row_name(name).rstrip("_0123456789")


def several_numbers(place: object, names: Iterable[str]) -> CampaignFileError:
    """The error for a list that may have its numbers in any of these columns."""
    return CampaignFileError(tell("several_number_columns", file=str(place), columns=", ".join(names)))
