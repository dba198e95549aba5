"""The readers of JSON files: one body in a file, or one object a line. Comments and trailing commas are accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import orjson

from voiceflow_worker.campaigns.files.damage import numbers_in
from voiceflow_worker.campaigns.files.input_file import InputFile, Line, read_lines, read_text
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource, is_number_column
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import describe, is_list, is_object
from voiceflow_worker.model.text.json_text import read_strict_json, refuse_repeated_names
from voiceflow_worker.model.text.wording import count_of

LARGEST_DOCUMENT = 10_000_000
"""The largest size of one JSON document, in bytes: ample, as a body with two texts of 3000 characters has 30 KB."""

NOT_JSON, NO_CALL = -1001, -1013
"""The codes of 8x8 for a body that is not JSON, and for a body that does not begin with a call."""

_PLACE = re.compile(r" (?:starting )?near (\d+)")
"""A pattern for the position in a message of the JSON5 parser. Some messages count from 1, and others from 0."""
_CHARACTER = re.compile(r"U\+([0-9A-Fa-f]{4,6})")
_WRONG = re.compile(r"(?:found|data) U\+([0-9A-Fa-f]{4,6})")
_BYTES = re.compile(r"b'([^']*)'")
"""A pattern for a word in a message of the JSON5 parser, such as b'array'."""


def read_json(text: str) -> object:
    """The JSON value in a text. The syntax of JSON5 is accepted, such as comments and trailing commas.

    The samples in the 8x8 guides have both. Raises ValueError, which names the place, also for a name that stands twice
    in one object.
    """
    # Strict JSON is tried first: its parser is faster, and most files are strict.
    try:
        return read_strict_json(text)
    except orjson.JSONDecodeError as strict_error:
        import pyjson5

        try:
            value: object = pyjson5.decode(text, maxdepth=100)
        except (pyjson5.Json5Exception, UnicodeError) as error:
            raise ValueError(_sentence(str(error.args[0] if error.args else error), text, strict_error)) from None
        refuse_repeated_names(text)
        return value


def _sentence(message: str, text: str, strict: orjson.JSONDecodeError) -> str:
    # The JSON5 parser often fails behind the mistake, so the message has the error of the strict parser too.
    found = _PLACE.search(message)
    place = min(max(int(found[1]) - 1, 0), len(text)) if found else strict.pos
    wrong = _WRONG.search(message)
    if wrong:
        at = text.find(chr(int(wrong[1], 16)), place)
        place = at if at >= 0 and not text[place + 1 : at].strip() else place
    line, column = text.count("\n", 0, place) + 1, place - (text.rfind("\n", 0, place) + 1) + 1
    where = f"line {line}, character {column}" if "\n" in text.strip() else f"character {column}"
    said = _BYTES.sub(r"\1", _PLACE.sub("", message)).rstrip(".").replace("JSON5Value", "a value")
    said = _CHARACTER.sub(lambda code: repr(chr(int(code[1], 16))), said)
    return f"is not JSON: {said[:1].lower()}{said[1:]} ({where}); a parser of strict JSON says: {strict.msg}"


def wrapped_in(value: Mapping[str, object]) -> str | None:
    """The reason why an object is no row, but has a list of them in it; None if it has none."""
    if any(is_number_column(name) and not (is_object(each) or is_list(each)) for name, each in value.items()):
        return None
    found = [(any(numbers_in(str(rows[0])[:2000])), len(rows), here, rows) for here, rows in _lists_in(value)]
    if not found:
        return None
    *_, here, rows = max(found, key=lambda each: each[:2])
    return (
        f"holds a list of {count_of(len(rows), 'object')} in {here[1:]}, and is no row itself: give these as rows, or "
        f"one on each line of a file .jsonl (jq -c '{here}[]' writes it)"
    )


def _lists_in(value: Mapping[str, object], path: str = "") -> Iterator[tuple[str, Sequence[object]]]:
    """The lists of objects in an object, and in those directly in it, each with its path."""
    for name, inner in value.items():
        here = f"{path}.{name}"
        if is_list(inner) and inner and all(map(is_object, inner)):
            yield here, inner
        elif not path and is_object(inner):
            yield from _lists_in(inner, here)


class JsonLines(RowSource):
    """The rows of a file with one JSON object on each line. Empty lines and comment lines are left out."""

    kind = FileKind.JSON_LINES

    def __init__(self, file: InputFile, *, on_bytes: Callable[[int], None] | None = None) -> None:
        self._lines = read_lines(file, on_bytes=on_bytes)
        self._file = file

    def __iter__(self) -> Iterator[RawRow]:
        empty, left_out = True, list[int]()
        for line in self._lines:
            stripped = line[1].strip()
            if stripped and not stripped.startswith(("//", "#")):
                empty = False
                yield _row(line)
            elif "{" in stripped:
                left_out.append(line[0])
        if left_out:
            are = "is skipped, because it is a comment" if len(left_out) == 1 else "are skipped, as comments"
            first = f": line {left_out[0]}" if len(left_out) == 1 else f", the first of them line {left_out[0]}"
            self.notes: tuple[str, ...] = (f"{count_of(len(left_out), 'line')} with an object {are}{first}",)
        if empty:
            raise CampaignFileError(f"{self._file} is empty; write one JSON object on each line")


def _refused(file: InputFile, problem: str, *, code: int) -> CampaignFileError:
    return CampaignFileError(f"{file} {problem}", [Finding(file=str(file), message=problem, code=code)])


def _row(line: Line) -> RawRow:
    number, text, problem = line
    if problem is not None:
        return RawRow(number, text, problems=((None, f"the line {problem}"),))
    try:
        value = read_json(text)
    except ValueError as error:
        return RawRow(number, text, problems=((None, f"the line {error}"),), code=NOT_JSON)
    if not is_object(value):
        problem = f"the line holds {describe(value)}, not an object: write one call on each line"
        return RawRow(number, text, problems=((None, problem),), code=NO_CALL)
    return RawRow(number, text, tuple(value.values()), tuple(value))


class JsonDocument(RowSource):
    """The one row of a file that holds one request body, as the 8x8 guides print it. Raises CampaignFileError."""

    kind = FileKind.JSON

    def __init__(self, file: InputFile, *, on_bytes: Callable[[int], None] | None = None) -> None:
        text = read_text(
            file,
            most_bytes=LARGEST_DOCUMENT,
            what="a JSON document",
            remedy="write one object on each line, and name the file .jsonl",
        )
        if not text.strip():
            raise CampaignFileError(f"{file} is empty; write a request body with a callflow in it")
        try:
            value = read_json(text)
        except ValueError as error:
            raise _refused(file, str(error), code=NOT_JSON) from None
        if is_list(value):
            several = (
                f"holds an array of {len(value)} values, but a JSON file holds one body, for one call; write one "
                "object on each line, without the brackets and commas of the array, and name the file .jsonl "
                "(jq -c '.[]' writes it)"
            )
            raise _refused(file, several, code=NO_CALL)
        if not is_object(value):
            no_body = f"holds {describe(value)}, not a request body; write an object with a callflow"
            raise _refused(file, no_body, code=NO_CALL)
        self._row = RawRow(1, text, tuple(value.values()), tuple(value))
        if on_bytes is not None:
            on_bytes(len(text.encode()))

    def __iter__(self) -> Iterator[RawRow]:
        yield self._row
