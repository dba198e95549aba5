"""What is stored together: pure functions that turn a change of a job into a conditional write.

No function reads a clock, a store or a setting. A write names the conditions under which its change may be stored, and
a store only checks them (`ports/store.py`). So every lock, limit, opt-out and session is stored with the change that it
belongs to, and there is nothing to do before a commit, after it, or again.

- **Numbers.** A journal entry locks its numbers: `number` records for the number that is called, `second-party-lock`
  records for the numbers that the flow bridges to the call. The value is the `clientRequestId`, so the same job may
  take a lock over, and a verdict releases only the locks of its own POST. A lock ends by itself when its POST can no
  longer ring the number.
- **Bridges of menus** share a desk, but not the number of a person who is being called: `bridge-lock` records, one
  for each POST in the group of a number. The POST notes its numbers, and its summary drops them.
- **Attempts per person**: `person` records, one for each POST that may have rung within the span in the group of each
  number of its person.
- The groups of all these are digests of numbers (`number_digest`), so they outlast the erasure of a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TypeVar

from voiceflow_worker.core.base.identity import batch_puts, new_revision, queue_put
from voiceflow_worker.core.base.keys import KEYS, key_group
from voiceflow_worker.core.ports.controls import cancelled_put, gate_put, gates_open, not_cancelled
from voiceflow_worker.core.ports.store import (
    AtMost,
    Condition,
    Delete,
    Drop,
    Edit,
    Event,
    EventKind,
    Insert,
    Mode,
    Put,
    Replace,
    Same,
    Slot,
    Write,
    tally_change,
)
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import Suppression, entry_put, listed_groups, number_digest
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import edits, lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState, Post, split_key
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import aliases, all_aliases, canonical_number
from voiceflow_worker.model.reports.status import OPT_OUTS

T = TypeVar("T")

TOMBSTONES = "pruned"
"""Namespace of calls that were deleted, or ended without their record, by their ids. The value is the batch of the
call, or empty."""
NUMBER, SECOND_PARTY, BRIDGE, PERSON, SESSION = "number", "second-party-lock", "bridge-lock", "person", "session"
WRITERS, ALL_WRITERS = "writer", "all"
"""The namespace of the numbers of writers, which says how far the store has what their local journals have; and the one
group in it, in which each member has the name of a writer."""
WRITERS_KEPT = timedelta(days=30)
"""How long the number of a writer is kept: longer than its journal files."""
MENUS = "menu"
"""Namespace of the menus that are written as data, by name."""
ESCALATION, ACKNOWLEDGED = "escalation", "acknowledged"
"""The beginning of the names of the menus that calls of escalations have, and the answer of the key in them. The write
of that key press cancels the batch of the call."""
SESSION_KEPT = timedelta(days=7)
_edited = attrgetter("priority", "goes_first", "valid_until", "body", "numbers")
_MAY_RING = frozenset({JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT})


# --- The five hard writes -----------------------------------------------------------------------------------------


def journal_entry(
    job: Job,
    *,
    at: datetime,
    lease_until: datetime,
    policy: CallPolicy,
    store_id: str,
    slot: Slot | None = None,
    valid_until: datetime | None = None,
) -> tuple[Job, Write]:
    """Return a leased job as `sending`, with its next POST, and the write that is on disk before a byte is sent.

    It is stored only if no number is on the suppression list or busy, no gate is closed, the person is below the limit,
    and no menu bridges to a number. With `slot`, the entry takes a send slot; `valid_until` is that of the POST if it
    is ready already. Raises `IllegalMoveError`.
    """
    begun = lifecycle.begin(job, at=at, lease_until=lease_until, policy=policy, valid_until=valid_until)
    post = begun.posts[-1]
    second = second_numbers(job, policy)
    numbers = locked_groups((job.number, *second), store_id=store_id)
    conditions: list[Condition] = [
        *orders_against(job, store_id=store_id),
        AtMost(NUMBER, numbers, 0, job.id),
        AtMost(SECOND_PARTY, numbers, 0, job.id),
        AtMost(BRIDGE, numbers, 0, job.id),
    ]
    puts = _locks(job, post, second, policy, store_id)
    if policy.max_per_person is not None:
        most = policy.max_per_person.attempts - 1
        conditions.append(AtMost(PERSON, tuple(_persons(job, store_id)), most))
        puts += _attempt(job, post, policy.max_per_person.span, store_id)
    new, write = changed(job, begun, at=at, conditions=conditions, puts=puts)
    return new, write if slot is None else replace(write, slot=slot)


def orders_against(job: Job, *, store_id: str) -> tuple[Condition, ...]:
    """Return the conditions that no opt-out, hold or cancel keeps a call from being made."""
    return (
        AtMost(SUPPRESSED, listed_groups(job.parties, store_id=store_id), 0),
        *gates_open(job.queue, job.batch_id),
        *_not_cancelled(job),
    )


def _acknowledged(job: Job, post: Post) -> Gate | None:
    """Return the cancel of the batch of an escalation, if the person has pressed the key in this POST; else None."""
    is_of_escalation = (job.menu or "").startswith(f"{ESCALATION}-") and (job.unique_key or "").startswith(
        f"{job.batch_id}/"
    )
    press = next((each for each in reversed(post.presses) if each.answer == ACKNOWLEDGED), None)
    if press is None or not is_of_escalation:
        return None
    reason = f"acknowledged in call {job.id} (key {press.digits})"
    return Gate.of(job.queue, job.batch_id, GateState.CANCELLED, since=press.at, until=None, reason=reason)


def _cancel_of(gate: Gate, post: Post) -> tuple[Put, Put]:
    """Return the records of a cancel by key. Of two such cancels, the first names the reason."""
    put = gate_put(gate, token=post.client_request_id)
    return put, replace(cancelled_put(gate, token=post.client_request_id), mode=Mode.KEEP)


def writer_put(writer: str, number: int, *, at: datetime) -> Put:
    """Return the record of the newest number that a writer has stored."""
    return Put(WRITERS, ALL_WRITERS, str(number), at + WRITERS_KEPT, member=writer)


def writer_same(writer: str, stored: str | None) -> Same:
    """Return the condition that the store has this number of a writer; None for none."""
    return Same(WRITERS, ALL_WRITERS, stored, writer)


def settled(
    old: Job, new: Job, *, at: datetime, policy: CallPolicy, store_id: str, conditions: Iterable[Condition] = ()
) -> tuple[Job, Write]:
    """Return what evidence made of a job, with all that follows. The `conditions` delay it; only a redial is refused.

    It stores the sessions of POSTs, puts a person who opted out on the suppression list, cancels the batch of an
    escalation whose key was pressed, releases the numbers of a call that can ring no more and those of bridges whose
    session is over, and corrects the person's attempts.
    """
    puts: list[Put] = []
    drops: list[Drop] = []
    for was, post in _changed_posts(old, new):
        if post.session_id is not None and (was is None or was.session_id != post.session_id):
            puts.append(Put(SESSION, post.session_id, post.client_request_id, at + SESSION_KEPT))
        if _opted_out(new, post) and not (was is not None and _opted_out(old, was)):
            puts.append(entry_put(_opted_out_entry(new, post, at)))
        if (gate := _acknowledged(new, post)) is not None and (was is None or _acknowledged(old, was) is None):
            puts += _cancel_of(gate, post)
        if post.outcome is not None:
            bridged = locked_groups(post.bridged, store_id=store_id)
            drops += [Drop(BRIDGE, number, None, post.client_request_id) for number in bridged]
        if policy.max_per_person is not None and post.may_have_rung:
            puts += _attempt(new, post, policy.max_per_person.span, store_id)
        elif not post.may_have_rung:
            drops += [Drop(PERSON, person, None, post.client_request_id) for person in _persons(new, store_id)]
    if new.post_count and not may_ring(new, at=at, policy=policy):
        owner = new.request_id(new.post_count)
        numbers = locked_groups(new.parties, store_id=store_id)
        drops += [Drop(namespace, number, owner) for namespace in (NUMBER, SECOND_PARTY) for number in numbers]
    return changed(old, new, at=at, conditions=conditions, puts=puts, drops=drops)


def bridge(
    job: Job, number: int, numbers: Sequence[str], *, at: datetime, policy: CallPolicy, store_id: str
) -> tuple[Job, Write]:
    """Return a menu's bridge from the call of POST `number` to these numbers: the job that notes them, and its write.

    It is stored only if no number is on the suppression list, and none is that of a person whom a queue is calling. Ask
    before that whether the POST has an outcome: a call that has ended bridges to nobody.
    """
    post = job.post(number)
    if post is None or post.outcome is not None:
        raise ValueError(f"POST {number} of job {job.id} has no call that could be bridged")
    wanted = lockable(numbers, policy)
    noted = replace(post, bridged=tuple(dict.fromkeys((*post.bridged, *wanted))))
    ends = at + policy.ringing + policy.longest_call
    conditions, puts = _bridge_conditions(
        numbers, wanted, post.client_request_id, ends, except_owner=job.id, store_id=store_id
    )
    return changed(job, lifecycle.with_post(job, noted), at=at, conditions=conditions, puts=puts)


def bridge_of_session(
    session_id: str, numbers: Sequence[str], *, at: datetime, policy: CallPolicy, store_id: str
) -> Write:
    """Return a menu's bridge from a call without a job. Its numbers are free again when a phone can ring no more."""
    owner = f"session:{session_id}"
    ends = at + policy.ringing
    conditions, puts = _bridge_conditions(
        numbers, lockable(numbers, policy), owner, ends, except_owner=None, store_id=store_id
    )
    return Write(conditions=tuple(conditions), puts=tuple(puts))


