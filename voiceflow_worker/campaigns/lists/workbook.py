"""Read the rows of a workbook (.xlsx): one sheet by openpyxl, and the text of each cell, or why it has none."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from operator import attrgetter
from typing import IO, Any, NamedTuple

from voiceflow_worker.campaigns.lists.input_file import LONGEST_ROW, InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList, Row, cell_text, error_in, refuse_quantity
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.flows.values import EXACT
from voiceflow_worker.model.text.printable import storing_problem

_MOST_BYTES = 200_000_000
"""The largest size of an unpacked workbook, in bytes."""
_MOST_ROWS = 1_048_576
"""The number of the last row of a sheet in Excel."""
_PART = 1_000_000
_PARTLY_STRUCK = "the row is struck through in part. Strike all of it through, or nothing of it."
HIDDEN, STRUCK = "hidden in the sheet", "struck through in the sheet"


class _Marks(NamedTuple):
    """What the XML of a sheet says of its rows that openpyxl does not tell."""

    hidden: frozenset[int]
    unfinished: Mapping[int, Sequence[str]]
    """The letters of the columns whose formulas have no result, by the rows."""


class WorkbookList(OpenList):
    """The rows of a sheet. The constructor reads the header: `header_row`, or the first row that is not empty.

    If no `sheet` is named, exactly one visible sheet must have rows. Raises CampaignFileError.
    """

    kind = FileKind.EXCEL

    def __init__(
        self,
        file: InputFile,
        *,
        sheet: str | None = None,
        is_number: Callable[[str], bool],
        header_row: int | None = None,
    ) -> None:
        super().__init__()
        self._file, self._styles = file, dict[int, tuple[str, bool]]()
        self._place = str(file)
        with self._opened() as book:
            every = {each.title: _marks(each) for each in book.worksheets}  # before openpyxl reads a row
            self._sheet: str = self._chosen(book, sheet)
            self._marks: _Marks = every[self._sheet]
            self._place = f"{file}, sheet {self._sheet}"
            found: tuple[int, list[str]] | None = None
            for number, cells in _filled_rows(book[self._sheet]):
                texts = [self._text(cell, is_number=False) for cell in cells]
                if number >= (header_row or 1):
                    found = number, texts
                    break
        if found is None:
            raise CampaignFileError(f"{self._place} has no header. Write the names of its columns above the rows.")
        if header_row not in {None, found[0]}:
            raise CampaignFileError(f"{self._place}: row {header_row} is empty, and is to be the header. Name another.")
        self.header_row: int | None = found[0]
        self.header: tuple[str, ...] = tuple(found[1])
        self._numbers = [*map(is_number, self.header)]

    def __iter__(self) -> Iterator[Row]:
        with self._opened() as book:
            hidden, unfinished = self._marks
            for number, cells in _filled_rows(book[self._sheet]):
                if number <= (self.header_row or 0):
                    continue
                row = self._read(number, cells, unfinished.get(number, ()))
                struck = {self._style_of(cell)[1] for cell in cells if cell.value is not None}
                left_out = HIDDEN if number in hidden else STRUCK if struck == {True} else None
                if left_out is not None:
                    self.left_out[left_out] += 1
                    row = row._replace(left_out=left_out)
                elif True in struck:
                    row = row._replace(problems=((None, _PARTLY_STRUCK),))
                yield row

    def _read(self, number: int, cells: Sequence[Any], unfinished: Sequence[str]) -> Row:
        texts: list[str] = []
        problems: list[tuple[str | None, str]] = []
        for place, cell in enumerate(cells):
            name = self.header[place].strip() if place < len(self.header) else ""
            try:
                if unfinished and cell.value is None and getattr(cell, "column_letter", "") in unfinished:
                    raise ValueError("holds a formula without a result. Open the file in Excel, and save it again.")
                texts.append(self._text(cell, is_number=bool(name) and self._numbers[place]))
            except ValueError as error:
                texts.append("" if cell.value is None else str(cell.value))
                problems.append((name or None, str(error)))
        return self._row(number, [*texts, *[""] * (len(self.header) - len(texts))], problems)

    def _text(self, cell: Any, *, is_number: bool) -> str:
        """Return the text of a cell as it is shown. Raises ValueError for a cell that cannot be read."""
        value = cell.value
        if value is None:
            return ""
        if cell.data_type == "e":
            raise ValueError(error_in(str(value)) or f"holds the error {value}. Correct it, and save the file again.")
        if is_number:
            refuse_quantity(value)
        if isinstance(value, str):
            text = _unescaped(value) if "_x" in value else value
            if (problem := storing_problem(text)) is not None:
                raise ValueError(problem)
            return text
        if isinstance(value, bool):
            return cell_text(value)
        shown_as, _ = self._style_of(cell)
        if isinstance(value, int | float):
            return _number(value, shown_as)
        return _moment(value, shown_as)

    def _style_of(self, cell: Any) -> tuple[str, bool]:
        """Return the number format of a cell, and whether its text is struck through."""
        style: int = cell._style_id  # noqa: SLF001 - what the cells of a style have is asked for once
        if style not in self._styles:
            self._styles[style] = cell.number_format, bool(cell.font.strike)
        return self._styles[style]

    @contextmanager
    def _opened(self) -> Generator[Any]:
        """Open the workbook. Whatever a library raises for a damaged file becomes a CampaignFileError."""
        file = self._file
        try:
            from openpyxl import load_workbook
        except ImportError:
            raise CampaignFileError(
                f"{file} is a workbook, which needs a library: pip install 'voiceflow-worker[files]'; or save it as CSV"
            ) from None
        with file.opened() as reader:
            try:
                self._refuse_size(reader)
                book = load_workbook(reader, read_only=True, data_only=True)
                try:
                    yield book
                finally:
                    book.close()
            except (CampaignFileError, MemoryError):
                raise
            except Exception as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise CampaignFileError(
                    f"{file} is no workbook (.xlsx), or it is damaged: {reason}. Open it in Excel, and save it again."
                ) from error

    def _refuse_size(self, reader: IO[bytes]) -> None:
        with zipfile.ZipFile(reader) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > _MOST_BYTES:
            raise CampaignFileError(
                f"{self._file} unpacks to {size:,} bytes; the most is {_MOST_BYTES:,}. Save the sheet as CSV."
            )
        reader.seek(0)

    def _chosen(self, book: Any, wanted: str | None) -> str:
        shown = [each for each in book.worksheets if each.sheet_state == "visible"]
        filled = [each.title for each in shown if next(_filled_rows(each), None) is not None]
        self.sheets: tuple[str, ...] = tuple(filled)
        if wanted is not None:
            every = [each.title for each in book.worksheets]
            found = [title for title in every if title.casefold() == wanted.strip().casefold()]
            if not found:
                message = f"{self._file} has no sheet {wanted!r}; its sheets: {', '.join(every)}"
                raise CampaignFileError(message, sheets=self.sheets)
            return str(found[0])
        if len(filled) > 1:
            message = f"{self._file} has several sheets with rows: {', '.join(filled)}. Name one: `sheet: {filled[0]}`."
            raise CampaignFileError(message, sheets=self.sheets)
        if not filled:
            raise CampaignFileError(f"{self._file} is empty: its visible sheets have no rows")
        return str(filled[0])


def _marks(sheet: Any) -> _Marks:
    """Return the marks of the rows of a sheet. Raises ValueError for rows that openpyxl would lose."""
    number, hidden, unfinished = 0, set[int](), dict[int, Sequence[str]]()
    with sheet.parent._archive.open(sheet._worksheet_path) as xml:  # noqa: SLF001 - openpyxl has neither
        for part in _parts(xml):
            for tag in _ROW.findall(part):
                said = dict(_ATTRIBUTE.findall(tag))
                before, number = number, int(said.get(b"r", number + 1))
                if not before < number <= _MOST_ROWS:
                    raise ValueError(f"row {number} follows row {before}")
                if said.get(b"hidden") in {b"1", b"true"} or float(said.get(b"ht", 1)) == 0:
                    hidden.add(number)
            places = [(len(letters), letters) for letters in _COLUMN.findall(part)]
            if any(one >= other for one, other in pairwise(places)):
                raise ValueError(f"the cells of row {number} are not in their order")
            if (b"<f" in part or b":f" in part) and (found := list(_without_result(part))):
                unfinished[number] = found
    return _Marks(frozenset(hidden), unfinished)


_VALUE = attrgetter("value")


def _unescaped(text: str) -> str:
    """Return a text with its codes of characters, such as _x000D_, read (ECMA-376, 22.9.2.19)."""
    return _CODE.sub(lambda found: chr(int(found[1], 16)), text)


_CODE = re.compile(r"_x([0-9A-Fa-f]{4})_")


def _filled_rows(sheet: Any) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield the number and the cells of each row that is not empty."""
    sheet.reset_dimensions()  # programs write wrong ones
    for number, cells in enumerate(sheet.iter_rows(min_row=1), 1):
        if any(value is not None and (not isinstance(value, str) or value.strip()) for value in map(_VALUE, cells)):
            yield number, cells


