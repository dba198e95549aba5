"""The readers of JSON files: one body in a file, or one object a line. Comments and trailing commas are accepted."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from voiceflow_worker.campaigns.files.input_file import InputFile, Line, read_lines, read_text
from voiceflow_worker.campaigns.files.no_call import with_parts
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import describe, is_object
from voiceflow_worker.model.text.json_text import read_strict_json, refuse_repeated_names
from voiceflow_worker.model.text.wording import count_of

LARGEST_DOCUMENT = 10_000_000
"""The largest size of one JSON document, in bytes: ample, as a body with two texts of 3000 characters has 30 KB."""

NOT_JSON, NO_CALL = -1001, -1013
"""The codes of 8x8 for a body that is not JSON, and for a body that does not begin with a call."""


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
        except (pyjson5.Json5Exception, UnicodeError):
            line, column = strict_error.lineno, strict_error.colno
            where = f"line {line}, character {column}" if "\n" in text.strip() else f"character {column}"
            raise ValueError(f"is not JSON: {strict_error.msg} ({where})") from None
        refuse_repeated_names(text)
        return value


class JsonLines(RowSource):
    """The rows of a file with one JSON object on each line. Empty lines and comment lines are left out."""

    kind = FileKind.JSON_LINES

    def __init__(self, file: InputFile) -> None:
        self._lines = read_lines(file)
        self._file = file

    def __iter__(self) -> Iterator[RawRow]:
        left_out = list[int]()
        for line in self._lines:
            stripped = line[1].strip()
            if stripped and not stripped.startswith(("//", "#")):
                yield _row(line)
            elif "{" in stripped:
                left_out.append(line[0])
        if left_out:
            are = "is skipped, because it is a comment" if len(left_out) == 1 else "are skipped, as comments"
            first = f": line {left_out[0]}" if len(left_out) == 1 else f", the first of them line {left_out[0]}"
            self.notes: tuple[str, ...] = (f"{count_of(len(left_out), 'line')} with an object {are}{first}",)


def _row(line: Line, what: str = "the line ") -> RawRow:
    number, text, problem = line
    if problem is not None:
        return RawRow(number, text, problems=((None, f"{what}{problem}"),))
    try:
        value = read_json(text)
    except ValueError as error:
        return RawRow(number, text, problems=((None, f"{what}{error}"),), code=NOT_JSON)
    if not is_object(value):
        problem = f"{what}holds {describe(value)}, not an object: write one call on each line of a file .jsonl"
        return RawRow(number, text, problems=((None, problem),), code=NO_CALL)
    value = with_parts(value)
    return RawRow(number, text, tuple(value.values()), tuple(value))


class JsonDocument(RowSource):
    """The one row of a file that holds one request body, as the 8x8 guides print it. Raises CampaignFileError."""

    kind = FileKind.JSON

    def __init__(self, file: InputFile) -> None:
        text = read_text(
            file,
            most_bytes=LARGEST_DOCUMENT,
            what="a JSON document",
            remedy="write one object on each line, and name the file .jsonl",
        )
        self._row = _row((1, text, None), "")
        for _, problem in self._row.problems:
            found = Finding(file=str(file), message=problem, code=self._row.code)
            raise CampaignFileError(f"{file} {problem}", [found])

    def __iter__(self) -> Iterator[RawRow]:
        yield self._row