def enqueued(
    job: Job,
    *,
    at: datetime,
    store_id: str,
    is_named: bool = False,
    is_campaign: bool = False,
    conditions: Sequence[Condition] = (),
    puts: Sequence[Put] = (),
) -> Write:
    """Return a new job, stored unless one of its numbers is on the suppression list, or its unique key was erased.

    The names of its queue and of its batch are kept, unless they are (`is_named`); `is_campaign` says whose batch a new
    one is. `conditions` are further ones. `puts` are stored with the job.
    """
    required: list[Condition] = [*conditions, *_not_cancelled(job), _unlisted(job, store_id)]
    if job.unique_key is not None:
        required.append(AtMost(KEYS, (key_group(job.unique_key, store_id=store_id),), 0))
    stored = [*puts]
    if not is_named:
        stored.append(queue_put(job.queue))
        if job.batch_id is not None:
            stored += batch_puts(job.queue, job.batch_id, at=at, is_campaign=is_campaign)
    return inserted(job, conditions=tuple(required), puts=tuple(stored))


def _unlisted(job: Job, store_id: str) -> Condition:
    """Return the condition that no number of a job is on the suppression list."""
    return AtMost(SUPPRESSED, listed_groups(job.parties, store_id=store_id), 0)


def edited(
    old: Job, asked: Job, *, at: datetime, store_id: str, conditions: Sequence[Condition] = ()
) -> tuple[Job, Write]:  # fmt: skip
    """Return a call that waits, changed to what is asked for (`model.jobs.edits`), and its write.

    One that gets other numbers is not stored if these are on the suppression list. Raises `IllegalMoveError`, and
    `CallFlowError`.
    """
    new = edits.edited(old, asked, at=at)
    required = [*conditions, *_not_cancelled(old)]
    if new.parties != old.parties:
        required.append(_unlisted(new, store_id))
    return changed(old, new, at=at, conditions=required)


