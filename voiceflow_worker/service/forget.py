"""Erasing a person: their calls in every queue, and all else that the store and the files of this host have of them.

Each call goes in one write, with all that hangs on it: its sessions, recordings, key presses and outcomes that were not
delivered. That write also leaves what must be known of it (`core/erasures.py`). What belongs to the number alone comes
last. So whoever was killed in the middle, and orders it again, erases the rest.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from voiceflow_worker.actions import ActionRefusedError, ActionResult, Operator, OperatorAction, Question
from voiceflow_worker.backends.local_journal import journal_files
from voiceflow_worker.core import writes
from voiceflow_worker.core.audit import AUDIT, WHOLE, AuditEntry, Interface, entries_of, login_name
from voiceflow_worker.core.erasures import Erasures, erased_call_put
from voiceflow_worker.core.outcomes.hook import PARKED as PARKED_OUTCOMES
from voiceflow_worker.core.outcomes.hook import WAITING as WAITING_OUTCOMES
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.names import QueueNames
from voiceflow_worker.core.ports.reading import find_pages, get_jobs
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Delete,
    Drop,
    Key,
    Mode,
    Page,
    Put,
    Record,
    Result,
    Write,
    tally_change,
)
from voiceflow_worker.core.progress import INCOMING, RECORDINGS, SEEN, STATES
from voiceflow_worker.core.rollback import LEAST_KEPT, TOMBSTONES
from voiceflow_worker.core.settling.changes import EARLY, PRESSES, SESSIONS, Changes
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import ORDERED, WAS_ERASED, SuppressionList, entry_text, erased_group
from voiceflow_worker.errors import TooLateError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import spellings, telephone_of
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of, rfc3339
from voiceflow_worker.service.escalation_store import OPEN
from voiceflow_worker.service.uploads import Uploads, delete_left_over

if TYPE_CHECKING:
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.core.ports.outside import LocalJournal
    from voiceflow_worker.settings import Settings

PAGE = 200
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_ERASED = "erased"
_NAMED = 3
_LEAST_DIGITS = 7
_UNSENT = frozenset({JobState.QUEUED})
ANSWERS = "ivr-answer"
"""Namespace of the answers of menus, which are kept for four hours."""
_OF_SESSION = (SESSIONS, EARLY, STATES, RECORDINGS, PRESSES)
"""The namespaces whose groups are sessions."""
GOES = (
    "their calls in every queue, with numbers, texts, data, outcomes, key presses and recordings' addresses; outcomes "
    "that were not delivered; early summaries; lines of journal files; uploads; what the audit log says of them"
)
STAYS = (
    "an opt-out and the unique keys, as keyed digests, so that they are not called, and the same file calls nobody "
    "again; counters of queues and batches; calls to others that this number was only connected to"
)
NOT_OURS = (
    "backups of the store, older copies of its files and its server's write-ahead log, reports and files that somebody "
    "has, what was sent to hooks, and 8x8's own log: look there too"
)

ELSEWHERE = (
    "running workers and receivers erase the person from their journal files within a minute; a host where none runs, "
    "when the next one starts"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was erased, without the number. `calls` were erased, of which `cancelled` were waiting to be made."""

    id: str
    at: datetime
    calls: int
    cancelled: int
    unique_keys: int
    opt_out: bool
    records: int
    audit_entries: int

    def as_json(self) -> dict[str, object]:
        """The receipt as JSON."""
        return {
            "receipt": self.id,
            "at": rfc3339(self.at),
            "erased": {"calls": self.calls, "records": self.records, "audit_entries": self.audit_entries},
            "cancelled": self.cancelled,
            "kept": {"opt_out": self.opt_out, "unique_keys": self.unique_keys},
            "not_ours": NOT_OURS,
        }

    def in_words(self) -> str:
        """The receipt in a sentence."""
        opt_out = "an opt-out and " if self.opt_out else ""
        return (
            f"a person was erased: {count_of(self.calls, 'call')}, {count_of(self.records, 'record')}, "
            f"{count_of(self.audit_entries, 'line')} of the audit log; {opt_out}"
            f"{count_of(self.unique_keys, 'unique key')} kept as digests; receipt {self.id}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget(OperatorAction):
    """The erasure of a person by their number, in every queue. It is refused while a call is open or in doubt.

    `files` are the journal files of this host.
    """

    name_of_action: ClassVar[str] = "forget"
    is_irreversible: ClassVar[bool] = True

    operator: Operator
    number: str
    country: str | None = None
    note: str | None = None
    files: LocalJournal | None = None

    async def question(self) -> Question:
        """The question. Raises ActionRefusedError while a call is open or in doubt, and PhoneNumberError."""
        trail = self._trail()
        calls = await trail.calls()
        await trail.refuse_open(calls)
        waiting = sum(job.state in _UNSENT for job in calls)
        queues = Counter(job.queue for job in calls)
        where = ", ".join(f"{count} in queue {queue}" for queue, count in sorted(queues.items())) or "none is stored"
        others = dict.fromkeys(number for job in calls for number in job.numbers if number not in trail.spellings)
        also = (
            f" These calls have further numbers of the person: {', '.join(others)}; erase these too." if others else ""
        )
        return Question(
            title=f"Erase {trail.number} for good?",
            will_be_called=(),
            will_not_be_called=(f"what is waiting for this person is cancelled: {count_of(waiting, 'call')}.",),
            facts=(
                f"Calls of this person: {len(calls)} ({where}).{also}",
                f"Erased: {GOES}.",
                f"Kept: {STAYS}.",
                f"Not erased by this: {NOT_OURS}.",
            ),
            button="Erase the person for good",
        )

    async def carry_out(self, expected_version: str | None) -> ActionResult:  # noqa: ARG002 - what is there is erased
        """Erase the person. Raises ActionRefusedError, StoreError, PhoneNumberError."""
        receipt = await self._trail().erase()
        notes = (ELSEWHERE, f"not ours: {NOT_OURS}")
        return ActionResult(message=receipt.in_words(), documents=(receipt.as_json(),), notes=notes)

    async def export(self) -> dict[str, object]:
        """All that the store has of the person, as one JSON document for them. Raises StoreError, PhoneNumberError."""
        return await self._trail().exported()

    def _trail(self) -> Trail:
        number = read_number(self.number, self.country).e164
        return Trail(self.operator.store, number, policy=self.operator.policy, files=self.files)


async def forget(
    store: Store,
    number: str,
    *,
    country: str | None = None,
    note: str | None = None,
    by: str | None = None,
    settings: Settings | None = None,
) -> Mapping[str, object]:
    """Erase a person by their number, and return a receipt without it, as `voiceflow forget --json` prints it.

    `settings` are those of the workers: their policy, and where the journal files of this host are. Raises
    ActionRefusedError while a call to this number is open or in doubt, PhoneNumberError, and StoreError; it is then
    safe to order it again.
    """
    policy = CallPolicy() if settings is None else settings.policy()
    files = None if settings is None else journal_files(settings, store)
    who = Operator(store, policy, name=by, on=Interface.PYTHON, login=login_name())
    done = await Forget(operator=who, number=number, country=country, note=note, files=files).do()
    return done.documents[0]


@dataclass
class Trail:
    """All that a store, and the files of this host, have of one person."""

    store: Store
    number: str
    policy: CallPolicy
    files: LocalJournal | None = None
    _erased: Counter[str] = field(default_factory=Counter[str], init=False)

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """Every spelling of the number, in E.164 form."""
        return spellings(self.number)

    async def calls(self) -> list[Job]:
        """All calls of the person, in every queue, by queue and age."""
        found: dict[str, Job] = {}
        for queue in await QueueNames(self.store).known():
            for number in self.spellings:
                async for page in find_pages(self.store, OfNumber(queue=queue, number=number, limit=PAGE)):
                    found |= {job.id: job for job in page}
        return list(found.values())

    async def refuse_open(self, calls: Iterable[Job]) -> None:
        """Raise ActionRefusedError if a call, or an escalation with the number, is open or in doubt."""
        self._refuse_calls(calls)
        await self._refuse_escalations()

    def _refuse_calls(self, calls: Iterable[Job]) -> None:
        if still := [job for job in calls if job.state not in FINAL_STATES | _UNSENT]:
            named = ", ".join(f"{job.id} is {job.state.value}" for job in still[:_NAMED])
            raise ActionRefusedError(
                f"nothing more was erased: {count_of(len(still), 'call')} to this number may still ring or be settled "
                f"({named}). Wait for the outcome, or resolve a call in doubt (`voiceflow calls resolve`), then "
                "erase the person again"
            )

    async def _refuse_escalations(self) -> None:
        async for record in self._naming(OPEN):
            raise ActionRefusedError(
                f"nothing was erased: the escalation {record.member} is open, and has this number. Stop or acknowledge "
                "it, then erase the person again"
            )

    async def erase(self) -> Receipt:
        """Erase all of it. Raises ActionRefusedError, StoreError; it is then safe to erase again."""
        now = self.store.clock.now()
        calls = await self.calls()
        await self.refuse_open(calls)
        undelivered = [
            (namespace, record)
            for namespace in (WAITING_OUTCOMES, PARKED_OUTCOMES)
            async for record in self._scanned(namespace)
        ]
        for job in calls:
            await self._erase_call(job, [each for each in undelivered if job.id in each[1].value])
        opt_out = await self._erase_number()
        await self._erase_sessions_of_others()
        # With those of an erasure that was cut: nothing else tells which calls were the person's.
        erased = await Erasures(self.store).new()
        entries = await self._erase_from_audit(erased)
        if self.files is not None:
            await self.files.erase(erased)
        delete_left_over()
        await Uploads(self.store).clear()
        await self._prune()
        return Receipt(
            id=new_revision(), at=now, calls=self._erased["calls"], cancelled=self._erased["cancelled"],
            unique_keys=self._erased["unique keys"], opt_out=opt_out, records=self._erased["records"],
            audit_entries=entries,
        )  # fmt: skip

    async def exported(self) -> dict[str, object]:
        """All that the store has of the person, for them."""
        calls = await self.calls()
        listed = await SuppressionList(self.store).entries_of([self.number])
        ids = {job.id for job in calls}
        entries = [entry async for page in self._audit() for entry in page if self._concerns(entry, ids)]
        incoming = [json.loads(record.value) async for record in self._naming(INCOMING)]
        return {
            "number": self.number,
            "at": rfc3339(self.store.clock.now()),
            "calls": [{**call_as_json(job), "body": json.loads(job.body)} for job in calls],
            "suppression": [entry.as_json() for entry in listed.values()],
            "incoming_calls": incoming,
            "audit": [entry.as_json() for entry in entries],
        }

    # --- parts -------------------------------------------------------------------------------------------------------

    async def _erase_call(self, job: Job, undelivered: Sequence[tuple[str, Record]]) -> None:
        changes = Changes(self.store, self.policy)
        while True:
            now = self.store.clock.now()
            if job.state in _UNSENT:
                cancel = partial(lifecycle.cancel, at=now, reason="the person was erased", policy=self.policy)
                try:
                    job = (await changes.change(job.id, cancel, base=job)).new
                except TooLateError:
                    job = (await get_jobs(self.store, [job.id]))[job.id]
                self._erased["cancelled"] += job.state in FINAL_STATES
            self._refuse_calls([job])
            sessions = [post.session_id for post in job.posts if post.session_id is not None]
            beside = [*undelivered, *await self._of_sessions(sessions)]
            answers = await self.store.write(BulkWrite(writes=(self._limits_write(job, beside, now),)), now=now)
            if answers[0].result is Result.DONE:
                self._erased["calls"] += 1
                self._erased["unique keys"] += job.unique_key is not None
                self._erased["records"] += len(beside)
                return
            found = (await get_jobs(self.store, [job.id])).get(job.id)
            if found is None:
                return
            job = found

    def _limits_write(self, job: Job, beside: Sequence[tuple[str, Record]], now: datetime) -> Write:
        """The end of a call with all that hangs on it, and what is kept."""
        key_until = now + self.policy.key_retention
        kept_for = max(self.policy.retention, LEAST_KEPT) + timedelta(days=7)
        puts = [Put(TOMBSTONES, job.id, "1", key_until), erased_call_put(job.id, at=now, keep_for=kept_for)]
        if job.unique_key is not None:
            key = writes.erased_key(job.queue, job.unique_key, store_id=self.store.id)
            puts.append(Put(writes.ERASED_KEY, key, f"{job.id} {job.state.value}", key_until))
        return Write(change=Delete(job, None), puts=tuple(puts), drops=_drops(beside), tally=tally_change(job, None))

    async def _of_sessions(self, sessions: Sequence[str]) -> list[tuple[str, Record]]:
        """All records of these sessions, each with its namespace."""
        if not sessions:
            return []
        wanted: dict[str, Sequence[str | Key]] = dict.fromkeys(_OF_SESSION, sessions)
        wanted[SEEN] = [quote(session, safe="") for session in sessions]
        found = await self.store.records(wanted, now=self.store.clock.now())
        return [(namespace, record) for namespace, records in found.items() for record in records]

    async def _erase_number(self) -> bool:
        """Erase what belongs to the number alone; returns whether it stays on the suppression list, as a digest."""
        now = self.store.clock.now()
        erased = erased_group(self.number, store_id=self.store.id)
        queues = await QueueNames(self.store).known()
        persons = [f"{queue}/{telephone_of(self.number)}" for queue in queues]
        locks = (SUPPRESSED, ORDERED, writes.NUMBER, writes.SECOND_PARTY, writes.BRIDGE)
        wanted: dict[str, Sequence[str | Key]] = {**dict.fromkeys(locks, self.spellings), writes.PERSON: persons}
        found = await self.store.records(wanted, now=now)
        gone = [(namespace, record) for namespace, records in found.items() for record in records]
        listed = (await SuppressionList(self.store).entries_of([self.number])).get(self.number)
        puts: tuple[Put, ...] = ()
        if found[SUPPRESSED] and listed is not None:
            entry = replace(listed, number=erased, reason=WAS_ERASED, job_id=None, file=None)
            puts = (Put(SUPPRESSED, erased, entry_text(entry), listed.until, Mode.LONGER),)
        if gone:
            await self.store.write(BulkWrite(writes=(Write(puts=puts, drops=_drops(gone)),)), now=now)
            self._erased["records"] += len(gone)
        return listed is not None

    async def _erase_sessions_of_others(self) -> None:
        """Erase calls that the person made, early summaries, answers of menus and escalations that name the number."""
        gone = [(name, record) for name in (INCOMING, EARLY, ANSWERS) async for record in self._naming(name)]
        sessions = [record.group for name, record in gone if name == EARLY]
        sessions += [str(json.loads(record.value).get("session_id")) for name, record in gone if name == INCOMING]
        for start in range(0, len(sessions), PAGE):
            gone += await self._of_sessions(sessions[start : start + PAGE])
        now = self.store.clock.now()
        await self._erase_from_escalations()
        for start in range(0, len(gone), PAGE):
            write = Write(drops=_drops(gone[start : start + PAGE]))
            await self.store.write(BulkWrite(writes=(write,)), now=now)
        self._erased["records"] += len(gone)

    async def _erase_from_escalations(self) -> None:
        """Erase the number from escalations that have ended. Their records stay: they keep others from being called."""
        async for record in self._naming(writes.ENDED_ESCALATION):
            text = record.value
            for number in self.spellings:
                text = text.replace(number, _ERASED)
            put = Put(writes.ENDED_ESCALATION, record.group, text, record.ends_at, member=record.member)
            await self.store.write(BulkWrite(writes=(Write(puts=(put,)),)), now=self.store.clock.now())
            self._erased["records"] += 1

    async def _prune(self) -> None:
        """Delete the records whose end has come: no read finds them, and yet they are stored."""
        now = self.store.clock.now()
        for queue in await QueueNames(self.store).known():
            prune = partial(self.store.prune, queue, now=now, events_before=_LONG_AGO, limit=1000)
            while await prune() >= 1000:
                pass

    async def _erase_from_audit(self, calls: set[str]) -> int:
        """Erase the person from the audit log: who ordered what and when stays, on whom and why goes."""
        erased = 0
        async for page in self._audit():
            mine = [entry for entry in page if self._concerns(entry, calls) and not _is_erased(entry)]
            puts = [put for entry in mine for put in _without_person(entry).puts()]
            if puts:
                await self.store.write(BulkWrite(writes=(Write(puts=tuple(puts)),)), now=self.store.clock.now())
            erased += len(mine)
        return erased

    def _concerns(self, entry: AuditEntry, calls: set[str]) -> bool:
        texts = (*entry.numbers, entry.note or "", entry.result or "")
        return entry.call in calls or any(map(self._is_named_in, texts))

    async def _audit(self) -> AsyncGenerator[list[AuditEntry]]:
        """The whole audit log, page by page."""
        page = Page(group=WHOLE, limit=PAGE)
        while found := (await self.store.records({AUDIT: page}, now=self.store.clock.now()))[AUDIT]:
            yield entries_of(found)
            page = replace(page, after=(found[-1].group, found[-1].member))

    async def _naming(self, namespace: str) -> AsyncGenerator[Record]:
        """The records of a namespace that name the number."""
        async for record in self._scanned(namespace):
            if self._is_named_in(record.value):
                yield record

    async def _scanned(self, namespace: str) -> AsyncGenerator[Record]:
        """All records of a namespace, read page by page."""
        page = Page(limit=1000)
        while found := (await self.store.records({namespace: page}, now=self.store.clock.now()))[namespace]:
            for record in found:
                yield record
            page = replace(page, after=(found[-1].group, found[-1].member))

    @cached_property
    def _digits(self) -> tuple[str, ...]:
        """The digits of each spelling, with and without the country code."""
        import phonenumbers

        found = [number.lstrip("+") for number in self.spellings]
        for number in self.spellings:
            parsed = phonenumbers.parse(number, None)
            national = phonenumbers.national_significant_number(parsed)
            if len(national) >= _LEAST_DIGITS:
                found.append(national)
        return tuple(dict.fromkeys(found))

    def _is_named_in(self, text: str) -> bool:
        """Whether a text has the number, in any spelling, with or without its country code."""
        plain = re.sub(r"[\s().\-/]", "", text)
        return any(digits in plain for digits in self._digits)


def _drops(records: Iterable[tuple[str, Record]]) -> tuple[Drop, ...]:
    places = dict.fromkeys((namespace, record.group, record.member) for namespace, record in records)
    return tuple(Drop(namespace, group, None, member) for namespace, group, member in places)


def _is_erased(entry: AuditEntry) -> bool:
    return not entry.numbers and {entry.note, entry.result} <= {None, _ERASED}


def _without_person(entry: AuditEntry) -> AuditEntry:
    note, result = (None if text is None else _ERASED for text in (entry.note, entry.result))
    return replace(entry, numbers=(), note=note, result=result)
