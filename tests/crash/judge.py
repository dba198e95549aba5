"""The judge: what was asked for, and the jobs of a store, against the ledger of what rang."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from typing import Any

from tests.crash.asked import Asked, Kind, Register
from tests.crash.menu import main, table
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind
from voiceflow_worker.model.reports.outcome import MISSED_WINDOW_CODES
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

Row = Mapping[str, Any]
"""One row of the sandbox's ledger."""
MENUS = {menu.name: menu for menu in (main, table)}
NEXT = frozenset({SessionStatus.BUSY.value, SessionStatus.NO_ANSWER.value})
LIST_READ_BEFORE = timedelta(seconds=2)
"""A worker reads the suppression list at most a second before it journals a call; the read itself takes time too."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, with the whole story of its call."""

    sentence: str
    call: dict[str, object] | None
    rows: Sequence[Row]

    @property
    def word(self) -> str:
        """The promise, in one word or two."""
        return self.sentence.partition(":")[0]

    def __str__(self) -> str:
        """The story, for people."""
        rows = "\n".join(f"  ledger: {json.dumps(row)}" for row in self.rows) or "  ledger: nothing"
        return f"{self.sentence}\n  call: {json.dumps(self.call)}\n{rows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the ledger and the store say of a run."""

    calls: int
    rang: int
    rings_per_destination: int
    """At most. Where calls were asked for with redials or to one number: how often one rang for each ring allowed."""
    lost: int
    states: dict[str, int]
    open_doubts: tuple[str, ...]
    """Jobs in doubt that had not rung: listed, and for a person to resolve."""
    unanswered: int
    """Jobs one of whose POSTs has an outcome and no clear answer: only the summary told that it was placed."""
    violations: tuple[Violation, ...] = field(default=())
    alarms: int = 0
    """Jobs of which a person was told, after a rollback, that they may have rung twice."""
    forgotten: int = 0
    """Earlier attempts that rang and have no outcome: the store was rolled back to before their summaries."""

    def __str__(self) -> str:
        """The judgement, for people."""
        counts = (
            f"{self.calls} calls: {self.states}; {self.rang} rang, at most {self.rings_per_destination} times each; "
            f"of {self.unanswered} only the summary told; {len(self.open_doubts)} doubts are open and had not rung; "
            f"{self.lost} lost"
        )
        return "\n".join([counts, *map(str, self.violations)])


def judge(
    jobs: Sequence[Job], ledger: Sequence[Row], register: Register, *, counted: Mapping[JobState, int] | None = None
) -> Judgement:
    """Judge a run that has come to rest, with every summary delivered. `counted` is what the store counts."""
    rules = _Rules(jobs, ledger, register)
    lost = rules.no_key_is_lost()
    rings = max([rules.each_ring_was_granted(each) for each in rules.asked.values()], default=0)
    rules.nothing_was_sent_twice()
    rules.each_job_is_judged()
    for each in rules.asked.values():
        rules.nothing_is_late(each)
        rules.no_redial_is_lost(each)
    rules.no_number_is_in_two_calls()
    rules.nobody_suppressed_is_rung()
    rules.no_key_press_is_lost()
    return rules.judgement(calls=len(rules.asked), lost=lost, rings=rings, counted=counted)