def remade(before: Job, job: Job, *, at: datetime) -> Write:
    """Return the note of an ended call that it is made again as `job`. A tombstone keeps no notes."""
    if not before.body:
        return Write()
    number = split_key(job.unique_key or "")[1]
    return changed(before, lifecycle.made_again(before, number, at=at), at=at)[1]


def removed(
    job: Job, *, at: datetime, policy: CallPolicy, store_id: str, conditions: Sequence[Condition] = ()
) -> Write:
    """Return the end of a call whose list no longer has it: no further attempt follows. Raises TooLateError."""
    after = edits.removed(job, at=at, reason="it is no longer in the list", policy=policy)
    return settled(job, after, at=at, policy=policy, store_id=store_id, conditions=conditions)[1]


def inserted(job: Job, *, conditions: tuple[Condition, ...] = (), puts: tuple[Put, ...] = ()) -> Write:
    """Return a new job, and its write, by default without conditions."""
    return Write(changes=(Insert(job, tally_change(None, job)),), conditions=conditions, puts=puts, wakes=job.queue)


def all_or_none(parts: Sequence[Write]) -> Write:
    """Return these writes as one: all of them, or none."""
    if len(parts) == 1:
        return parts[0]
    return Write(
        changes=tuple(change for part in parts for change in part.changes),
        conditions=_each_once([part.conditions for part in parts if part.conditions]),
        puts=_each_once([part.puts for part in parts if part.puts]),
        drops=tuple(drop for part in parts for drop in part.drops),
        events=tuple(event for part in parts for event in part.events),
        wakes=next((part.wakes for part in parts if part.wakes is not None), None),
    )


