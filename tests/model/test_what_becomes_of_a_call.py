"""What becomes of a call, in whatever position and whatever comes: one grid of positions and arrivals.

`what_becomes_of_a_call.txt` has a paragraph for each position, and in it a line for each thing that can become of the
call, with all that leads there. A paragraph `as` an earlier one has only the lines that differ; `-` cannot come.
A change of a rule changes lines of it: write it again and read the difference
(`python -m tests.model.test_what_becomes_of_a_call`). What must hold in every cell, whatever the file says, is below.

A position is a way: words of WORDS, each an hour after the one before, `busy@1` for POST 1 instead of the newest.
Before the colon stands the name of the call's OPTIONS.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plain_jobs import HOUR, MINUTE, NOW, a_job
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import evidence, lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, NoteKind, Post, RedialPolicy
from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import OPT_OUTS, REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind

S, K = JobState, VerdictKind
FILE = Path(__file__).with_suffix("").with_name("what_becomes_of_a_call.txt")
ON_BUSY = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=2, after=10 * MINUTE)
ALWAYS = RedialPolicy(on=frozenset(SessionStatus) - OPT_OUTS, limit=5, after=MINUTE)
OPTIONS: dict[str, dict[str, Any]] = {
    "once": {}, "valid": {"valid_until": NOW + 9 * HOUR}, "redial": {"redial": ON_BUSY},
    "numbers": {"further_numbers": ("+6591230002",), "redial": ON_BUSY},
    "always": {"redial": ALWAYS, "further_numbers": ("+6591230002",), "valid_until": NOW + 240 * HOUR},
    "deaf": {"valid_until": NOW + 9 * HOUR, "redial": ON_BUSY},
}  # fmt: skip
POLICY = CallPolicy()
DEAF = replace(POLICY, outcomes=OutcomeSource.NONE)


def verdict(kind: VerdictKind, **fields: Any) -> Verdict:
    return Verdict(kind=kind, message=kind.value, **fields)


VERDICTS = {
    "created": verdict(K.CREATED, code=1, session_id="s-1"), "created without a session": verdict(K.CREATED, code=1),
    "refused": verdict(K.REFUSED, code=-1014), "too late": verdict(K.REFUSED, code=-1015),
    "not sent": verdict(K.NOT_SENT), "held": verdict(K.NOT_SENT, cause=NotSentCause.HELD),
    "broken body": verdict(K.NOT_SENT, cause=NotSentCause.BROKEN_BODY), "429": verdict(K.TURNED_AWAY, http_status=429),
    "unknown": verdict(K.UNKNOWN), "what no gateway says": verdict(K.NOT_PLACED),
}  # fmt: skip


def outcome(status: SessionStatus, **fields: Any) -> Outcome:
    return Outcome(status=status, status_text=status.value, session_id="s-1", **fields)


FULL = outcome(SessionStatus.FAILED, code=-2010)
OUTCOMES = {status.value.lower(): outcome(status) for status in SessionStatus} | {
    "dropped": outcome(SessionStatus.FAILED, code=-2007), "speech failed": outcome(SessionStatus.FAILED, code=-2005),
    "busy for the body": outcome(SessionStatus.BUSY, code=-2003), "full": FULL,
    "full with a leg": replace(FULL, legs=(CallLeg(destination="+6587654321", status="SOMETHING_NEW"),)),
    "full but rang": replace(FULL, rang=True),
    "full but heard": replace(FULL, legs=(CallLeg(destination="+6587654321", seconds=3.0),)),
    "other session busy": replace(outcome(SessionStatus.BUSY), session_id="s-2"),
}  # fmt: skip
PRESSES = {
    "key": KeyPress(at=NOW, menu="ask", digits="1", event_id="e1", answer="yes", leads_on=True),
}
Step = Callable[[Job, int, datetime, CallPolicy], Job]


def answered(job: Job, number: int, at: datetime, policy: CallPolicy, *, said: Verdict, held: bool = False) -> Job:
    until = at + 5 * MINUTE if held else None
    return evidence.answered(job, number, said, at=at, policy=policy, held_until=until)


def summarised(job: Job, number: int, at: datetime, policy: CallPolicy, *, ended: Outcome) -> Job:
    return evidence.summarised(job, number, ended, at=at, policy=policy)


def pressed(job: Job, number: int, at: datetime, policy: CallPolicy, *, press: KeyPress) -> Job:
    return evidence.with_press(job, number, press)


def found(job: Job, number: int, at: datetime, policy: CallPolicy, *, ended: Outcome | None) -> Job:
    return evidence.found_placed(job, number, session_id="theirs", outcome=ended, at=at, policy=policy)


def mismatched(job: Job, number: int, at: datetime, policy: CallPolicy) -> Job:
    return evidence.mismatched(job, number, session_id="theirs", at=at, policy=policy)


EVIDENCE: dict[str, Step] = {
    **{name: partial(answered, said=said) for name, said in VERDICTS.items()},
    "held for 5 minutes": partial(answered, said=VERDICTS["429"], held=True),
    **{name: partial(summarised, ended=ended) for name, ended in OUTCOMES.items()},
    **{name: partial(pressed, press=press) for name, press in PRESSES.items()},
    "in the log": partial(found, ended=None),
    "busy in the log": partial(found, ended=OUTCOMES["busy"]),
    "not its session": mismatched,
}


def resolve(job: Job, number: int, at: datetime, policy: CallPolicy, *, placed: bool) -> Job:
    return lifecycle.resolve(job, placed=placed, at=at, recorded_at=at, note="said", policy=policy, number=number)


def post(job: Job, _: int, at: datetime, policy: CallPolicy) -> Job:
    leased = lifecycle.lease(job, worker_id="w", until=at + MINUTE)
    return lifecycle.begin(leased, at=at, lease_until=at + MINUTE, policy=policy)


MOVES: dict[str, Step] = {
    "lease": lambda job, _, at, __: lifecycle.lease(job, worker_id="w", until=at + MINUTE),
    "release": lambda job, _, at, __: lifecycle.release(job, at=at),
    "begin": lambda job, _, at, policy: lifecycle.begin(job, at=at, lease_until=at + MINUTE, policy=policy),
    "doubt": lambda job, _, at, policy: lifecycle.doubt(job, at=at, reason="lost", policy=policy),
    "give up waiting": lambda job, _, at, policy: lifecycle.give_up_waiting(job, at=at, policy=policy),
    "look again": lambda job, _, at, policy: lifecycle.check_again(job, at=at, policy=policy),
    "expire": lambda job, _, at, policy: lifecycle.expire(job, at=at, policy=policy),
    "cancel": lambda job, _, at, policy: lifecycle.cancel(job, at=at, reason="no need", policy=policy),
    "placed": partial(resolve, placed=True),
    "not placed": partial(resolve, placed=False),
    "redial": lambda job, _, at, __: lifecycle.redial(job, at=at, note="again"),
    "redial by force": lambda job, _, at, __: lifecycle.redial(job, at=at, note="again", force=True),
}
WORDS: dict[str, Step] = {**EVIDENCE, **MOVES, "post": post}
_AS = "  as  "


def recorded() -> dict[str, tuple[str, str, dict[str, str]]]:
    """Read the file: each position with its start, the position that it is written as, and its cells."""
    found: dict[str, tuple[str, str, dict[str, str]]] = {}
    for text in FILE.read_text().strip("\n").split("\n\n"):
        head, *lines = text.split("\n")
        position, _, start = head.partition("  ->  ")
        start, _, base = start.partition(_AS)
        ends = dict(found[base][2]) if base else {}
        for line in lines:
            names, _, end = line.strip().partition(": ")
            ends |= dict.fromkeys(names.split(", "), end)
        found[position] = start, base, {name: end for name, end in ends.items() if end != "-"}
    return found


RECORDED = recorded()
POSITIONS = [*RECORDED]
"""The positions are those of the file. Where a person said "not placed" of the first POST and may have been wrong, the
second one is on its way. A further position is written as a line of its own, and then the file once more."""


def reached(position: str) -> tuple[Job, datetime, CallPolicy]:
    """The call at the end of this way, the time of the next thing, and the policy."""
    option, _, way = position.partition(":")
    job, at, policy = a_job(**OPTIONS[option]), NOW, DEAF if option == "deaf" else POLICY
    for word in filter(None, way.strip().split(", ")):
        name, _, number = word.partition("@")
        job = WORDS[name](job, int(number or job.post_count), at, policy)
        at += HOUR
    return job, at, policy


def after(at: datetime, time: datetime | None) -> str:
    """A time as a distance: the largest unit that fits."""
    if time is None:
        return "none"
    seconds = (time - at).total_seconds()
    unit, length = next((each for each in _UNITS if abs(seconds) >= each[1]), _UNITS[-1])
    return f"{seconds / length:+.4g} {unit}"


_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def changes_of_post(before: Post | None, post: Post) -> str:
    """What is new of a POST: its verdict, its outcome, its session and its keys."""
    new = [] if before is not None else [f"valid for {(post.valid_until - post.began_at).seconds}s"]
    for name in ("verdict", "outcome", "session_id", "presses", "redial", "place", "outcome_known_at"):
        if (value := getattr(post, name)) == (getattr(before, name) if before else type(post).__struct_defaults__):
            continue
        if before is None and not value:
            continue
        said = value.status_text if isinstance(value, Outcome) else len(value) if name == "presses" else value
        new.append(f"{name.removesuffix('_id')} {said:%H:%M}" if isinstance(said, datetime) else f"{name} {said}")
    return f"#{post.number} {' '.join(new)}" if new else ""


def changes(before: Job, job: Job, at: datetime) -> str:
    """What became of the call: its state, and each part of it that is another one now."""
    words = [job.state.value if job.state is not before.state else f"still {job.state.value}"]
    words += [f"due {after(at, job.due_at)}"] if job.due_at != before.due_at else []
    if job.active_until not in {None, before.active_until, job.due_at}:
        words.append(f"active {after(at, job.active_until)}")
    for name in ("attempt", "redials", "place", "failures", "missed_windows", "goes_first"):
        if (value := getattr(job, name)) != getattr(before, name):
            words.append(f"{name} {value}")
    words += [f"noted {note.kind.value}" for note in job.notes[len(before.notes) :]]
    words += filter(None, (changes_of_post(before.post(each.number), each) for each in job.posts))
    return ", ".join(words)


def cells(position: str) -> Iterator[tuple[str, Job, Job, datetime]]:
    """Everything that may come in this position, and the call before and after it."""
    job, at, policy = reached(position)
    numbers = range(1, job.post_count + 1)
    for name, step in EVIDENCE.items():
        for number in numbers:
            yield f"{name}@{number}" if len(numbers) > 1 else name, job, step(job, number, at, policy), at
    for name, step in MOVES.items():
        try:
            moved = step(job, job.open_post.number if job.open_post else 0, at, policy)
        except JobError as error:
            moved = error  # type: ignore[assignment]
        yield name, job, moved, at


def ends_of(position: str) -> tuple[str, dict[str, str]]:
    """What the call is in this position, and what becomes of it, by the name of what comes."""
    ends: dict[str, str] = {}
    for name, before, job, at in cells(position):
        if not isinstance(job, Exception):
            ends[name] = "nothing" if job is before else changes(before, job, at)
    job, at, _ = reached(position)
    return f"{job.state.value}, due {after(at, job.due_at)}, attempt {job.attempt}", ends


def lines_of(ends: dict[str, str], base: dict[str, str]) -> list[str]:
    """A line for each end that is another one than that of the base, with all that leads there."""
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in (*ends, *(name for name in base if name not in ends)):
        if ends.get(name) != base.get(name):
            by_end[ends.get(name, "-")].append(name)
    return [f"    {', '.join(names)}: {end}" for end, names in by_end.items()]


def written() -> str:
    """The file: each position as the one that it was written as before, else as that which leaves the fewest lines."""
    done: dict[str, dict[str, str]] = {"": {}}
    texts: list[str] = []
    for position, (_, before, _) in RECORDED.items():
        start, ends = ends_of(position)
        base = before or min(done, key=lambda each: len(lines_of(ends, done[each])))
        head = f"{position}  ->  {start}{_AS}{base}" if base else f"{position}  ->  {start}"
        texts.append("\n".join([head, *lines_of(ends, done[base]), ""]))
        done[position] = ends
    return "\n".join(texts)


@pytest.mark.parametrize("position", POSITIONS)
def test_what_becomes_of_a_call_is_what_the_grid_says(position: str) -> None:
    start, _, ends = RECORDED[position]
    assert ends_of(position) == (start, ends)


def judge(where: str, name: str, *, before: Job, job: Job, at: datetime, policy: CallPolicy) -> None:
    """The promises, in whatever position and whatever comes."""
    assert (job.worker_id is not None) is (job.state in {S.LEASED, S.SENDING}), where
    base, _, number = name.partition("@")
    is_person = base in {"placed", "not placed", "redial", "redial by force", "cancel", "post", "begin"}
    for each in before.posts:
        now = job.post(each.number)
        assert now is not None or not each.may_have_rung, f"a POST that may have rung is never dropped: {where}"
        if now is None:
            continue
        is_kept = each.outcome is None or now.outcome == each.outcome or not each.outcome.was_placed
        is_certain = now.outcome is not None and now.outcome.status in REACHED | OPT_OUTS
        assert is_kept or is_certain, f"the first outcome stays: {where}"
        assert each.verdict is not K.CREATED or now.verdict is K.CREATED, f"created is not taken back: {where}"
        assert each.verdict is K.PLACED or each.session_id in {None, now.session_id}, f"a session stays: {where}"
    assert job.notes[: len(before.notes)] == before.notes, f"what was noted stays: {where}"
    if job.state in {S.QUEUED, S.LEASED}:
        open_ones = [each.number for each in job.posts if each.is_open and each.redial == job.redials]
        assert not open_ones or was_asked(job), f"nothing is sent beside a POST that may have rung: {where}"
        was_ended = before.state.is_final
        assert not was_ended or is_person, f"an end that was reported stays: {where}"
    if job.state.is_final:
        assert job.active_until is None, where
    if job.state in {S.CANCELLED, S.EXPIRED}:
        assert not any(each.was_placed for each in job.posts), f"what was placed is not cancelled or expired: {where}"
    placed = [each.redial for each in job.posts if each.was_placed]
    noted = any(note.kind is NoteKind.RANG_TWICE for note in job.notes)
    assert noted or len(placed) == len(set(placed)), f"two calls of one attempt are noted: {where}"
    if base in EVIDENCE and base != "not its session":
        again = EVIDENCE[base](job, int(number or job.post_count), at + HOUR, policy)
        assert again is job, f"what is reported again changes nothing: {where}"


def was_asked(job: Job) -> bool:
    """True if a person has asked for the call that comes next, after the POST that is still open."""
    return bool(job.notes) and job.notes[-1].kind is NoteKind.REDIALLED


@pytest.mark.parametrize("position", POSITIONS)
def test_the_promises_hold_in_every_cell(position: str) -> None:
    for name, before, job, at in cells(position):
        if isinstance(job, Exception):
            assert name in MOVES, "evidence is never refused"
        else:
            judge(f"{position}, {name}", name, before=before, job=job, at=at, policy=reached(position)[2])


@given(
    st.sampled_from(sorted(OPTIONS)), st.lists(st.tuples(st.sampled_from(sorted(WORDS)), st.integers(0, 3)), max_size=9)
)
def test_the_promises_hold_on_every_way(option: str, way: list[tuple[str, int]]) -> None:
    job, at, policy = a_job(**OPTIONS[option]), NOW, DEAF if option == "deaf" else POLICY
    done = [option]
    for word, place in [("post", 0), *way]:
        number = min(place, job.post_count - 1) + 1
        done.append(f"{word}@{number}")
        try:
            moved = WORDS[word](job, number, at, policy)
        except JobError:
            assert word in MOVES or word == "post", "evidence is never refused"
            continue
        judge(", ".join(done), done[-1], before=job, job=moved, at=at, policy=policy)
        job, at = moved, at + HOUR


if __name__ == "__main__":
    FILE.write_text(written())
