"""The suppression list: numbers that are not called, in any queue of a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from voiceflow_worker.core.ports import Move, Store
from voiceflow_worker.core.ports.versions import tell_left_out
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.numbers.phone import parse_number
from voiceflow_worker.model.numbers.spellings import all_spellings, spellings
from voiceflow_worker.model.records.call_json import rfc3339
from voiceflow_worker.model.reports.status import OPT_OUTS
from voiceflow_worker.model.text.moment import in_words

NAMESPACE = "suppressed"
CHUNK = 1000
"""Numbers of one trip to the store."""
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One number on the list: since when, why, and by which job if a call put it there; `until` None is for good."""

    number: str
    since: datetime
    reason: str = ""
    job_id: str | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether it still stands then."""
        return self.until is None or at < self.until

    def as_json(self) -> dict[str, object]:
        """The entry for scripts."""
        return {
            "number": self.number,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "reason": self.reason,
            "job_id": self.job_id,
        }

    def in_words(self) -> str:
        """Why a call to the number is not made, as the reason of its job."""
        return f"its number is {self._standing()}"

    def in_words_of(self, number: str) -> str:
        """The same, of a number that a call would bridge to."""
        return f"{number}, which it bridges to, is {self._standing()}"

    def _standing(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        call = f" by call {self.job_id}" if self.job_id else ""
        end = f" until {in_words(self.until)}" if self.until else ""
        return f"on the suppression list since {in_words(self.since)}{call}{end}{why}"


class SuppressionList:
    """The numbers of a store that are not called: each is looked up before anything is sent to it, in every queue.

    Numbers are taken as people write them (`country`, ISO 3166, is where national ones belong) and held in E.164 form,
    as calls hold their destinations. All methods raise PhoneNumberError for what is not one number, before anything is
    changed, and StoreUnavailableError.
    """

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._clock = store.clock

    async def add(
        self, *numbers: str, reason: str = "", until: datetime | None = None, country: str | None = None
    ) -> Mapping[str, Suppression]:
        """Put numbers on the list, for good or until a time; gives the entries that stand now, by number in E.164 form.

        A number that is on it stays as it is, unless this is for longer. Calls that wait for these numbers end when
        their turn comes, and none is sent; one whose POST is on its way is not stopped. Raises InvalidInputError for an
        `until` that has passed.
        """
        now = self._clock.now()
        if until is not None and (until.tzinfo is None or until <= now):
            raise InvalidInputError(f"a number cannot be suppressed until {until}: give a time to come, with its zone")
        wanted = {
            number: Suppression(number=number, since=now, reason=reason, until=until)
            for number in _read(numbers, country)
        }
        standing: dict[str, Suppression] = {}
        for chunk in _chunks(list(wanted)):
            standing.update(await self._put({number: wanted[number] for number in chunk}, until=until, now=now))
        return standing

    async def remove(self, *numbers: str, country: str | None = None) -> Sequence[str]:
        """Take numbers off the list; gives those that were on it. What ended because of it stays ended."""
        now = self._clock.now()
        gone: list[str] = []
        for chunk in _chunks(list(all_spellings(_read(numbers, country)))):
            gone += await self._records.get(NAMESPACE, chunk, now=now)
        for chunk in _chunks(gone):
            await self._records.delete(NAMESPACE, dict.fromkeys(chunk))
        return gone

    async def find(self, *numbers: str, country: str | None = None) -> Mapping[str, Suppression]:
        """Which of these numbers are on the list, by number in E.164 form."""
        found: dict[str, Suppression] = {}
        for chunk in _chunks(_read(numbers, country)):
            found.update(await self.standing(chunk))
        return found

    async def scan(self, *, after: str = "", limit: int = 1000) -> Sequence[Suppression]:
        """The list in the order of its numbers, from behind `after`."""
        found = await self._records.scan(NAMESPACE, now=self._clock.now(), after=after, limit=limit)
        return [_entry(number, text) for number, text in found]

    async def standing(self, numbers: Iterable[str]) -> Mapping[str, Suppression]:
        """Which of these are on the list, in one read; they are in E.164 form already, as jobs hold them.

        A number is on the list in every spelling that reaches its telephone.
        """
        wanted = list(dict.fromkeys(numbers))
        if not wanted:
            return {}
        found = await self._records.get(NAMESPACE, list(all_spellings(wanted)), now=self._clock.now())
        entries = {number: _entry(number, text) for number, text in found.items()}
        standing: dict[str, Suppression] = {}
        for number in wanted if entries else ():
            of_it = [entries[each] for each in spellings(number) if each in entries]
            if of_it:
                standing[number] = max(of_it, key=lambda entry: (entry.until is None, entry.until or entry.since))
        return standing

    async def remember_opt_outs(self, moves: Sequence[Move]) -> None:
        """Put on the list, for good, who asked in one of these moves to be left alone.

        To be called before they are committed: who stands on the list and is no opt-out of any job yet is not called;
        the other way round a crash would forget them.
        """
        found = _opt_outs(moves, now=self._clock.now())
        if found:
            await self._put(found, until=None, now=self._clock.now())

    async def _put(
        self, wanted: Mapping[str, Suppression], *, until: datetime | None, now: datetime
    ) -> Mapping[str, Suppression]:
        """Store what is for longer than what stands; gives what stands then."""
        texts = {number: _text(entry) for number, entry in wanted.items()}
        entries: dict[str, Suppression] = {}
        for _ in range(_TRIES):
            standing = await self._records.put_if_absent(NAMESPACE, texts, expires_at=until, now=now)
            entries = {number: _entry(number, text) for number, text in standing.items()}
            shorter = [number for number, entry in entries.items() if _is_shorter(entry.until, until)]
            if not shorter:
                break
            if until is None:
                # For good outweighs whatever stands; nothing can be lost by replacing it.
                await self._records.put(NAMESPACE, {each: texts[each] for each in shorter}, expires_at=None, now=now)
                return {**entries, **{each: wanted[each] for each in shorter}}
            await self._records.delete(NAMESPACE, {each: standing[each] for each in shorter})
        return entries


def why_refused(job: Job, listed: Mapping[str, Suppression], *, at: datetime | None = None) -> tuple[str, str] | None:
    """The first number for which a job is not sent, and why, given what stands of its numbers; None if it may be.

    With `at` only what stands at that time counts.
    """
    for place, number in enumerate(job.parties):
        entry = listed.get(number)
        if entry is not None and (at is None or entry.holds(at)):
            return number, entry.in_words_of(number) if place else entry.in_words()
    return None


def _opt_outs(moves: Sequence[Move], *, now: datetime) -> dict[str, Suppression]:
    found: dict[str, Suppression] = {}
    for each in moves:
        if each.new.posts is each.old.posts:
            continue
        for post in each.new.posts:
            outcome = post.outcome
            if outcome is None or outcome.status_of(each.new.destination) not in OPT_OUTS:
                continue
            was = each.old.post(post.number)
            if was is None or was.outcome is None:
                job = each.new
                reason = f"asked to be left alone: {outcome.status_text}"
                found[job.destination] = Suppression(number=job.destination, since=now, reason=reason, job_id=job.id)
    return found


def _read(numbers: Iterable[str], country: str | None) -> list[str]:
    return list(dict.fromkeys(parse_number(number, country=country).e164 for number in numbers))


def _chunks(numbers: Sequence[str]) -> Iterator[Sequence[str]]:
    return (numbers[place : place + CHUNK] for place in range(0, len(numbers), CHUNK))


def _is_shorter(standing: datetime | None, wanted: datetime | None) -> bool:
    return standing is not None and (wanted is None or standing < wanted)


def _text(entry: Suppression) -> str:
    return json.dumps(
        {
            "since": entry.since.isoformat(),
            "reason": entry.reason,
            "job_id": entry.job_id,
            "until": entry.until.isoformat() if entry.until else None,
        },
        ensure_ascii=False,
    )


def _entry(number: str, text: str) -> Suppression:
    """The entry that was kept; of one that another version wrote in a form of its own the number alone counts."""
    try:
        fields = json.loads(text)
        until = fields["until"]
        return Suppression(
            number=number,
            since=datetime.fromisoformat(fields["since"]),
            reason=fields["reason"],
            job_id=fields["job_id"],
            until=datetime.fromisoformat(until) if until else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        tell_left_out(f"the entry of {number} on the suppression list", error)
        reason = "its entry was written by another version of voiceflow-worker"
        return Suppression(number=number, since=datetime.fromtimestamp(0, UTC), reason=reason)
