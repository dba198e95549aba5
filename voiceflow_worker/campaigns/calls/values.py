"""The values of a row: reserved columns, template variables, the request body completed with them, and its key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voiceflow_worker.campaigns.lists.columns import DESTINATION, RESERVED, Column, Role, row_name
from voiceflow_worker.campaigns.lists.rows import error_in
from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.finding import Finding, message_of
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.values import (
    UnspeakableError,
    describe,
    exact_number,
    is_list,
    is_missing,
    is_object,
)
from voiceflow_worker.model.jobs.job import usual_key
from voiceflow_worker.model.numbers.phone import is_e164, phone_identity
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import folded
from voiceflow_worker.model.times import DateOrder, PersonZone, with_iso_date


def row_key(batch_id: str, canonical: str, further: Sequence[str] = ()) -> str:
    """The key made for a row without its own key: a digest of its batch, its canonical body and its further numbers.

    Because validUntil is left out, a file that is enqueued again adds nothing, even with another validity.
    """
    content = "\0".join((batch_id, canonical, *further)).encode("utf-8", "surrogatepass")
    return f"row-{hashlib.sha256(content).hexdigest()[:32]}"


def batch_key(batch_id: str, own_key: str | None, number: str) -> str:
    """The key of a row that holds within its batch: a digest of the batch, and of the row's own key or its number."""
    content = "\0".join((batch_id, "number" if own_key is None else "key", own_key or phone_identity(number)))
    return f"batch-{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def is_own_key(key: str | None) -> bool:
    """Whether this is a key of a user, and not one that was made for a row (`row_key`)."""
    return key is not None and re.fullmatch("row-[0-9a-f]{32}", key) is None


_WHOLE = re.compile(r"\d+\.0+")  # as a data frame writes whole numbers in a column with gaps


def _id_text(text: str) -> str:
    """Return a unique key in one spelling, whichever program wrote it: 7.0 is 7."""
    return usual_key(text.partition(".")[0] if _WHOLE.fullmatch(text) else text)


class SeenKeys:
    """The keys of the rows that were read so far, each with the line of its row and a digest of its body.

    Digests are kept as integers: a row takes about 150 bytes.
    """

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, int]] = {}

    def first(self, key: str, *, row: int, digest: str) -> tuple[int, bool] | None:
        """The line of the earlier row with this key, and whether that row has an equal body.

        Returns None for a new key, and adds it.
        """
        body = int(digest, 16)
        line, known = self._rows.setdefault(_mark(key), (row, body))
        return None if line == row else (line, known == body)

    def marks(self) -> set[int]:
        """The digests of all bodies, as numbers."""
        return {body for _, body in self._rows.values()}

    def __contains__(self, key: str) -> bool:
        """True if a row with this key was read."""
        return _mark(key) in self._rows


def _mark(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())


_TIMES = frozenset({"not_before", "valid_until"})
_OWN = frozenset({DESTINATION, *RESERVED})


