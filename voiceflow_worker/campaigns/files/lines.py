"""The numbered lines of a UTF-8 text file, with any line endings."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError

LONGEST_LINE = 1_000_000
"""The largest number of characters in a line. A longer line cannot be a row: a spoken text has at most 3000."""

_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 500_000_000, 200

_REMEDY = "save it again as CSV UTF-8 (Excel: Save As, CSV UTF-8), or as plain text in UTF-8"
_SIGNATURES = {
    b"\xff\xfe": f"is in UTF-16, not UTF-8; {_REMEDY}",
    b"\xfe\xff": f"is in UTF-16, not UTF-8; {_REMEDY}",
    b"PK\x03\x04": "is a workbook or a zip archive, not text; name it .xlsx, or export the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook, not text; save it as .xlsx, or export the sheet as CSV UTF-8",
    b"PAR1": "is a Parquet file, not text; name it .parquet",
    b"%PDF": "is a PDF, not text; export the table as CSV UTF-8",
}


class Line(NamedTuple):
    """One line with its line feed. `number` counts from 1. `problem` is the reason why the line cannot be used."""

    number: int
    text: str
    problem: str | None = None


def read_lines(file: InputFile, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[Line]:
    """The lines of a file of any size, one by one. A byte order mark is dropped; CR LF and CR also end lines.

    Every thousand lines, `on_bytes` gets the number of bytes read from the disk. Raises CampaignFileError if the file
    cannot be opened, has another type or encoding, or has a line that is too long.
    """
    with file.opened() as (reader, position):
        _refuse_other_kinds(file, reader.peek(4096))
        text = io.TextIOWrapper(reader, encoding="utf-8-sig", errors="surrogateescape", newline=None)
        number = 0
        while line := text.readline(LONGEST_LINE):
            number += 1
            if len(line) >= LONGEST_LINE:
                raise CampaignFileError(
                    f"line {number} of {file} is longer than {LONGEST_LINE} characters; correct or remove that line"
                )
            yield _judged(file, number, line)
            if number % 1000 == 0:
                _refuse_bomb(file, unpacked=reader.tell(), packed=position())
                if on_bytes is not None:
                    on_bytes(position())
        if on_bytes is not None:
            on_bytes(position())


def read_text(file: InputFile, *, most_bytes: int, what: str, remedy: str) -> str:
    """The text of a small file. Raises CampaignFileError as `read_lines` does, and for a file above `most_bytes`.

    The message for a file that is too large says what it should be (`what`, such as "a template"), and the `remedy`.
    """
    texts: list[str] = []
    left = most_bytes
    for line in read_lines(file):
        if line.problem is not None:
            raise CampaignFileError(f"{file}, line {line.number}: {line.problem}")
        left -= len(line.text.encode())
        if left < 0:
            raise CampaignFileError(f"{file} is too large: {what} may have at most {most_bytes} bytes; {remedy}")
        texts.append(line.text)
    return "".join(texts)


def _refuse_bomb(file: InputFile, *, unpacked: int, packed: int) -> None:
    if unpacked > _SUSPICIOUS_BYTES and unpacked > _SUSPICIOUS_RATIO * packed:
        raise CampaignFileError(
            f"{file} unpacks to more than {_SUSPICIOUS_RATIO} times its size, too much for a list of calls; unpack "
            "it, and look at its content"
        )


def _refuse_other_kinds(file: InputFile, beginning: bytes) -> None:
    for signature, sentence in _SIGNATURES.items():
        if beginning.startswith(signature):
            raise CampaignFileError(f"{file} {sentence}")
    # UTF-16 without a byte order mark: every other byte of plain English is a NUL.
    if beginning[:200].count(0) > len(beginning[:200]) // 4:
        raise CampaignFileError(f"{file} is not UTF-8 text (UTF-16, or binary data); {_REMEDY}")


def _judged(file: InputFile, number: int, line: str) -> Line:
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raw = line.encode("utf-8", "surrogateescape")
        byte = raw[len(line[: error.start].encode("utf-8", "surrogateescape"))]
        # A single line is hardly ever in another encoding: the whole file is, and saving it again corrects all lines.
        raise CampaignFileError(
            f"{file} is not UTF-8: line {number} has the byte 0x{byte:02X} at character {error.start + 1}; {_REMEDY}"
        ) from None
    if "\0" not in line:
        return Line(number, line)
    problem = "has a NUL character; remove it, or save the file again as CSV UTF-8"
    return Line(number, line.replace("\0", ""), problem)