def _each_once(parts: Sequence[tuple[T, ...]]) -> tuple[T, ...]:
    return parts[0] if len(parts) == 1 else tuple(dict.fromkeys(each for part in parts for each in part))


def deleted(job: Job, *, keep_key_until: datetime) -> Write:
    """Return the end of a job. Its unique key stays taken until the given time; of one without, its batch is kept."""
    gone = Put(TOMBSTONES, job.id, job.batch_id or "", keep_key_until)
    puts = (gone,) if job.unique_key is None and job.post_count else ()
    return Write(changes=(Delete(job, keep_key_until, tally_change(job, None)),), puts=puts)


ERASED_CALLS = "erased-call"
"""Namespace of the ids of erased calls, by which an erasure that was cut goes on."""


def restored(job: Job, *, at: datetime, policy: CallPolicy, store_id: str) -> Write:
    """Return the write of a job that the store has lost, with the person's attempts and the locks on its numbers."""
    puts: list[Put] = []
    if policy.max_per_person is not None:
        span = policy.max_per_person.span
        puts += [put for post in job.posts if post.may_have_rung for put in _attempt(job, post, span, store_id)]
    if job.posts and may_ring(job, at=at, policy=policy):
        puts += _locks(job, job.posts[-1], second_numbers(job, policy), policy, store_id)
    return inserted(job, puts=tuple(puts))


def _not_cancelled(job: Job) -> tuple[Same, ...]:
    return () if job.batch_id is None else (not_cancelled(job.queue, job.batch_id),)


# --- Parts -------------------------------------------------------------------------------------------------------


def changed(
    old: Job,
    new: Job,
    *,
    at: datetime,
    conditions: Iterable[Condition] = (),
    puts: Iterable[Put] = (),
    drops: Iterable[Drop] = (),
) -> tuple[Job, Write]:
    """Return the job with a new revision, and the write that replaces the old one, with its events and counters."""
    new = replace(new, revision=new_revision())
    tally = tally_change(old, new)
    change = Replace(old.revision, new, tally)
    if _edited(new) != _edited(old):
        change = Edit(old.revision, new, tally, None if new.numbers == old.numbers else old.numbers)
    return new, Write(
        changes=(change,),
        conditions=tuple(conditions),
        puts=tuple(puts),
        drops=tuple(drops),
        events=tuple(
            Event(job_id=new.id, kind=kind, at=at, state=new.state, revision=new.revision, post=post)
            for kind, post in _news(old, new)
        ),
        wakes=new.queue if new.state is JobState.QUEUED else None,
    )


def may_ring(job: Job, *, at: datetime, policy: CallPolicy) -> bool:
    """Return whether a phone may still ring for a POST of the job, so that its numbers stay locked.

    If the summary of a POST never came, until that POST can no longer ring them.
    """
    if job.state in _MAY_RING:
        return True
    bridges = bool(job.second_parties)
    return any(at < rings_until(post, policy, bridges=bridges) for post in job.posts if post.is_open)


def rings_until(post: Post, policy: CallPolicy, *, bridges: bool = False) -> datetime:
    """Return the last time at which a POST can ring a phone; with `bridges`, that of a second party.

    A second party rings only after the first has answered and heard the text.
    """
    return post.valid_until + policy.ringing + (policy.longest_call + policy.ringing if bridges else timedelta())


def locked_groups(numbers: Iterable[str], *, store_id: str) -> tuple[str, ...]:
    """Return the groups of the locks on these numbers, each once and in order."""
    return tuple(dict.fromkeys(number_digest(number, store_id=store_id) for number in numbers))


def second_numbers(job: Job, policy: CallPolicy) -> tuple[str, ...]:
    """Return the numbers to lock that the flow bridges to the call: every spelling, without shared numbers."""
    if not (bridged := job.second_parties):
        return ()
    called = aliases(job.number)
    return tuple(number for number in lockable(bridged, policy) if number not in called)


def lockable(numbers: Iterable[str], policy: CallPolicy) -> tuple[str, ...]:
    """Every spelling of these numbers, without the policy's `shared_numbers`, which take many calls at once."""
    shared = all_aliases(canonical_number(f"+{each.lstrip('+')}") for each in policy.shared_numbers)
    return tuple(number for number in all_aliases(numbers) if number not in shared)