@dataclass(slots=True)
class Draft:
    """What has become of a row so far: its values, what is wrong with them, and then the parts of its call.

    Texts are trimmed; empty and null values are not in `reserved`. `variables` is the dictionary of the row: every
    column that is read, under its key.
    """

    reserved: dict[str, str] = field(default_factory=dict[str, str])
    variables: dict[str, object] = field(default_factory=dict[str, object])
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    """The names of columns as they are written, by their keys."""
    data: dict[str, object] = field(default_factory=dict[str, object])
    """The part of the dictionary that is stored with the call: the columns that the job does not have itself."""
    body: dict[str, object] = field(default_factory=dict[str, object])
    findings: list[Finding] = field(default_factory=list[Finding])
    nested: Collection[str] = ()
    """The columns in `data` whose values are arrays or objects, written as JSON. No text can be made of them."""
    further: Sequence[tuple[str, str]] = ()
    """The further numbers of the person that have a value, each with its column, in their order."""
    may_have_dates: bool = True
    country: str | None = None
    """The country of the row's national numbers."""
    source: str | None = None
    no_source: str | None = None
    """Why there is no number to call this person from; empty if the number to call says it, being missing or wrong."""
    person: PersonZone | None = None
    """The zone in which the person hears times that have a zone of their own; None if no text asks for it."""
    texts: Sequence[object] = ()
    """What the texts of the template have become."""

    @property
    def is_bad(self) -> bool:
        """Whether the row has an error."""
        return bool(self.findings) and any(found.is_error for found in self.findings)

    def error(self, message: str, *, column: str | None, path: str | None = None, code: int | None = None) -> None:
        """Add an error."""
        self.findings.append(Finding(message=message, column=column, path=path, code=code))

    def is_reported(self, column: str | None) -> bool:
        """True if the row has an error about the cell in this column, in any spelling of the name."""
        if column is None or not self.findings:
            return False
        names = (found.column for found in self.findings if found.is_error)
        return row_name(column) in {row_name(name) for name in names if name}

    def take(self, column: Column, given: object) -> None:
        """Take the cell of a column."""
        key, role = column.key, column.role
        if role is Role.BODY:
            self.body[column.written] = given
            return
        if isinstance(given, str):
            value: object = given.strip()
        else:
            try:
                value = _exact(given)
            except UnspeakableError as error:
                self.error(message_of(error), column=column.written)
                return
        if key and isinstance(value, str) and value[:1] in _SIGNS and (problem := error_in(value)) is not None:
            self.error(problem, column=key)  # it does not count as missing
        elif role is not Role.DATA and (text := self.checked_text(column.name, value, is_number=role is Role.NUMBER)):
            self.reserved[column.name] = text
        if not key:
            return
        if key in self.variables:
            self.error(f"is twice in the row, as {key}; rename or remove one", column=column.written)
        self.variables[key] = value
        if column.alias:
            self.variables[column.alias] = value
        if column.is_kept:
            # The job's data is flat: a nested value becomes a JSON text.
            if value is None or isinstance(value, str | int | float):
                self.data[column.alias or key] = value
            else:
                self.data[column.alias or key] = json.dumps(value, ensure_ascii=False)
                self.nested = {*self.nested, column.alias or key}

    def checked_text(self, name: str, value: object, *, is_number: bool) -> str:
        """The text of a reserved value, or of a number to call; empty if it has none, or if that is now an error."""
        match value:
            case None:
                return ""
            case str():
                if not value or not is_missing(value):
                    return value
                code, problem = (
                    None,
                    f"holds {value!r}, which programs write for a missing value; leave it empty, or write the value",
                )
            case float() if (is_number or name == "source") and not value.is_integer():
                code = -1017 if is_number else -1009
                problem = f"holds {value}, which is not a phone number; write the number as a text"
            case int() | float() if not isinstance(value, bool):
                return str(value)
            case _ if is_list(value) and is_number:
                code, problem = -1011, "holds several numbers; give each a call of its own"
            case _:
                code, problem = -1009, f"should be a text, not {describe(value)}"
        self.error(problem, column=name, code=code)
        return ""

    def take_further_numbers(self, columns: Iterable[str]) -> None:
        """Take the further numbers from these columns. They stay in the dictionary too."""
        wrong = {row_name(found.column or "") for found in self.findings}
        texts = (
            (key, self.checked_text(key, self.variables.get(key), is_number=True))
            for key in columns
            if key not in wrong
        )
        self.further = [(key, text) for key, text in texts if text]

    def drop_wrong(self) -> None:
        """Leave out the values of cells with a finding: they count as missing from here on."""
        for column in {row_name(found.column or "") for found in self.findings}:
            for texts in (self.reserved, self.variables, self.data):
                texts.pop(column, None)


def key_in(draft: Draft) -> str | None:
    """The unique key that a row names; None without one."""
    return _id_text(key) if (key := draft.reserved.get("unique_key")) else None


def part_of(data: Mapping[str, object], path: str) -> object:
    """The part of a row that a path such as `contact.phone` names; None if there is none."""
    found: object = data
    for name in map(row_name, path.split(".")):
        found = next((each for key, each in found.items() if row_name(key) == name), None) if is_object(found) else None
    return found


_SIGNS = frozenset("#=E")


