"""Who has which number and key: the rows of a list as they are read, and the stored calls that may be theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.calls.values import SeenKeys, is_own_key
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.text.wording import count_of


class StoredCall(NamedTuple):
    """What is kept of a stored call: the digest of its body, as `mark`.

    `terms` are all else that is compared, if a row says the same.
    """

    id: str
    key: str | None
    mark: int
    terms: bytes
    waits: bool
    is_limited: bool
    """Whether its validity ends: a change may leave no time for it."""
    has_key: bool
    """Whether its key is one of a user."""
    ended: JobState | None
    """The state in which it has ended."""
    may_call: bool
    """Whether it may ring, or may have rung."""
    by_person: bool
    """Whether a person has cancelled it."""
    is_suppressed: bool
    """Whether it has ended because of the suppression list."""


class SilentRow(NamedTuple):
    """A row that calls nobody: it is left out, or bad, or behind a limit."""

    row: int
    is_left_out: bool
    has_key: bool


class PersonIndex:
    """The rows of a list, and stored calls, by the numbers and keys of their people. A number counts within its batch.

    Of rows that make calls, only digests are kept. A row and a call that both have keys of a user belong together by
    these alone. Of several rows of one number that call nobody, those that are left out count.
    """

    def __init__(self) -> None:
        self.bodies: SeenKeys = SeenKeys()
        """The rows by what they say to whom, so that a person with other further numbers is found."""
        self._called: dict[int, int] = {}
        """The first row with a number: nobody is refused by it."""
        self._silent: dict[int, list[SilentRow]] = {}
        self._silent_keys: dict[str, SilentRow] = {}
        self._stored: dict[int, list[StoredCall]] = {}
        self.silent_batches: set[str] = set()
        self.refused: set[int] = set()
        """The rows that filters leave out, and not a time that is over: their people want no call by another row."""

    @property
    def silent_keys(self) -> Collection[str]:
        """The keys of their users that rows have which call nobody."""
        return self._silent_keys.keys()

    def call(self, row: int, call: CheckedCall) -> list[int]:
        """Add a row that makes a call; returns the first row of each of its numbers that earlier rows have."""
        earlier: list[int] = []
        for number in map(phone_identity, call.numbers):
            first = self._called.setdefault(_place(call.batch_id, number), row)
            if first != row:
                earlier.append(first)
        return earlier

    def silence(self, row: ReadRow, batch_id: str, *, is_left_out: bool) -> None:
        """Add a row that calls nobody."""
        said = SilentRow(row.raw.number, is_left_out, bool(row.own_key))
        self.silent_batches.add(batch_id)
        for number in map(phone_identity, row.numbers):
            self._silent.setdefault(_place(batch_id, number), []).append(said)
        if row.own_key:
            self._silent_keys[row.own_key] = said

    def left_out_and_called(self) -> tuple[int, str] | None:
        """The first row that calls a person of a row that is left out, and what is told of it; None without one."""
        left_out = (
            (place, each.row) for place, some in self._silent.items() for each in some if each.row in self.refused
        )
        both = {place: (self._called[place], row) for place, row in reversed([*left_out]) if place in self._called}
        if not both:
            return None
        row, other = min(both.values())
        return row, (
            f"{count_of(len(both), 'number')} would be called although another row with the number is left out, such "
            f"as that of row {row}, which row {other} leaves out. If they are the same people, take these rows out of "
            "the list."
        )

    def silent_row(self, call: Job) -> SilentRow | None:
        """The row of a call's person that calls nobody; None if none has its key or one of its numbers."""
        if (own := next((self._silent_keys[key] for key in call.keys if key in self._silent_keys), None)) is not None:
            return own
        has_key = any(map(is_own_key, call.keys))
        places = (_place(call.batch_id, phone_identity(number)) for number in call.numbers)
        found = (each for place in places for each in self._silent.get(place, ()) if not (each.has_key and has_key))
        return min(found, key=lambda each: not each.is_left_out, default=None)

    def store(self, call: StoredCall, batch_id: str, numbers: Iterable[str]) -> None:
        """Add a stored call to these numbers, which no row has by its key."""
        for number in map(phone_identity, numbers):
            self._stored.setdefault(_place(batch_id, number), []).append(call)

    @property
    def has_stored(self) -> bool:
        """Whether there are stored calls."""
        return bool(self._stored)

    def stored_of(self, row: ReadRow) -> list[StoredCall]:
        """The stored calls to a row's numbers that may be its own."""
        if row.call is None or row.call.batch_id is None:
            return []
        found: dict[str, StoredCall] = {}
        for number in row.call.numbers:
            for each in self._stored.get(_place(row.call.batch_id, phone_identity(number)), ()):
                if row.has_made_key or not each.has_key:
                    found[each.id] = each
        return [*found.values()]


def _place(batch_id: str | None, telephone: str) -> int:
    return hash((batch_id, telephone))
