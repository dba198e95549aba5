"""Erasing a person: their calls in every queue, and all else that the store and the files of this host have of them.

Each call goes in one write, with all that hangs on it: its sessions and key presses. That write also leaves what must
be known of it. Every write is conditional on what was read: if anybody has changed that, it is read again. So nothing
that others have stored meanwhile is lost, and an erasure that was cut is ended by ordering it again. What limits calls
to the number is kept under a digest from the beginning (`core/writes.py`), or goes there: the entry on the suppression
list.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from voiceflow_worker.actions import ActionRefusedError, ActionResult, Operator, OperatorAction, Question, changed_since
from voiceflow_worker.core.audit import AUDIT, WHOLE, Actor, Interface, login_name
from voiceflow_worker.core.base.identity import QueueNames, new_revision
from voiceflow_worker.core.base.keys import KEYS, key_group
from voiceflow_worker.core.base.reading import find_pages, get_jobs
from voiceflow_worker.core.base.record_set import record_pages, text_records
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Delete,
    Drop,
    Key,
    Mode,
    Put,
    Record,
    Result,
    Same,
    Write,
    tally_change,
)
from voiceflow_worker.core.progress import FAILURES, INCOMING, STATES
from voiceflow_worker.core.settling.changes import EARLY, PRESSES, SESSIONS, Changes
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import WAS_ERASED, Suppression, entry_text, erased_group
from voiceflow_worker.core.writes import ERASED_CALLS, TOMBSTONES
from voiceflow_worker.errors import JobNotFoundError, SettingsError, StoreError, TooLateError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import aliases
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of, rfc3339
from voiceflow_worker.service.uploads import Uploads, delete_left_over

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

PAGE = 200
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_ERASED = "erased"
_NAMED = 3
_LEAST_DIGITS = 7
_UNSENT = frozenset({JobState.QUEUED})
ANSWERS = "ivr-answer"
"""Namespace of the answers of menus, which are kept for four hours."""
_ROWS = "row"
_GOES = (INCOMING, EARLY, ANSWERS)
"""The namespaces whose records go if they have the number or are of an erased call."""
_OF_SESSION = (SESSIONS, EARLY, STATES, FAILURES, PRESSES)
"""The namespaces whose groups are sessions."""
GOES = (
    "their calls in every queue, with numbers, texts, data, outcomes, key presses; the rows "
    "of campaign files with them; outcomes that were not delivered; early summaries; uploads; "
    "what the audit log says of them"
)
STAYS = (
    "an opt-out, the unique keys, the lock of an open call and the attempts of the day, as keyed digests, so that they "
    "are not called, and the same file calls nobody again; counters; the names of batches, which the receipt counts if "
    "they have the number; calls to others that this number was only connected to; what free notes "
    "about others have of the number, unless it is written as +6587654321"
)
NOT_OURS = (
    "backups of the store, older copies of its files and its server's write-ahead log, reports and files that somebody "
    "has, what was sent to a webhook, and 8x8's own log: look there too. The journal files of the hosts that sent or "
    "ordered something have lines with the number until they are deleted, eight days after their week"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was erased, without the number: its `counts`, and whether an `opt_out` was kept."""

    id: str
    at: datetime
    counts: Mapping[str, int]
    opt_out: bool

    def as_json(self) -> dict[str, object]:
        """Return the receipt as JSON."""
        return {
            "receipt": self.id,
            "at": rfc3339(self.at),
            "erased": {name: self.counts[name] for name in ("calls", "records", "audit_entries")},
            "cancelled": self.counts["cancelled"],
            "kept": {"opt_out": self.opt_out, **{name: self.counts[name] for name in ("unique_keys", "batch_names")}},
            "not_ours": NOT_OURS,
        }

    def in_words(self) -> str:
        """Return the receipt in a sentence."""
        opt_out, named = "an opt-out and " if self.opt_out else "", self.counts["batch_names"]
        also = f"; {count_of(named, 'batch name')} with the number kept" if named else ""
        return (
            f"a person was erased: {count_of(self.counts['calls'], 'call')}, "
            f"{count_of(self.counts['records'], 'record')}, {count_of(self.counts['audit_entries'], 'line')} of the "
            f"audit log; {opt_out}{count_of(self.counts['unique_keys'], 'unique key')} kept as digests"
            f"{also}; receipt {self.id}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget(OperatorAction):
    """The erasure of a person by their number, in every queue. It is refused while a call is open or in doubt."""

    name_of_action: ClassVar[str] = "forget"
    is_irreversible: ClassVar[bool] = True

    number: str
    country: str | None = None

    def about(self) -> Mapping[str, Any]:
        """Return the reason, without the number."""
        return {"note": self.note and without_number(self.note, spellings_of(self._number))}

    def actor(self) -> Actor:
        """Return who acts, without the number."""
        who = self.operator.actor
        return replace(who, name=who.name and without_number(who.name, spellings_of(self._number)))

    async def question(self) -> Question:
        """Return the question. Raises ActionRefusedError while a call is open or in doubt, and PhoneNumberError."""
        trail = self._trail()
        calls = await trail.calls()
        trail.refuse_open(calls)
        waiting = sum(job.state in _UNSENT for job in calls)
        queues = Counter(job.queue for job in calls)
        where = ", ".join(f"{count} in queue {queue}" for queue, count in sorted(queues.items())) or "none is stored"
        others = dict.fromkeys(number for job in calls for number in job.numbers if number not in trail.aliases)
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
            token=_digest_of(calls),
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        """Erase the person. Raises ActionRefusedError, StoreError, PhoneNumberError."""
        trail = self._trail()
        if token is not None and _digest_of(await trail.calls()) != token:
            raise changed_since("what there is of this person")
        try:
            receipt = await trail.erase()
        except (StoreError, SettingsError) as error:
            why = str(error).replace("Nothing was changed. ", "")
            error.args = (f"the erasure was interrupted, and may be done in part: {why} Then order it again.",)
            raise
        notes = (f"not ours: {NOT_OURS}",)
        return ActionResult(message=receipt.in_words(), documents=(receipt.as_json(),), notes=notes)

    @property
    def _number(self) -> str:
        return read_number(self.number, self.country)

    def _trail(self) -> Trail:
        return Trail(self.operator.store, self._number, policy=self.operator.policy)


def _digest_of(calls: Iterable[Job]) -> str:
    return hashlib.sha256(" ".join(sorted(f"{job.id}={job.state}" for job in calls)).encode()).hexdigest()[:24]


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

    `settings` are those of the workers, for their policy. Raises
    ActionRefusedError while a call to this number is open or in doubt, PhoneNumberError, and StoreError; it is then
    safe to order it again.
    """
    policy = CallPolicy() if settings is None else settings.policy()
    who = Operator(store, policy, name=by, on=Interface.PYTHON, login=login_name())
    done = await Forget(operator=who, number=number, country=country, note=note).do()
    return done.documents[0]


@dataclass
class Trail:
    """All that a store, and the files of this host, have of one person."""

    store: Store
    number: str
    policy: CallPolicy
    _erased: Counter[str] = field(default_factory=Counter[str], init=False)
    _keys: Collection[str] = field(default=(), init=False)
    """The ids and unique keys of the person's calls."""

    @cached_property
    def aliases(self) -> tuple[str, ...]:
        """Spellings of the number, in E.164 form."""
        return aliases(self.number)

    async def calls(self) -> list[Job]:
        """Return all calls of the person, in every queue, by queue and age."""
        await self._prune()  # the names of new queues may be notes until then (`enqueue_in`)
        found: dict[str, Job] = {}
        for queue in await QueueNames(self.store).known():
            for number in self.aliases:
                async for page in find_pages(self.store, OfNumber(queue=queue, number=number, limit=PAGE)):
                    found |= {job.id: job for job in page}
        return list(found.values())

    def refuse_open(self, calls: Iterable[Job]) -> None:
        """Raise ActionRefusedError if a call is open or in doubt."""
        if still := [job for job in calls if job.state not in FINAL_STATES | _UNSENT]:
            named = ", ".join(f"{job.id} is {job.state.value}" for job in still[:_NAMED])
            raise ActionRefusedError(
                f"nothing more was erased: {count_of(len(still), 'call')} to this number may still ring or be settled "
                f"({named}). Wait for the outcome, or resolve a call in doubt (`voiceflow calls resolve`), then "
                "erase the person again"
            )

    async def erase(self) -> Receipt:
        """Erase all of it. Raises ActionRefusedError, StoreError; it is then safe to erase again."""
        now = self.store.clock.now()
        calls = await self.calls()
        self.refuse_open(calls)
        # Before the calls, because nothing else says which rows were the person's.
        self._keys = {job.unique_key for job in calls if job.unique_key is not None}
        batches = {(job.queue, job.batch_id) for job in calls if job.batch_id}
        self._erased["batch_names"] = sum(self._spellings.search(name) is not None for _, name in batches)
        await self._walk(_ROWS)
        for job in calls:
            await self._erase_call(job)
        opt_out = await self._erase_opt_out()
        # With the calls of an erasure that was cut: nothing else says which were the person's.
        self._keys = {key for key, _ in await text_records(self.store, ERASED_CALLS).all()}
        for namespace in (*_GOES, AUDIT):
            await self._walk(namespace)
        delete_left_over()
        await Uploads(self.store).clear()
        await self._prune()
        return Receipt(id=new_revision(), at=now, counts=self._erased, opt_out=opt_out)

    # --- parts -------------------------------------------------------------------------------------------------------

    async def _erase_call(self, job: Job) -> None:
        left: Job | None = job
        while left is not None:
            now = self.store.clock.now()
            if left.state in _UNSENT and (left := await self._cancelled(left, now)) is None:
                return
            self.refuse_open([left])
            named = {
                each for post in left.posts for each in (post.session_id, post.outcome and post.outcome.session_id)
            }
            drops, as_read = await self._of_sessions([each for each in named if each])
            write = replace(self._deletion(left, now), conditions=as_read, drops=drops)
            (answer,) = await self.store.write(BulkWrite(writes=(write,)), now=now)
            if answer.result is Result.DONE:
                self._erased["calls"] += 1
                self._erased["unique_keys"] += left.unique_key is not None
                self._erased["records"] += len(drops)
                return
            left = (await get_jobs(self.store, [left.id])).get(left.id)

    async def _cancelled(self, job: Job, now: datetime) -> Job | None:
        """Return the call, which was waiting, as it is now; None if it is gone."""
        cancel = partial(lifecycle.cancel, at=now, reason="the person was erased", policy=self.policy)
        try:
            new = (await Changes(self.store, self.policy).change(job.id, cancel, base=job)).new
        except (TooLateError, JobNotFoundError):
            return (await get_jobs(self.store, [job.id])).get(job.id)
        self._erased["cancelled"] += 1
        return new

    def _deletion(self, job: Job, now: datetime) -> Write:
        """Return the deletion of a call, and what is kept of it."""
        key_until = now + self.policy.key_retention
        puts = [
            Put(TOMBSTONES, job.id, job.batch_id or "", key_until),
            Put(ERASED_CALLS, job.id, "", key_until),
        ]
        if job.unique_key is not None:
            group = key_group(job.unique_key, store_id=self.store.id)
            puts.append(Put(KEYS, group, f"{job.id} {job.state.value}", key_until))
        return Write(changes=(Delete(job, None, tally_change(job, None)),), puts=tuple(puts))

    async def _of_sessions(self, sessions: Sequence[str]) -> tuple[tuple[Drop, ...], tuple[AtMost, ...]]:
        """Return the removal of all records of these sessions, and the conditions that there are no others."""
        if not sessions:
            return (), ()
        wanted: dict[str, Sequence[str | Key]] = dict.fromkeys(_OF_SESSION, sessions)
        found = await self.store.records(wanted, now=self.store.clock.now())
        drops = [Drop(name, each.group, None, each.member) for name, records in found.items() for each in records]
        counted = Counter((drop.namespace, drop.group) for drop in drops)
        groups = [(name, str(group)) for name, groups in wanted.items() for group in groups]
        return tuple(drops), tuple(AtMost(name, (group,), counted[name, group]) for name, group in groups)

    async def _erase_opt_out(self) -> bool:
        """Put an entry on the suppression list under its digest; returns whether there is one."""
        erased = erased_group(self.number, store_id=self.store.id)
        while True:
            now = self.store.clock.now()
            found = (await self.store.records({SUPPRESSED: self.aliases}, now=now))[SUPPRESSED]
            texts = {record.group: record.value for record in found}
            listed = (await SuppressionList(self.store).entries_of([self.number])).get(self.number)
            if not texts:
                if not any(self._erased.values()):  # by an erasure before
                    await confirm(self.store)
                return listed is not None
            puts = () if listed is None else (_opt_out(listed, erased),)
            as_read = tuple(Same(SUPPRESSED, each, texts.get(each)) for each in self.aliases)
            drops = tuple(Drop(SUPPRESSED, *each) for each in texts.items())
            write = Write(conditions=as_read, puts=puts, drops=drops)
            await self.store.write(BulkWrite(writes=(write,)), now=now)
            self._erased["records"] += len(drops)

    async def _walk(self, namespace: str) -> None:
        """Erase the person from each record that is still as it was read; others are read again."""
        async for records in record_pages(self.store, namespace, limit=PAGE):
            left = records
            while left:
                erasing = [
                    (each, write) for each in left if (write := await self._erasing(namespace, each)) is not None
                ]
                if not erasing:
                    break
                now = self.store.clock.now()
                answers = await self.store.write(BulkWrite(writes=tuple(write for _, write in erasing)), now=now)
                again = list[Key]()
                for (record, _), answer in zip(erasing, answers, strict=True):
                    if answer.result is not Result.DONE:
                        again.append((record.group, record.member))
                    elif namespace != AUDIT:
                        self._erased["records"] += 1
                    else:
                        self._erased["audit_entries"] += record.group == WHOLE
                left = (await self.store.records({namespace: again}, now=now))[namespace] if again else ()

    async def _erasing(self, namespace: str, record: Record) -> Write | None:
        """Return the write that erases the person from a record. A call that came in goes with its session."""
        value = _value_of(namespace, record)
        left = self._left_of(namespace, value)
        if left == value:
            return None
        as_read = Same(namespace, record.group, record.value, record.member)
        if left is not None:
            put = Put(namespace, record.group, _text_of(namespace, left), record.ends_at, member=record.member)
            return Write(conditions=(as_read,), puts=(put,))
        session = record.group if namespace == EARLY else value.get("session_id") if namespace == INCOMING else None
        drops, others = await self._of_sessions([session] if session else [])
        drop = Drop(namespace, record.group, record.value, record.member)
        return Write(conditions=(as_read, *others), drops=(drop, *drops))

    def _left_of(self, namespace: str, value: Any) -> Any:
        """Return what is left of a value when the person was erased from it; None if nothing."""
        erased = without_number(value, self._spellings)
        if isinstance(value, str):
            return erased
        if namespace == _ROWS:  # its place stays
            mine = [row[2] in self._keys or any(has_number(cell, self.number) for cell in row[1]) for row in value]
            return [
                [row[0], [], None, _ERASED, ""] if is_mine else row for row, is_mine in zip(value, mine, strict=True)
            ]
        if namespace in _GOES:
            is_mine = erased != value or any(each.get("job_id") in self._keys for each in value.get("events", ()))
            return None if is_mine else value
        # Of the audit log, who ordered what, and when, stays; a result that is to follow is refused.
        if erased == value and {value.get("call"), *value.get("calls", ())}.isdisjoint(self._keys):
            return value
        numbers = [each for each in erased.get("numbers", ()) if each != _ERASED]
        note = value.get("note") and _ERASED
        return {**erased, "numbers": numbers, "note": note, "result": _ERASED, "key": None}

    async def _prune(self) -> None:
        """Delete the records whose end has come: no read finds them, and yet they are stored."""
        now = self.store.clock.now()
        for queue in await QueueNames(self.store).known() or [""]:
            prune = partial(self.store.prune, queue, now=now, events_before=_LONG_AGO, limit=1000)
            while await prune() >= 1000:
                pass

    @cached_property
    def _spellings(self) -> re.Pattern[str]:
        return spellings_of(self.number)


def _opt_out(entry: Suppression, erased: str) -> Put:
    """Return the record that keeps the opt-out of an erased person, under the digest of their number."""
    kept = replace(entry, number=erased, reason=WAS_ERASED, job_id=None, file=None)
    return Put(SUPPRESSED, erased, entry_text(kept), entry.until, Mode.LONGER)


def _value_of(namespace: str, record: Record) -> Any:
    """Return the JSON object in a record, or its text; or the rows of a file."""
    if namespace == _ROWS:
        from voiceflow_worker.campaigns.uncalled import unpacked  # seldom needed, and much to load

        return unpacked(record.value)
    with suppress(ValueError):
        if is_object(value := json.loads(record.value)):
            return value
    return record.value


def _text_of(namespace: str, value: Any) -> str:
    if namespace == _ROWS:
        from voiceflow_worker.campaigns.uncalled import packed

        return packed(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def spellings_of(number: str) -> re.Pattern[str]:
    """Return the pattern of a number as stores keep it: each spelling of its E.164 form, with or without the +."""
    digits = "|".join(each.removeprefix("+") for each in aliases(number))
    return re.compile(rf"\+?(?<![0-9A-Za-z])(?:{digits})(?![0-9A-Za-z])")


def has_number(cell: object, number: str) -> bool:
    """Return True if a cell of a list may be a spelling of the number: national, or with other signs in between."""
    digits = re.sub(r"[^0-9]", "", cell).lstrip("0") if isinstance(cell, str) else ""
    return len(digits) >= _LEAST_DIGITS and any(each.endswith(digits) for each in aliases(number))


def without_number(value: Any, spellings: re.Pattern[str]) -> Any:
    """Return a JSON value with `erased` for the number in its texts."""
    if is_object(value):
        return {spellings.sub(_ERASED, key): without_number(each, spellings) for key, each in value.items()}
    if is_list(value):
        return [without_number(each, spellings) for each in value]
    return spellings.sub(_ERASED, value) if isinstance(value, str) else value