def _exact(value: object) -> object:
    """A value of JSON with trimmed texts, exact numbers, and null for NaN. Raises UnspeakableError."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return None if is_missing(value) else exact_number(value)
    if is_object(value):
        return {key: _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if is_list(value) else value


def write_dates_out(draft: Draft, order: DateOrder) -> None:
    """Write the dates in the times and in the own columns of a row as 2030-01-31, in place."""
    wrong: dict[str, str] = {}
    for texts in (draft.reserved, draft.variables, draft.data):
        for name, value in texts.items():
            if isinstance(value, str) and (name not in _OWN or name in _TIMES):
                try:
                    texts[name] = with_iso_date(value, order)
                except ValueError as error:
                    wrong[name] = str(error)
    for name, message in wrong.items():
        draft.error(message, column=name)


def is_used(name: str, variables: Mapping[str, object] | frozenset[str]) -> bool:
    """True if a template with these variables uses a column of this name."""
    return row_name(name) in set(map(folded, variables))


FIRST_CALL = "$.callflow[0].params"

_CALLING = frozenset({Action.MAKE_CALL.value})
_SPEAKING = frozenset({Action.SAY.value, Action.SAY_AND_CAPTURE.value})


def complete(
    body: dict[str, Any],
    *,
    destination: str | None,
    source: str | None,
    voice_profile: str | None,
    source_wins: bool = False,
) -> None:
    """Fill in a body in place. An argument of None changes nothing. Malformed parts of the body stay as they are.

    The first call always goes to `destination`: if it went to a number in the template, every row would call that
    number. `source` is used if that call has none; with `source_wins`, it also replaces the call's own source.
    `voice_profile` is used for each text without a voice.
    """
    entries = _own_entries(body)
    if entries and (call := _params(entries[0], _CALLING)) is not None:
        made = dict(call)
        if destination is not None:
            made["destination"] = destination
        if source is not None and (source_wins or _is_empty(made.get("source"))):
            made["source"] = source
        entries[0] = {**entries[0], "params": made}
    if voice_profile is not None:
        for index, spoken in _without_voice(entries):
            entries[index] = {**entries[index], "params": {**spoken, "voiceProfile": voice_profile}}


def write_numbers_out(body: dict[str, Any], *, country: str) -> None:
    """Write the national numbers of a body in E.164 form, in place.

    Malformed numbers stay unchanged, because the later check of the body reports them.
    """
    entries = _own_entries(body)
    for index, entry in enumerate(entries):
        call = _params(entry, _CALLING)
        if call is not None:
            params = {key: _written_out(key, value, country) for key, value in call.items()}
            entries[index] = {**entry, "params": params}


def _own_entries(body: dict[str, Any]) -> list[Any]:
    """The entries of a body's flow, in a new list that replaces the flow; empty for a malformed flow."""
    flow = body.get("callflow")
    if not is_list(flow):
        return []
    entries: list[Any] = list(flow)
    body["callflow"] = entries
    return entries


def _written_out(key: str, value: object, country: str) -> object:
    if key not in {"source", "destination"} or not isinstance(value, str) or is_e164(value):
        return value
    try:
        return read_number(value, country)
    except PhoneNumberError:
        return value


def missing_from(body: Mapping[str, object]) -> set[str]:
    """The names of the values that a body needs but lacks: `source`, `voice_profile`, both or none."""
    flow = body.get("callflow")
    if not is_list(flow) or not flow:
        return set()
    call = _params(flow[0], _CALLING)
    missing = {"source"} if call is not None and _is_empty(call.get("source")) else set[str]()
    return missing | {"voice_profile" for _ in _without_voice(list(flow))}


def _without_voice(entries: list[Any]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for index, entry in enumerate(entries):
        spoken = _params(entry, _SPEAKING)
        if spoken is not None and _is_empty(spoken.get("voiceProfile")):
            yield index, spoken


def _params(entry: object, actions: frozenset[str]) -> Mapping[str, object] | None:
    """The params of an entry whose action is in `actions`; None for other entries and malformed params."""
    if not is_object(entry) or entry.get("action") not in actions:
        return None
    params = entry.get("params")
    if params is None:
        return {}
    return params if is_object(params) else None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
