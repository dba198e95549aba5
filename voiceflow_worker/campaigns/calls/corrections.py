"""Corrections of cells: what a person has typed in place of what a row of a list has.

A correction is bound to the digest of the whole row as the list has it, and used once: with any other cell different,
the row stands for somebody else, and is what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from voiceflow_worker.campaigns.files.no_call import FORBIDS, sense_of
from voiceflow_worker.campaigns.files.rows import RawRow, RowSource, row_name
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.flows.values import describe, is_list, is_object
from voiceflow_worker.model.text.wording import quoted

MOST = 1000
"""The most corrections of a campaign: a list with more bad cells is to be corrected where it comes from."""
_LONGEST = 1000
_HOW = 'give a list of objects such as {"row": DIGEST, "column": "Mobile", "was": "9123", "now": "91234567"}'


@dataclass(frozen=True, slots=True)
class Correction:
    """What a cell `was`, and what it is `now`, in a `column` of the row with this digest."""

    row: str
    column: str
    was: str
    now: str

    def as_json(self) -> dict[str, str]:
        """The correction as an object of JSON and TOML."""
        return asdict(self)


_NAMES = {each.name for each in fields(Correction)}


def read_corrections(value: object) -> tuple[Correction, ...]:
    """The corrections in a list of objects, or in a text of JSON that is one. Raises ValueError, InvalidInputError."""
    if isinstance(text := value, str):
        if not text.strip():
            raise ValueError("it is empty: give a list, or leave it out")
        try:
            value = json.loads(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is no list: {_HOW}") from None
    if not is_list(value):
        raise InvalidInputError(f"{quoted(value)} is {describe(value)}: {_HOW}")
    found: list[Correction] = []
    for each in value:
        if isinstance(each, Correction):
            found.append(each)
            continue
        parts: Mapping[str, object] = each if is_object(each) else {}
        texts = {name: part for name, part in parts.items() if isinstance(part, str) and len(part) <= _LONGEST}
        if {*texts} != _NAMES or len(texts) < len(parts) or not texts["row"] or not texts["now"].strip():
            raise InvalidInputError(f"{quoted(each)} is no correction: {_HOW}")
        found.append(Correction(**texts))
    if len(found) > MOST:
        raise ValueError(f"it has {len(found)} corrections, at most {MOST} are read: correct the list itself")
    return tuple(found)


def corrections_text(found: Iterable[Correction]) -> str:
    """The corrections as a text for `read_corrections`; empty without any."""
    listed = [each.as_json() for each in found]
    return json.dumps(listed, ensure_ascii=False) if listed else ""


def row_digest(cells: Mapping[str, object]) -> str:
    """The digest of a whole row, by its cells as the list has them."""
    texts = sorted((row_name(name), text) for name, cell in cells.items() if (text := _text(cell)))
    return hashlib.blake2b(json.dumps(texts).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return cell.strip() if isinstance(cell, str) else "" if cell is None else json.dumps(cell, default=str)


def forbids_calls(column: str) -> bool:
    """Whether a column says by its name whom not to call."""
    return sense_of(column) in FORBIDS


class Corrections:
    """The corrections of a list, each used for one row. Those of `earlier` starts of its batch are used too.

    None may be of a column that says whom not to call: of those that `decide`, and of those that by their names forbid
    calls. Raises InvalidInputError for one of these.
    """

    def __init__(self, given: Sequence[Correction], *, decide: Iterable[str] = ()) -> None:
        self._given, self._decide = tuple(given), {*map(row_name, decide)}
        for each in given:
            if self._forbids(each.column):
                raise InvalidInputError(
                    f"corrections: {each.column!r} says whom not to call, so it cannot be corrected: correct the list"
                )
        self._left: dict[str, list[Correction]] = {}
        self._used: list[Correction] = []
        self._add(given)

    def __bool__(self) -> bool:
        return bool(self._left)

    def add_earlier(self, corrections: Iterable[Correction]) -> None:
        """Use those of an earlier start too, unless their cells are corrected anew."""
        known = {(each.row, each.column) for each in self._given}
        self._add(
            each for each in corrections if (each.row, each.column) not in known and not self._forbids(each.column)
        )

    def _forbids(self, column: str) -> bool:
        return row_name(column) in self._decide or forbids_calls(column)

    def _add(self, corrections: Iterable[Correction]) -> None:
        for each in corrections:
            self._left.setdefault(each.row, []).append(each)

    def applied(self, raw: RawRow, source: RowSource) -> RawRow:
        """The row with its corrected cells, which `was` then names."""
        cells = dict(source.cells_of(raw))
        if not (found := self._left.get(row_digest(cells))):
            return raw
        mine = {row_name(each.column): each for each in reversed(found)}
        for each in mine.values():
            found.remove(each)
            self._used.append(each)
        names = raw.names or source.header
        new = tuple(
            cell if (mended := mine.get(row_name(name))) is None else mended.now
            for name, cell in zip(names, raw.cells, strict=False)
        )
        lacking = [each for key, each in mine.items() if key not in set(map(row_name, names))] if raw.names else []
        return raw._replace(
            cells=(*new, *raw.cells[len(names) :], *(each.now for each in lacking)),
            names=(*raw.names, *(each.column for each in lacking)),
            problems=tuple(each for each in raw.problems if row_name(each[0] or "") not in mine),
            was=tuple((each.column, each.was) for each in mine.values()),
        )

    def unused(self) -> Iterator[Correction]:
        """Those that were given, and were used for no row."""
        left = [each for found in self._left.values() for each in found]
        return (each for each in dict.fromkeys(self._given) if each in left)

    def kept(self) -> Sequence[Correction]:
        """Those to keep with the batch: what was given, and what was used."""
        return (*dict.fromkeys((*self._given, *self._used)),)[:MOST]
