"""What programs leave in cells: escapes, HTML, errors, another encoding, rows in an open quote."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from html.entities import html5
from itertools import pairwise
from typing import NamedTuple

DELIMITERS = ",;\t|"
_FEWEST_DIGITS = 6
_DATE = re.compile(r"(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:\d{4}|\d{2}))\b(?![-./]).*")
_SHOWN = 40
_IN_NAME = re.compile(r"\+?\d[\d ().-]{5,}\d")
_MOST_DIGITS_OF_A_DATE = 8


_ODD = re.compile("^['=]|[&<\r]|[^\x00-\x7f]|[;|\t\n]'")
_REMARKABLE = re.compile(r"""[^\x00-\x7e]|[=%&<#"\\\r\n]|(?:^|[\x00;|\t])\s*'|Err:|\.\.\.""")
_SIGNS = frozenset("=%&<#\"\\\r\n'\x7f")
_SPACES = dict.fromkeys((0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " ")
_UNSEEN = dict.fromkeys((0xAD, 0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A)))
_IN_ASCII = {**_SPACES, **_UNSEEN, 0xFEFF: None}
"""Spaces of other widths, and signs that nobody sees, such as those for the direction of a text."""
_FORMULA_OF_TEXT = re.compile(r'=\s*(?:T\(\s*|HYPERLINK\(\s*"[^"]*"\s*[,;]\s*)?"((?:[^"]|"")*)"\s*\)?', re.IGNORECASE)
_GUARD = re.compile(r"(^|[;|\t\r\n])'(?=[\s\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])|^'(?=\d[\d\s.,:/()+-]*$)")
"""The apostrophe before a text that a spreadsheet could take for a formula or a number, also within a cell."""
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[lg]t|[A-Za-z][A-Za-z0-9]{2,31});", re.ASCII)
_MOST_ESCAPES = 3
_TAG = re.compile(
    r"<!--.*?(?:-->|\Z)|<(style|script)\b.*?(?:</\1>|\Z)|</?(?:(blockquote|br|center|d[dlt]|div|h[1-6r]|li|ol|p|pre|"
    r"table|tbody|t[dhr]|thead|ul)|a|abbr|b|big|body|code|del|em|font|head|html|i|img|ins|mark|meta|o:p|s|small|span|"
    r"strike|strong|su[bp]|tt|u)(?:\s++[\w:-]++\s*+=\s*+(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]++))*+\s*+/?>",
    re.IGNORECASE | re.DOTALL,
)
"""A tag, as the editors of shops and CRMs write them. Its second group is one that begins or ends a line."""
_PAUSE, _PAUSES = "\f", ".,;:!?…。、，；：！？।؟،"  # noqa: RUF001 - of other scripts


def is_remarkable(row: str) -> bool:
    """Whether the cells of a row, joined by NUL, have anything that programs leave in cells."""
    if row.isascii() and _SIGNS.isdisjoint(row) and "..." not in row and "Err:" not in row:
        return False  # five times as fast as the pattern
    return _REMARKABLE.search(row) is not None


def shown(text: str) -> str:
    """A cell as the program shows it that has escaped it: `="0042"` as 0042, `'-3` as -3, `&amp;` as &.

    Tags of HTML are left out, or are a pause. Spaces are plain, signs that nobody sees are left out.
    """
    text = text.strip()
    if _ODD.search(text) is None:
        return text
    text = without_markup(text.replace("\r\n", "\n").replace("\r", "\n")).translate(_IN_ASCII).strip()
    if not text.endswith("'"):  # else the apostrophes are quotes
        text = _GUARD.sub(r"\1", text).strip()
    literal = _FORMULA_OF_TEXT.fullmatch(text)
    return text if literal is None else literal[1].replace('""', '"').strip()


def without_markup(text: str) -> str:
    """The text without entities and tags of HTML."""
    if "&" in text:
        for _ in range(_MOST_ESCAPES):  # some programs escape what is escaped
            text = _ENTITY.sub(_character, text)
    tagless = _TAG.sub(lambda tag: _PAUSE if tag[2] else "", text) if "<" in text else text
    if tagless == text:
        return text
    lines = [line for each in tagless.split(_PAUSE) if (line := " ".join(each.split()))]
    return "".join(f"{line}{'' if line[-1] in _PAUSES else ','} " for line in lines[:-1]) + "".join(lines[-1:])


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity[0]) if entity[1][0] == "#" or f"{entity[1]};" in html5 else entity[0]