class _Rules:
    """The rules, and what they found."""

    def __init__(self, jobs: Sequence[Job], ledger: Sequence[Row], register: Register) -> None:
        self.violations: list[Violation] = []
        self.alarms: set[str] = set()
        self.forgotten: set[str] = set()
        self.ledger = ledger
        self.rang = [row for row in ledger if row["rang"]]
        self.jobs = {job.id: job for job in jobs}
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for row in ledger:
            self._rows[job_id_of(row)].append(row)
        self._register = register
        self.asked = {each.key: each for each in register.calls}
        alone = {
            number: each.key for each in self.asked.values() if each.kind is not Kind.AGENT for number in each.numbers
        }
        self._jobs_of: dict[str, list[Job]] = defaultdict(list)
        self._rows_of: dict[str, list[Row]] = defaultdict(list)
        self._keys: dict[str, str] = {}
        for job in jobs:
            key = register.key_of(job.id) or job.unique_key or alone.get(job.destination)
            if key is None or key not in self.asked:
                self.found(f"MADE UP: {job.id} is in the store and was never enqueued", job)
                continue
            self._keys[job.id] = key
            self._jobs_of[key].append(job)
        for row in ledger:
            key = register.key_of(job_id_of(row)) or self._keys.get(job_id_of(row)) or alone.get(row["destination"])
            if key is None:
                self.found("MADE UP: a POST arrived that nobody asked for", None, [row])
            else:
                self._rows_of[key].append(row)

    def judgement(
        self, *, calls: int, lost: int, rings: int, counted: Mapping[JobState, int] | None = None
    ) -> Judgement:
        """What was found, with its counts."""
        jobs = self.jobs.values()
        states = Counter(job.state for job in jobs)
        if counted is not None and {state: count for state, count in counted.items() if count} != states:
            self.found(f"the store counts {dict(counted)}, and lists {dict(states)}", None)
        return Judgement(
            calls=calls,
            rang=len(self.rang),
            rings_per_destination=rings,
            lost=lost,
            states={state.value: count for state, count in sorted(states.items())},
            open_doubts=tuple(job.id for job in jobs if job.state is JobState.IN_DOUBT and not self._open_ring(job)),
            unanswered=sum(
                any(post.outcome is not None and post.answered_at is None for post in job.posts) for job in jobs
            ),
            violations=tuple(self.violations),
            alarms=len(self.alarms),
            forgotten=len(self.forgotten),
        )

    def found(self, sentence: str, job: Job | None, rows: Iterable[Row] | None = None) -> None:
        """A promise was broken; `rows` are those of the job unless others tell of it."""
        if rows is None:
            rows = self._rows[job.id] if job is not None else ()
        self.violations.append(Violation(sentence, call_as_json(job) if job is not None else None, tuple(rows)))

    def rings_of(self, job: Job) -> list[Row]:
        """The POSTs of a job that rang."""
        return [row for row in self._rows[job.id] if row["rang"]]

    def _open_ring(self, job: Job) -> bool:
        """Whether the POST that a job in doubt speaks of rang."""
        post = job.open_post
        return post is not None and any(
            row["client_request_id"] == post.client_request_id for row in self.rings_of(job)
        )

    def nothing_was_sent_twice(self) -> None:
        for client_request_id, count in Counter(row["client_request_id"] for row in self.ledger).items():
            if count > 1:
                job = self.jobs.get(str(client_request_id).rpartition(".")[0])
                self.found(f"SENT TWICE: the POST {client_request_id} arrived {count} times", job)

    def each_job_is_judged(self) -> None:
        for job in self.jobs.values():
            self._knows_what_rang(job)
            self._rang_in_time(job)

    def _knows_what_rang(self, job: Job) -> None:
        rang = self.rings_of(job)
        if not job.state.is_final and job.state is not JobState.IN_DOUBT:
            self.found(f"STUCK: {job.id} is {job.state.value} when everything is over", job)
        if job.state is JobState.IN_DOUBT and self._open_ring(job):
            self.found(f"UNSETTLED: {job.id} rang, its summary was delivered, and it is in doubt", job)
        elif rang and not job.has_outcome and not _resolved(job):
            self.found(f"UNKNOWN RING: {job.destination} rang, and {job.id} has no outcome", job)
        if job.has_outcome and not rang:
            self.found(f"MADE UP: {job.id} has an outcome, and nothing rang", job)
        ids = {row["client_request_id"] for row in rang}
        outcomes = {post.client_request_id for post in job.posts if post.outcome is not None and post.was_placed}
        forgotten = self.forgotten_outcomes(job, rang)
        self.forgotten |= forgotten
        outcomes |= _resolved(job) | forgotten
        if job.has_outcome and rang and ids != outcomes and not (job.state is JobState.IN_DOUBT and outcomes < ids):
            self.found(f"WRONG POST: {sorted(ids)} rang, and the outcome stands with {sorted(outcomes)}", job)
        for note in job.notes:
            if note.kind is not NoteKind.RANG_TWICE:
                continue
            # A worker that was killed before its POST left has told its journal of it. After a rollback nobody knows
            # whether it left: the person is told, and the ledger says here that there was nothing to tell.
            if "the store was rolled back" in note.text:
                self.alarms.add(job.id)
            else:
                self.found(f"INCIDENT: {job.id} has a rang_twice note", job)

    def _rang_in_time(self, job: Job) -> None:
        for row in self.rings_of(job):
            at = moment(row["at"])
            post = next((post for post in job.posts if post.client_request_id == row["client_request_id"]), None)
            if post is None:
                self.found(f"NO JOURNAL: {row['client_request_id']} rang, and {job.id} knows no such POST", job)
                continue
            # Of two POSTs with one number, the store knows one, and a note tells of the other, which may be this one.
            lost = f"POST {post.number} was begun at"
            is_noted = any(note.kind is NoteKind.RANG_TWICE and note.text.startswith(lost) for note in job.notes)
            until = moment(row["valid_until"]) if is_noted else post.valid_until
            if at > until or (job.valid_until is not None and at > job.valid_until):
                self.found(f"LATE: {job.id} rang at {row['at']}", job)

    def no_key_is_lost(self) -> int:
        """Says how many are."""
        lost = sorted(self._register.confirmed - self._jobs_of.keys())
        for key in lost:
            self.found(f"LOST: {key} was enqueued and is not in the store", None, self._rows_of[key])
        for key, before, now in self._register.other_jobs:
            self.found(f"FORGOTTEN KEY: {key} was {before} and, handed in again, became {now}", self.jobs.get(now))
        return len(lost)

    def _rings(self, asked: Asked) -> list[Row]:
        return sorted((row for row in self._rows_of[asked.key] if row["rang"]), key=lambda row: str(row["at"]))

    def each_ring_was_granted(self, asked: Asked) -> int:
        """A ring after the first needs an outcome that its redial policy names, and its pause, or is the next number's.

        Gives how many rings there were for each ring that was allowed.
        """
        rings = self._rings(asked)
        attempts = min(len(rings), 1)
        for before, ring in pairwise(rings):
            policy = asked.redial
            if _is_next(asked, before, ring):
                attempts += 1
                continue
            pause = (moment(ring["at"]) - _ended(before)).total_seconds()
            if policy is None or before["outcome"] not in {status.value for status in policy.on}:
                self.found(
                    f"TWICE: {asked.key} rang {len(rings)} times, after {before['outcome']}", *self._story(asked)
                )
            elif attempts > policy.limit:
                self.found(
                    f"TWICE: {asked.key} rang {len(rings)} times for {policy.limit} redials", *self._story(asked)
                )
            else:
                attempts += 1
                if pause < policy.wait(SessionStatus(before["outcome"])).total_seconds():
                    self.found(f"TOO SOON: {asked.key} rang again after {pause:.3f} s", *self._story(asked))
        return -(-len(rings) // attempts) if attempts else 0

    def _story(self, asked: Asked) -> tuple[Job | None, list[Row]]:
        jobs = self._jobs_of[asked.key]
        return (jobs[0] if jobs else None), self._rows_of[asked.key]

    def nothing_is_late(self, asked: Asked) -> None:
        """What the sandbox refused as late is not heard of here: that a POST was begun too late is."""
        until = asked.valid_until
        if until is None:
            return
        for ring in self._rings(asked):
            if moment(ring["at"]) > until:
                self.found(f"LATE: {asked.key} rang at {ring['at']}, valid until {until}", *self._story(asked))
        for row in self._rows_of[asked.key]:
            if row["valid_until"] is None or moment(row["valid_until"]) > until:
                self.found(f"LATE: a POST of {asked.key} said that it is valid until {row['valid_until']}", None, [row])
        for job in self._jobs_of[asked.key]:
            if job.valid_until != until:
                self.found(f"LATE: {job.id} is valid until {job.valid_until}, asked was {until}", job)
            if any(post.began_at >= until for post in job.posts):
                self.found(f"LATE: {job.id} began a POST after it was valid", job)

    def no_redial_is_lost(self, asked: Asked) -> None:
        rings, jobs = self._rings(asked), self._jobs_of[asked.key]
        if not rings or len(jobs) != 1 or not jobs[0].state.is_final:
            return
        job = jobs[0]
        # Who may have been called twice, since a rollback lost a POST, is not called again: a note says so.
        is_told = any(note.kind is NoteKind.RANG_TWICE for note in job.notes)
        if is_told or (job.last_post is not None and job.last_post.code in MISSED_WINDOW_CODES):
            return
        last = rings[-1]["outcome"]
        if asked.kind is Kind.NUMBERS and len(rings) < len(asked.numbers) and last in NEXT:
            self.found(f"NUMBER LOST: {asked.key} ended {job.state.value} after {len(rings)} rings", job)
        if asked.redial is None or len(rings) > asked.redial.limit:
            return
        if last in {status.value for status in asked.redial.on}:
            self.found(f"REDIAL LOST: {asked.key} ended {job.state.value} after {len(rings)} rings", job)

    def no_number_is_in_two_calls(self) -> None:
        """By the rings of all parties, the second ones among them.

        A menu bridges to a number that is the second party of another call already, as a desk is of many.
        """
        taken: dict[str, list[_Line]] = defaultdict(list)
        for row in self.rang:
            key = self._keys.get(job_id_of(row))
            by_menu = key is not None and self.asked[key].kind is Kind.MENU
            for place, ring in enumerate(row["rings"]):
                ended = None if ring["ended_at"] is None else moment(ring["ended_at"])
                line = _Line(moment(ring["rang_at"]), ended, row, is_second=place > 0, by_menu=place > 0 and by_menu)
                taken[ring["destination"]].append(line)
        for number, lines in taken.items():
            lines.sort(key=lambda line: line.rang_at)
            for line, later in combinations(lines, 2):
                if line.ended_at is not None and later.rang_at >= line.ended_at:
                    continue
                if not line.may_stand_beside(later):
                    told = f"TWO CALLS: {number} rang at {later.rang_at} while in another call"
                    self.found(told, None, [line.row, later.row])

    def nobody_suppressed_is_rung(self) -> None:
        """A number that was listed while its call was about to be journalled may still ring.

        Under load the laboratory itself may list a number only after its call was due.
        """
        suppressed = self._register.suppressed
        for row in self.rang:
            job = self.jobs.get(job_id_of(row))
            posts = () if job is None else job.posts
            began = next(
                (post.began_at for post in posts if post.client_request_id == row["client_request_id"]),
                moment(row["at"]),
            )
            for number in suppressed.keys() & {row["destination"], *(ring["destination"] for ring in row["rings"])}:
                if began > suppressed[number] + LIST_READ_BEFORE:
                    self.found(f"SUPPRESSED: {number} is on the suppression list and rang", job, [row])

    def no_key_press_is_lost(self) -> None:
        """What was pressed in a call that went to its end is known, once each, in its order.

        A store that is rolled back forgets what was pressed since its copy was taken: no file of a worker has it.
        """
        for row, job in self._menu_calls():
            post = next((post for post in job.posts if post.client_request_id == row["client_request_id"]), None)
            # A call is known since its journal entry: on a busy machine it may ring only after the store was put back.
            began = moment(row["at"]) if post is None else min(post.began_at, moment(row["at"]))
            if self._was_forgotten(began, moment(row["rings"][-1]["ended_at"] or row["at"])):
                continue
            pressed = [digits for digits in row["pressed"] if digits is not None]
            told = [] if post is None else [press.digits for press in post.presses]
            if told != pressed:
                self.found(f"KEYS LOST: {job.id} was told {told}, pressed was {pressed}", job)
            for press in () if post is None else post.presses:
                choice = MENUS[press.menu].find(press.digits)
                if press.answer != (None if choice is None else choice.result):
                    self.found(f"ANSWER LOST: {job.id} has {press.answer} for {press.digits} in {press.menu}", job)

    def forgotten_outcomes(self, job: Job, rang: Sequence[Row]) -> set[str]:
        """Attempts that were redialled in a time which the store has forgotten: 8x8 sends no summary again."""
        silent = {post.client_request_id for post in job.posts[:-1] if post.outcome is None and post.verdict is None}
        return {
            row["client_request_id"]
            for row, later in pairwise(sorted(rang, key=lambda row: str(row["at"])))
            if row["client_request_id"] in silent and self._was_forgotten(_ended(row), moment(later["at"]))
        }

    def _was_forgotten(self, begin: datetime, end: datetime) -> bool:
        """Whether a part of this time lies between a copy of the store and its return."""
        return any(copied <= end and begin <= struck for copied, struck in self._register.forgotten)

    def _menu_calls(self) -> Iterator[tuple[Row, Job]]:
        for row in self.rang:
            job = self.jobs.get(job_id_of(row))
            if job is not None and job.menu is not None and row["outcome"] == SessionStatus.COMPLETED.value:
                yield row, job


def _resolved(job: Job) -> set[str]:
    """The POSTs of which a person said that they were placed: where the log has several rows that fit, nobody else can.

    After the store was rolled back it has forgotten the summaries that came since, and they do not come again. The
    answer of 8x8 that a worker had kept may take the place of the person's word.
    """
    if not any(note.kind is NoteKind.RESOLVED for note in job.notes):
        return set()
    placed = {VerdictKind.PLACED, VerdictKind.CREATED} if job.state is JobState.ACCEPTED else {VerdictKind.PLACED}
    return {post.client_request_id for post in job.posts if post.verdict in placed}


def job_id_of(row: Row) -> str:
    """The job that a POST says it is of."""
    return str(row["client_request_id"] or "").rpartition(".")[0]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _is_next(asked: Asked, before: Row, ring: Row) -> bool:
    """Whether a ring is to the person's next number, after one that was busy or did not answer."""
    numbers = asked.numbers
    places = [numbers.index(row["destination"]) for row in (before, ring) if row["destination"] in numbers]
    return before["outcome"] in NEXT and len(places) == 2 and places[1] == places[0] + 1


@dataclass(frozen=True, slots=True)
class _Line:
    """One telephone's part in one call."""

    rang_at: datetime
    ended_at: datetime | None
    row: Row
    is_second: bool
    by_menu: bool

    def may_stand_beside(self, other: _Line) -> bool:
        return self.is_second and other.is_second and (self.by_menu or other.by_menu)


def _ended(row: Row) -> datetime:
    """When the line of the first party was free; for a call that still goes on, never."""
    ended = row["rings"][0]["ended_at"] if row["rings"] else None
    return moment(ended) if ended is not None else datetime.max.replace(tzinfo=moment(row["at"]).tzinfo)
