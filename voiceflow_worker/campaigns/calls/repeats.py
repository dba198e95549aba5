"""The search for rows of a file that call the same number as an earlier row, with another body."""

from __future__ import annotations

from array import array

from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.numbers.spellings import telephone_of
from voiceflow_worker.model.text.counting import count_of

_PARTS = 256


class Repeats:
    """A search for rows of a file that call the same number in the same batch. It takes 16 bytes of memory a row.

    The rows are compared when the whole file has been read. All rows with one number and batch are in the same part of
    the rows, so that the parts are compared one after the other. This keeps the sets for the comparison small.
    """

    def __init__(self) -> None:
        self._marks: list[array[int]] = [array("q") for _ in range(_PARTS)]
        self._rows: list[array[int]] = [array("q") for _ in range(_PARTS)]

    def add(self, batch_id: str | None, number: str, *, row: int) -> None:
        """Add a row whose own call goes to this number."""
        mark = hash((batch_id, telephone_of(number)))
        part = mark % _PARTS
        self._marks[part].append(mark)
        self._rows[part].append(row)

    def finding(self, *, file: str | None) -> Finding | None:
        """A warning with the count of rows that call a number again, and the first such row; None if there are none."""
        count = 0
        first: tuple[int, int] | None = None
        for marks, rows in zip(self._marks, self._rows, strict=True):
            if len(set(marks)) == len(marks):
                continue
            seen: dict[int, int] = {}
            for mark, row in zip(marks, rows, strict=True):
                earlier = seen.setdefault(mark, row)
                if earlier != row:
                    count += 1
                    first = min(first or (row, earlier), (row, earlier))
        if first is None:
            return None
        row, earlier = first
        return Finding(
            file=file,
            row=row,
            column="destination",
            severity=Severity.WARNING,
            message=(
                f"{count_of(count, 'row')} would call a number that an earlier row of the same batch calls with "
                f"another body: for example, row {row} has the number of row {earlier}. Each of these rows is a call "
                "of its own. Remove the rows that are not intended. Rows with a unique_key are not reported"
            ),
        )