def _locks(job: Job, post: Post, second: Iterable[str], policy: CallPolicy, store_id: str) -> list[Put]:
    owner = post.client_request_id
    # Not by the POST's own validity, which may be shorter: the clock of 8x8, which ends it, may be behind.
    called = post.began_at + policy.submit_window + policy.ringing
    bridged = called + policy.longest_call + policy.ringing
    return [
        Put(NUMBER, number_digest(job.number, store_id=store_id), owner, called, Mode.EXTEND),
        *(Put(SECOND_PARTY, group, owner, bridged, Mode.EXTEND) for group in locked_groups(second, store_id=store_id)),
    ]


def _bridge_conditions(
    numbers: Sequence[str],
    wanted: Sequence[str],
    owner: str,
    ends: datetime,
    *,
    except_owner: str | None,
    store_id: str,
) -> tuple[list[Condition], list[Put]]:
    conditions: list[Condition] = [AtMost(SUPPRESSED, listed_groups(numbers, store_id=store_id), 0)]
    locked = locked_groups(wanted, store_id=store_id)
    if locked:
        conditions.append(AtMost(NUMBER, locked, 0, except_owner))
    return conditions, [Put(BRIDGE, group, owner, ends, Mode.EXTEND, member=owner) for group in locked]


def _persons(job: Job, store_id: str) -> list[str]:
    """Return the groups of the records of attempts: a call to one number of a person counts against each of them."""
    return [f"{job.queue}/{group}" for group in locked_groups(job.numbers, store_id=store_id)]


def _attempt(job: Job, post: Post, span: timedelta, store_id: str) -> list[Put]:
    """Return the person's records of a POST. It counts for one span after the phone can have rung last.

    That is the answer of 8x8 to a POST that was placed, else the end of the POST's validity.
    """
    rang_by = post.valid_until
    if post.was_placed and post.answered_at is not None:
        rang_by = min(post.answered_at, rang_by)
    owner = post.client_request_id
    return [Put(PERSON, person, owner, rang_by + span, member=owner) for person in _persons(job, store_id)]


def _changed_posts(old: Job, new: Job) -> Iterator[tuple[Post | None, Post]]:
    if new.posts is not old.posts:
        for post in new.posts:
            was = old.post(post.number)
            if was != post:
                yield was, post


def _opted_out(job: Job, post: Post) -> bool:
    return job.status_of(post) in OPT_OUTS


def _opted_out_entry(job: Job, post: Post, at: datetime) -> Suppression:
    """Return the entry on the suppression list of a person who has opted out in a call."""
    status, number = post.outcome.status_text if post.outcome is not None else "", job.number_of(post)
    return Suppression(number=number, since=at, reason=f"opted out: {status}", job_id=job.id)


# --- News for readers of outcomes --------------------------------------------------------------------------------


def _news(old: Job, new: Job) -> Iterator[tuple[EventKind, int]]:
    """Yield the events of a change, each as its kind and its POST number; those of attempts come first."""
    settled = _newly_settled(old, new)
    ended = new.state.is_final and (new.state is not old.state or new.outcome != old.outcome)
    end = max(settled or _with_a_further_outcome(old, new), default=new.post_count) if ended else 0
    for number in settled:
        if not (ended and number == end):
            yield EventKind.ATTEMPTED, number
    if ended:
        yield EventKind.ENDED, end
    if new.state is JobState.IN_DOUBT and old.state is not JobState.IN_DOUBT:
        yield EventKind.DOUBTED, new.post_count
    if len(new.notes) > len(old.notes) and new.notes[-1].kind.is_incident:
        yield EventKind.INCIDENT, new.post_count


def _with_a_further_outcome(old: Job, new: Job) -> list[int]:
    """Return the POSTs whose outcome was replaced by another, such as that of another session."""
    known = {post.number: post.outcome for post in old.posts if post.outcome is not None}
    return [post.number for post in new.posts if post.number in known and post.outcome != known[post.number]]


def _newly_settled(old: Job, new: Job) -> list[int]:
    """Return the POSTs that rang and have their first outcome now. One that missed its window did not ring."""
    if new.posts is old.posts:
        return []
    known = {post.number for post in old.posts if post.outcome is not None}
    return [
        post.number
        for post in new.posts
        if post.outcome is not None and post.outcome.was_placed and post.number not in known
    ]