class SwallowedRows(NamedTuple):
    """Lines within the cell at `place` that look like `rows`, and the first of them.

    `first_line` is its line in the row, from 0.
    """

    place: int
    rows: int
    first: str
    first_line: int

    @property
    def rows_of_record(self) -> int:
        """The number of rows that were read as one: these, and the one whose first line is not among them."""
        return self.rows + (self.first_line > 0)

    def in_words(self, *, begins: int | None = None) -> str:
        """A clause about the cell. `begins` is the line of the file where the row begins, if the file has lines."""
        others = f", and {self.rows - 1} more" if self.rows > 1 else ""
        shown = repr(self.first if len(self.first) <= _SHOWN else f"{self.first[:_SHOWN]}…")
        where, remedy = f"{shown}{others}", "give each its own row"
        if begins is not None:
            where = f"line {begins + self.first_line}, {where}"
            mistake = 'a quote (") was probably opened by mistake before them'
            remedy = f'{mistake}: remove it, close it in its own line, or write "" for a quote within a cell'
        return (
            f"takes in lines that look like rows: {where}; {remedy}. If the lines belong to the cell, join them to one "
            "line"
        )


def swallowed_rows(
    cells: Sequence[str], *, numbers: Collection[int], needed: int, delimiters: str = DELIMITERS
) -> SwallowedRows | None:
    """The lines within one of a row's cells that look like rows; None if there are none.

    Such a line has at least `needed` cells, and a telephone number in one of the columns `numbers`. The first line of a
    cell continues the cells before it, and the cells behind it continue its last line.
    """
    before = 0
    for place, cell in enumerate(cells):
        if "\n" not in cell and "\r" not in cell:
            continue
        lines = cell.splitlines()
        found: list[tuple[int, str]] = []
        for offset, line in enumerate(lines):
            shift = 0 if offset else place
            behind = len(cells) - place - 1 if offset == len(lines) - 1 else 0
            if any(
                _has_number(line.split(delimiter), numbers, shift=shift, needed=needed - shift - behind)
                for delimiter in delimiters
            ):
                found.append((offset, line))
        if found:
            offset, line = found[0]
            return SwallowedRows(place, len(found), line.strip(), before + offset)
        before += len(lines) - 1
    return None


def _has_number(own: Sequence[str], numbers: Collection[int], *, shift: int, needed: int) -> bool:
    """Whether a line has at least the `needed` cells, and a number among them; `shift` cells of the row precede it."""
    if len(own) < needed:
        return False
    return any(looks_like_number(own[each - shift]) for each in numbers if 0 <= each - shift < len(own))


def looks_like_number(text: str) -> bool:
    """Whether a text could be meant for a telephone number, right or wrong. Dates are none."""
    plain = text.strip(" \"'")
    digits = sum(map(str.isdigit, plain))
    return digits >= _FEWEST_DIGITS and 2 * digits >= len(plain.replace(" ", "")) and not _DATE.fullmatch(plain)


def numbers_in(text: str) -> Iterator[str]:
    """All that looks like a telephone number in a text that cannot be read as a row."""
    yield from (found for each in _IN_NAME.findall(text) if looks_like_number(found := each.strip()))


def number_in_name(names: Iterable[str]) -> str | None:
    """The telephone number in the name of a column: the header has taken in a row. None if there is none."""
    for name in names:
        for text in numbers_in(name):
            is_date = sum(map(str.isdigit, text)) <= _MOST_DIGITS_OF_A_DATE and text[:2] in {"19", "20"}
            if not is_date:
                return text
    return None


_UNFINISHED = frozenset({"loading...", "loading…", "wird geladen...", "wird geladen…", "chargement…", "cargando..."})
_ERROR = re.compile(r"#(?:[¡¿]?[^\W\d_][\w/ ]*[!?]|[^\W\d_]{1,2}/[^\W\d_]{1,2}|NV|YOK|GETTING_DATA|#+)|Err:\d{3}")
"""An error as spreadsheets show it, in any language: #REF!, #N/A, #¡VALOR!, #NV, ####, Err:502."""


def error_in(text: str) -> str | None:
    """The reason why a text is an error of a spreadsheet and no value, as a clause; None if it is a value."""
    if text.casefold() in _UNFINISHED:
        return f"holds {text}, which a spreadsheet shows until a formula is done: open the sheet, wait, and save it"
    if text[:1] not in {"#", "E"} or _ERROR.fullmatch(text) is None:
        return None
    if text[0] == "#" and text.upper() != text:
        return None
    return error_sentence(text)


