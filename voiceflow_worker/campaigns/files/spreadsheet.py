"""The sheets of an .xlsx file, read row by row: values, formulas without a result, errors, and hidden rows.

The parts of the file are read here, and not by openpyxl: it does not tell a formula without a result from an empty
cell, leaves out rows in a wrong order, and knows hidden rows only when it has the whole sheet in memory. Its rules for
dates are used. What a cell shows by its number format is worked out in `number_formats`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast
from xml.etree.ElementTree import Element, XMLPullParser, fromstring
from zipfile import ZipFile

from voiceflow_worker.campaigns.files.damage import error_sentence
from voiceflow_worker.campaigns.files.number_formats import BadCell, NumberFormat, built_in, number_format
from voiceflow_worker.campaigns.files.rows import Mark

_MOST_ROWS, _MOST_COLUMNS = 1_048_576, 16_384
"""The largest numbers of rows and columns in a sheet of Excel. A damaged file may have larger numbers."""

_LONGEST_ROW = 2_000_000
"""The largest size of a row in bytes of XML. A row of 16,384 cells has about a million."""

_LEAST_BUDGET, _BUDGET_PER_BYTE = 1_000_000, 10
"""How many elements (cells, values, formats, texts) are read of a file: so many, and so many for each of its bytes.

Ordinary sheets have less than one for each byte. Each costs microseconds, and some bytes of memory while it is read."""

_AT_ONCE = 65_536
_CODE = re.compile("_x([0-9A-Fa-f]{4})_")
_PLACE = re.compile("([A-Z]{1,3})([0-9]{1,10})")


class SpreadsheetError(Exception):
    """Raised for a file that is not read. The message is a clause, to stand after the name of the file."""


NO_RESULT = BadCell("has a formula whose result is not stored; open the file in Excel and save it once")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet with rows: its name, its part of the file, and whether Excel shows it."""

    name: str
    part: str
    is_visible: bool


class SheetRow(NamedTuple):
    """A row that is not empty. `values` has no empty cells at its end; an empty cell is None."""

    number: int
    values: tuple[object, ...]
    is_hidden: bool
    struck: set[int]
    """The places of the cells that a line goes through."""
    is_struck: bool
    """Whether a line goes through all of its cells that are not empty."""
    is_partly_struck: bool
    """Whether a line goes through a part of a cell."""

    def mark(self, numbers: Collection[int]) -> Mark | None:
        """Return how the sheet shows the row, whose telephone numbers are in these places."""
        if self.is_hidden:
            return Mark.HIDDEN
        if self.is_struck:
            return Mark.STRUCK
        is_partly = self.is_partly_struck or (len(self.struck) > 1 and not self.struck.isdisjoint(numbers))
        return Mark.PARTLY_STRUCK if is_partly else None