_ROW = re.compile(rb"<(?:\w+:)?row\b([^>]*)>")
_ROW_END = re.compile(rb"</(?:\w+:)?row>")
_ATTRIBUTE = re.compile(rb"""(\w+)\s*=\s*["']([^"']*)["']""")
_COLUMN = re.compile(rb"""<(?:\w+:)?c\b[^>]*?\br=["']([A-Z]+)""")
_CELL = re.compile(rb"<(?:\w+:)?c\b([^>]*[^>/])>(.*?)</(?:\w+:)?c>", re.DOTALL)
_FORMULA = re.compile(rb"<(?:\w+:)?f\b")
_RESULT = re.compile(rb"<(?:\w+:)?v\b[^>]*>([^<]*)</")


def _parts(xml: IO[bytes]) -> Iterator[bytes]:
    """Yield the XML of a sheet in parts that end with a row."""
    left = b""
    while part := xml.read(_PART):
        *rows, left = _ROW_END.split(left + part)
        yield from rows
        if len(left) > LONGEST_ROW + _PART:
            raise ValueError(f"a row has more than {LONGEST_ROW:,} bytes")
    yield left


def _without_result(row: bytes) -> Iterator[str]:
    """Yield the letters of the columns whose formulas have no result in the XML of a row."""
    for said, content in _CELL.findall(row):
        if _FORMULA.search(content) is None:
            continue
        result, attributes = _RESULT.search(content), dict(_ATTRIBUTE.findall(said))
        if result is None or (not result[1] and attributes.get(b"t") != b"str"):
            yield attributes.get(b"r", b"").rstrip(b"0123456789").decode()