def error_sentence(error: str) -> str:
    """The clause about a cell that holds this error."""
    if error.startswith("##"):
        return (
            f"holds {error}: the column was too narrow for its value when the file was saved; widen the column in "
            "the workbook, and save the file again"
        )
    return f"holds the error {error} of a formula; correct it in the workbook, and save the file again"


WINDOWS = "cp1252"
"""The encoding of CSV files that the Excel of western languages writes, if nobody chooses UTF-8."""
_RIVALS = {
    "cp1250": "Windows-1250",
    "cp1254": "Windows-1254",
    "mac_roman": "Mac OS Roman",
    "cp850": "DOS code page 850",
}
"""Other encodings of Excel's whose files have letters in most words as Windows-1252 too, with their names."""
_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
_UTF_8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_VOWELS = frozenset("aeiouyæœø\u0131")
_RARE = re.compile(
    "[ðþýœû]|[ìù](?=[a-z])|õ(?!e)|ã(?=[^oes]|s[a-z])|ø(?=[ei])|ñ(?![aeiouáéíóú])|ê(?=[bdgk]|p(?![lr]))", re.IGNORECASE
)
"""What few western languages have, where others have common letters: ğ, ş, ś, ű, ě, ů, ő, ă, ř, ń and ę."""
_SLAVIC = re.compile("[šž]", re.IGNORECASE)
_SIGNS_OF_LETTERS = frozenset("ƒµ")
_MOST_WORDS, _WORDS_SHOWN = 20_000, 3


def windows_words(lines: Iterable[bytes]) -> tuple[Sequence[str], str]:
    """Three words to look at of a text that is no UTF-8, if it certainly is Windows-1252, and else why it may not be.

    It is certain if all signs are letters within words, and no other encoding gives words whose vowels and consonants
    alternate better, or as well with more common letters. The reason is a clause, or empty if a sign is no letter.
    """
    seen: dict[bytes, tuple[bool, str]] = {}
    for place, line in enumerate(lines):
        for raw in () if line.isascii() else _WORD.findall(line):
            if raw not in seen:
                if (word := _word_in(raw, WINDOWS)) is None or _UTF_8.search(raw):
                    return (), ""
                if len(seen) < _MOST_WORDS:
                    seen[raw] = (place == 0, word)
    differing = set[str]()
    for encoding, name in _RIVALS.items():
        others = {word: other for raw, (_, word) in seen.items() if (other := _word_in(raw, encoding)) != word}
        read = {word: other for word, other in others.items() if other is not None}
        if not others or len(read) < len(others):
            continue
        more = sum(_runs_in(other) - _runs_in(word) for word, other in read.items())
        words = (word for _, word in seen.values())
        is_slavic = any(_SLAVIC.search(word) and _SLAVIC.search(read.get(word, word)) for word in words)
        if more < 0 or is_slavic or (not more and any(map(_RARE.search, read))):
            word, other = next(iter(read.items()))
            return (), f"it may have {word!r}, as Windows-1252, or {other!r}, as {name}"
        differing |= read.keys()
    shown = sorted(seen.values(), key=lambda each: (each[0], each[1] not in differing))  # a header has no names
    return [word for _, word in shown[:_WORDS_SHOWN]], ""


def _word_in(raw: bytes, encoding: str) -> str | None:
    """A word in this encoding; None if a sign of it is no letter within a word there."""
    try:
        word = raw.decode(encoding)
    except UnicodeDecodeError:
        return None
    others = [letter for letter in word if not letter.isascii()]
    kinds = {"" if letter in _SIGNS_OF_LETTERS else unicodedata.category(letter) for letter in others}
    if 3 * len(others) > 2 * len(word) or kinds - {"Lu", "Ll"}:
        return None
    has_capital = any(letter.isupper() and not letter.isascii() for letter in word[1:])
    return None if has_capital and not word.replace("ß", "").isupper() else word


def _runs_in(word: str) -> int:
    """How many letters of a word are vowels behind a vowel, or consonants behind a consonant."""
    vowels = [unicodedata.normalize("NFD", letter)[0].casefold() in _VOWELS for letter in word]
    return sum(one is other for one, other in pairwise(vowels))