class Spreadsheet:
    """An .xlsx file of a `size` in bytes. The constructor reads its list of sheets, its formats and its texts.

    Names of days and months are in the language of this `voice`, where formats name no other.
    Raises SpreadsheetError for a file that is not read; for a damaged file, any other error may be raised.
    """

    def __init__(self, archive: ZipFile, *, size: int, voice: str = "") -> None:
        self._archive = archive
        self._voice = voice
        self._budget = _Budget(size)
        office = [each for each in self._links("") if each.kind == "officeDocument"]
        part = office[0].part if office else "xl/workbook.xml"
        links = {link.id: link for link in self._links(part)}
        book = self._tree(part)
        self.sheets: list[Sheet] = [
            Sheet(sheet.get("name", ""), links[id_].part, sheet.get("state", "visible") == "visible")
            for sheet in _all(book, "sheet")
            if (id_ := _attribute(sheet, "id")) in links and links[id_].kind == "worksheet"
        ]
        self._is_1904 = any(_is_true(each.get("date1904")) for each in _all(book, "workbookPr"))
        # Programs that compute nothing write 0 as the result of a formula, and ask Excel to compute all when it opens.
        self._zero_is_no_result = any(_is_true(each.get("fullCalcOnLoad")) for each in _all(book, "calcPr"))
        parts = {link.kind: link.part for link in links.values()}
        self._struck: set[int] = set()
        self._struck_texts: set[int] = set()  # the shared texts of which a part is struck through
        self._formats: dict[int, NumberFormat] = {}  # those of the styles that show a value in a way of their own
        self._read_styles(parts.get("styles"))
        self._texts = list(self._shared(parts.get("sharedStrings")))

    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """The rows of a sheet that are not empty, in constant memory."""
        number = 0
        for row in self._elements(sheet.part, "row", longest=_LONGEST_ROW):
            last, number = number, int(float(row.get("r", number + 1)))
            if number <= last:
                raise ValueError(f"row {number} of the sheet {sheet.name} comes after row {last}")
            if number > _MOST_ROWS:
                raise SpreadsheetError(
                    f"has a row number above {_MOST_ROWS} in the sheet {sheet.name}, the last row that Excel allows: "
                    "the file is probably damaged; save it again in Excel, or save the sheet as CSV"
                )
            values, struck, is_partly = self._values(row)
            if values:
                filled = sum(value is not None for value in values)
                is_hidden = _is_true(row.get("hidden")) or float(row.get("ht", 1)) == 0
                is_struck = len(struck) == filled
                yield SheetRow(number, tuple(values), is_hidden, struck, is_struck, is_partly)
            row.clear()

    def _values(self, row: Element) -> tuple[list[object], set[int], bool]:
        """Return the values of a row, the places of those struck through, and whether a part of one is."""
        values: list[object] = []
        struck, is_partly = set[int](), False
        column = filled = 0
        for cell in row:
            if _local(cell) != "c":
                continue
            column = _column_of(cell.get("r"), column + 1)
            if column > _MOST_COLUMNS:
                raise ValueError(f"a cell has the column {column}, but Excel allows {_MOST_COLUMNS}")
            style = int(cell.get("s", 0))
            value = self._value(cell, style)
            if isinstance(value, str) and style in self._formats:
                value = self._formats[style].of_text(value)
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            values += [None] * (column - len(values))
            if values[column - 1] is not None:
                raise ValueError(f"the cell {cell.get('r')} is there twice")
            values[column - 1] = value
            filled = max(filled, column)
            is_partly = is_partly or self._is_partly_struck(cell)
            if style in self._struck:
                struck.add(column - 1)
        return values[:filled], struck, is_partly

    def _is_partly_struck(self, cell: Element) -> bool:
        if cell.get("t") == "s" and self._struck_texts:
            return any(int(part.text or 0) in self._struck_texts for part in cell if _local(part) == "v")
        return cell.get("t") == "inlineStr" and any(map(_has_struck_run, cell))

    def _value(self, cell: Element, style: int) -> Any:
        parts = {_local(part): part for part in cell}
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return _text_in(parts["is"]) if "is" in parts else None
        stored = parts.get("v")
        text = stored.text or "" if stored is not None else ""
        if "f" in parts and (stored is None or (not text and kind != "str")):
            return NO_RESULT
        if stored is None or (not text and kind != "str"):
            return None
        match kind:
            case "s":
                return self._texts[int(text)]
            case "str":
                return decoded(text)
            case "b":
                return bool(int(text))
            case "e":
                return BadCell(error_sentence(text))
            case "d":
                return self._shown(_times().from_ISO8601(text), style)
            case "n":
                number = float(text) if any(mark in text for mark in ".eE") else int(text)
                if "f" in parts and number == 0 and self._zero_is_no_result:
                    return NO_RESULT
                return self._dated(number, style)
            case _:
                raise ValueError(f"the cell {cell.get('r')} has the unknown type {kind}")

    def _dated(self, number: float, style: int) -> Any:
        """The date, time or duration that a number is in a cell of this style; else what it shows of the number."""
        shown = self._formats.get(style)
        if shown is None or not shown.is_moment:
            return number if shown is None else shown.of_number(number)
        times = _times()
        epoch = times.MAC_EPOCH if self._is_1904 else times.WINDOWS_EPOCH
        try:
            if 0 <= number < 1 and not shown.shows_clock:
                return epoch.date()  # openpyxl takes it for a time of day
            return self._shown(times.from_excel(number, epoch, timedelta=shown.is_duration), style)
        except (OverflowError, ValueError):
            return BadCell(f"has the format of a date, but {number} is no date; correct the cell or its format")

    def _shown(self, value: Any, style: int) -> Any:
        """What a cell shows of a date or time. Fractions of days have a rounding error."""
        if isinstance(value, datetime):
            value = (value + timedelta(milliseconds=500)).replace(microsecond=0)
        shown = self._formats.get(style)
        return value if shown is None or not shown.is_moment else shown.of_moment(value, self._voice)

    def _read_styles(self, part: str | None) -> None:
        """Read which styles have a format of their own, and which a line through their texts."""
        if part is None or part not in self._archive.namelist():
            return
        tree = self._tree(part)
        own = {int(each.get("numFmtId", 0)): each.get("formatCode", "") for each in _all(tree, "numFmt")}
        struck = {place for place, font in enumerate(next(_all(tree, "fonts"), ())) if _has_strike(font)}
        styles = next(_all(tree, "cellXfs"), None)
        for style, each in enumerate(styles if styles is not None else ()):
            if int(each.get("fontId", 0)) in struck:
                self._struck.add(style)
            number = int(each.get("numFmtId", 0))
            code = own[number] if number in own else built_in(number)
            if code is not None and (shown := number_format(code)) is not None:
                self._formats[style] = shown

    def _shared(self, part: str | None) -> Iterator[str]:
        if part is not None and part in self._archive.namelist():
            for place, element in enumerate(self._elements(part, "si")):
                if _has_struck_run(element):
                    self._struck_texts.add(place)
                yield _text_in(element)
                element.clear()

    def _elements(self, part: str, name: str, *, longest: int | None = None) -> Iterator[Element]:
        """The elements of this name in a part, one by one. The part is always read to its end, where its checksum is.

        Raises SpreadsheetError for an element of more than `longest` bytes.
        """
        parser = cast("Any", XMLPullParser)(("start", "end"))  # the types of its events name no class of elements
        parents: list[Element] = []
        since = 0
        with self._archive.open(part) as stream:
            while True:
                chunk = stream.read(_AT_ONCE)
                if chunk:
                    self._budget.take(chunk.count(b"<") // 2, part)  # most elements have a mark at their end too
                    parser.feed(chunk)
                else:
                    parser.close()  # raises an error for a part that ends early
                since += len(chunk)
                for event, element in parser.read_events():
                    if event == "start":
                        parents.append(element)
                        continue
                    parents.pop()
                    if not parents or any(_local(each) == name for each in parents):
                        continue
                    since = 0
                    if _local(element) == name:
                        yield element
                    parents[-1].remove(element)
                if not chunk:
                    return
                if longest is not None and since > longest:
                    raise SpreadsheetError(
                        f"has a row of more than {longest} bytes in {part}, too much for a call; delete the columns "
                        "that no call needs"
                    )

    def _tree(self, part: str) -> Element:
        text = self._archive.read(part)
        self._budget.take(text.count(b"<"), part)  # before it is parsed: a tree takes 130 bytes for each
        return fromstring(text)  # noqa: S314 - expat limits how far entities grow

    def _links(self, part: str) -> list[_Link]:
        """The links of a part to other parts; those of the whole file if the part is empty."""
        folder, name = posixpath.split(part)
        links = posixpath.join(folder, "_rels", f"{name}.rels")
        if links not in self._archive.namelist():
            return []
        return [_Link.of(each, folder) for each in _all(self._tree(links), "Relationship")]


class _Budget:
    """How many elements may still be read of a file of a size in bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._most = self._left = _LEAST_BUDGET + _BUDGET_PER_BYTE * size

    def take(self, elements: int, part: str) -> None:
        """Count elements of a part. Raises SpreadsheetError if the file has more than its size lets expect."""
        self._left -= elements
        if self._left < 0:
            raise SpreadsheetError(
                f"has more than {self._most} cells, formats and texts by the part {part}, too many for a list of calls "
                f"in a file of {self._size} bytes; save the sheet as CSV"
            )


@dataclass(frozen=True, slots=True)
class _Link:
    id: str
    kind: str
    part: str

    @classmethod
    def of(cls, element: Element, folder: str) -> _Link:
        target, kind = element.get("Target", ""), element.get("Type", "")
        part = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        return cls(element.get("Id", ""), kind.rpartition("/")[2], part)


def decoded(text: str) -> str:
    """A text with the characters that codes such as _x000D_ stand for. Line ends become line feeds, as in XML."""
    if "_x" not in text:
        return text
    characters = _CODE.sub(lambda code: chr(int(code[1], 16)), text)
    # Two codes may be the halves of one character.
    whole = characters.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return whole.replace("\r\n", "\n").replace("\r", "\n")


def _text_in(element: Element) -> str:
    """The text of a shared or inline string, without hints for its pronunciation (rPh)."""
    texts: list[str] = []
    for child in element:
        name = _local(child)
        if name == "t":
            texts.append(decoded(child.text or ""))
        elif name == "r":
            texts += [decoded(part.text or "") for part in child if _local(part) == "t"]
    return "".join(texts)


def _has_struck_run(element: Element) -> bool:
    """Whether a line goes through a part of a shared or inline string."""
    runs = (child for child in element if _local(child) == "r")
    return any(_has_strike(part) for run in runs for part in run if _local(part) == "rPr")


def _has_strike(font: Element) -> bool:
    return any(_is_true(each.get("val", "1")) for each in _all(font, "strike"))


def _times() -> Any:
    """The rules of openpyxl for dates, which have no types."""
    from openpyxl.utils import datetime as times

    return times


def _all(tree: Element, name: str) -> Iterator[Element]:
    return (each for each in tree.iter() if _local(each) == name)


def _local(element: Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _attribute(element: Element, name: str) -> str:
    """An attribute in whichever namespace it has."""
    own: Mapping[str, str] = element.attrib
    return next((value for key, value in own.items() if key.rpartition("}")[2] == name), "")


def _is_true(value: str | None) -> bool:
    return value is not None and value.strip().lower() in {"1", "true", "on"}


def _column_of(place: str | None, following: int) -> int:
    """The column of a cell, counted from 1: A is 1. A cell without a place stands beside the cell before it."""
    if place is None:
        return following
    found = _PLACE.fullmatch(place)
    if found is None:
        raise ValueError(f"{place!r} is not the place of a cell")
    column = 0
    for letter in found[1]:
        column = column * 26 + ord(letter) - 64
    return column