_MONEY = r'(?:\[\$[^\]]*\]|"[^"\w]*"|"[A-Z]{2,3}"|\\.|[$€£¥₹()_ *-])*'
_NUMBER = re.compile(rf"{_MONEY}(?:#,##|#)?[0#](?:\.(0+|#+))?(%?){_MONEY}(?:;.*)?")
_AS_TEXT = "Format the column as text."


def _number(value: float, shown_as: str) -> str:
    """Return the text of a number: with the decimals of its format, without thousands and currency.

    Raises ValueError for a format that shows it in another way.
    """
    if abs(value) >= EXACT:
        raise ValueError(f"holds a number of more than 15 digits ({value}), but Excel keeps only 15. {_AS_TEXT}")
    if shown_as in {"General", "@"}:
        return cell_text(value)
    hides_zero = value == 0 and shown_as.split(";")[2:3] == [""]
    match = None if hides_zero else _NUMBER.fullmatch(shown_as)
    if match is None:
        raise ValueError(f"holds {cell_text(value)} in the format {shown_as!r}, which is not read. {_AS_TEXT}")
    decimals, sign = match[1] or "", match[2]
    exact = Decimal(f"{value:.15g}") * (100 if sign else 1)
    rounded = exact.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    text = f"{rounded:f}"
    text = text.rstrip("0").rstrip(".") if "#" in decimals else text
    if not decimals and exact != rounded:
        raise ValueError(f"holds {exact.normalize():f}, and the format {shown_as!r} shows {text}. {_AS_TEXT}")
    return f"{text}{sign}"


_DAY = re.compile(r"(?<!d)d{1,2}(?!d)")
_NO_PART = re.compile(r'"[^"]*"|\\.|\[\$[^\]]*\]|AM/PM|A/P', re.IGNORECASE)


def _moment(value: date | time | timedelta, shown_as: str) -> str:
    """Return the text of a date or time. Raises ValueError for one of which its format hides a part."""
    if isinstance(value, timedelta):
        return cell_text(value)
    said = _NO_PART.sub("", shown_as.partition(";")[0]).casefold()
    has_day, has_time = _DAY.search(said) is not None, "h" in said
    if isinstance(value, datetime):
        # Excel stores times as fractions of days, so their seconds have a rounding error.
        value = (value + timedelta(milliseconds=500)).replace(microsecond=0)
        if has_day and has_time:
            return cell_text(value)
        if has_day and value.time() == time():
            return cell_text(value.date())
        hidden = f"the time {value:%H:%M}" if has_day else f"a part of {value:%Y-%m-%d}"
        raise ValueError(f"holds {cell_text(value)}, of which the format {shown_as!r} hides {hidden}. {_AS_TEXT}")
    if isinstance(value, time) and has_time and not has_day:
        return cell_text(value.replace(microsecond=0))
    if isinstance(value, date) and has_day and not has_time:
        return cell_text(value)
    raise ValueError(f"holds {cell_text(value)} in the format {shown_as!r}, which hides a part of it. {_AS_TEXT}")
