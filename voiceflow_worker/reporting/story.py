"""The story of a call: its timeline, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

from voiceflow_worker.core.progress import LegState, MenuFailure, SessionProgress
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Post
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SESSION_STATUSES, SIP_CODES, SessionStatus, api_code, session_error
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import in_words, rfc3339


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """Something that happened to a call: a line, further lines with details, and lines with its names at 8x8.

    If `is_technical`, it only repeats what another happening says, in the words of 8x8.
    """

    at: datetime
    line: str
    more: tuple[str, ...] = ()
    technical: tuple[str, ...] = ()
    is_technical: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """The story of a call: its state, facts about it, and what happened to it, in order."""

    summary: str
    facts: tuple[str, ...]
    timeline: tuple[TimelineEntry, ...]

    def lines(self) -> Iterator[str]:
        """Yield the story line by line for a terminal; control characters in texts from outside are escaped."""
        yield printable_line(self.summary)
        yield from (f"  {printable_line(fact)}" for fact in self.facts)
        for each in self.timeline:
            yield f"  {in_words(each.at)}  {printable_line(each.line)}"
            yield from (f"      {printable_line(line)}" for line in (*each.more, *each.technical))


def ending(job: Job) -> str:
    """Return the end of the call in a few words; empty while it is unknown."""
    outcome, post = job.outcome, job.ended_post
    if outcome is None or post is None:
        return ""
    code = f" ({outcome.code})" if outcome.code is not None else ""
    seconds = f", {outcome.seconds:.0f} s" if outcome.seconds and outcome.seconds >= 1 else ""
    return printable_line(f"{outcome.text_of(job.number_of(post))}{code}{seconds}")


def one_line(job: Job) -> str:
    """Return the call and its state in one line."""
    reason = f": {job.reason}" if job.reason else ""
    return printable_line(f"{job.id} to {job.number} is {job.state.value}{reason}")


def story(job: Job, *, at: datetime, heard: SessionProgress | None = None) -> Story:
    """Return the story of a call at this time, with the call's progress."""
    timeline = [TimelineEntry(job.created_at, "enqueued")]
    ended = set[str | None]()
    for post in job.posts:
        timeline.append(_post(job, post, unanswered=_unanswered(job, post, at=at)))
        timeline += [_press(press) for press in post.presses]
        if post.outcome is not None:
            timeline += _outcome(post, post.outcome, destination=job.number_of(post))
            ended |= {post.session_id, post.outcome.session_id}
    timeline += [TimelineEntry(note.at, f"{note.kind.value}: {note.text}") for note in job.notes]
    for state in (heard or SessionProgress()).states:
        is_technical = state.session_id in ended
        in_short = None if is_technical or state.destination not in job.numbers else _LIVE.get(state.status or "")
        timeline.append(TimelineEntry(state.at, in_short or _state(state), is_technical=is_technical))
    timeline += [TimelineEntry(each.at, _failure(each)) for each in (heard or SessionProgress()).failures]
    return Story(
        summary=f"{job.id} is {job.state.value}{': ' + job.reason if job.reason else ''}",
        facts=tuple(_facts(job, at=at)),
        timeline=tuple(sorted(timeline, key=lambda each: each.at)),
    )


def _facts(job: Job, *, at: datetime) -> Iterator[str]:
    further = "".join(f", then {number}" for number in job.further_numbers)
    yield f"from {job.source} to {job.destination}{further}"
    for name, value in (("batch", job.batch_id), ("unique key", job.unique_key), ("session", job.session_id)):
        if value is not None:
            yield f"{name}: {value}"
    if (result := result_of(job)) is not CallResult.OPEN:
        yield f"result: {result}"
    if job.priority:
        yield f"priority: {job.priority}"
    if job.valid_until is not None:
        yield f"valid until {in_words(job.valid_until)}"
    if not job.state.is_final:
        meaning = _OVERDUE.get(job.state) if job.due_at <= at else None
        yield f"{meaning or _DUE[job.state]} {in_words(job.due_at)}"


_DUE = {
    JobState.QUEUED: "due at",
    JobState.LEASED: "its worker has sent nothing yet; leased until",
    JobState.SENDING: "its worker is sending it; leased until",
    JobState.SUBMITTED: "waits for its summary until",
    JobState.IN_DOUBT: "next search for evidence at",
}


_OVERDUE = {
    JobState.LEASED: "its worker has sent nothing, and another worker will take over the call: the lease ended at",
    JobState.SENDING: "no answer was stored before its lease ended, so a worker puts it in doubt: the lease ended at",
}


def _unanswered(job: Job, post: Post, *, at: datetime) -> str:
    """Return the text for a POST without a verdict. Until its worker's lease ends, an answer may still come."""
    if job.state is JobState.SENDING and post == job.last_post:
        return "no answer yet" if at < job.due_at else "no answer came before the lease of its worker ended"
    return "no answer was received"


def _post(job: Job, post: Post, *, unanswered: str) -> TimelineEntry:
    verdict = post.verdict.value.replace("_", " ") if post.verdict is not None else unanswered
    more: list[str] = []
    if post.code is not None and post.code < 0:
        entry = api_code(post.code)
        more.append(_sentences(f"code {post.code}: {entry.meaning}.", entry.remedy))
    if post.message and post.verdict is not VerdictKind.CREATED:
        more.append(post.message)
    ids = f"{post.client_request_id}, valid until {in_words(post.valid_until)}"
    to = f", to call {job.number_of(post)}" if job.further_numbers else ""
    return TimelineEntry(post.began_at, f"POST {post.number} to 8x8{to}: {verdict}", tuple(more), (ids,))


def _press(press: KeyPress) -> TimelineEntry:
    named = f", {press.answer}" if press.answer is not None else ""
    return TimelineEntry(press.at, f"pressed {press.digits}{named}", (f"menu {press.menu} asked",))


def _outcome(post: Post, outcome: Outcome, *, destination: str) -> Iterator[TimelineEntry]:
    """Yield the answer, and the end. An end without a time is at the beginning of its POST."""
    leg, status = outcome.leg_to(destination), outcome.status_of(destination)
    answered_at = None if leg is None else leg.connected_at
    if answered_at is not None:
        yield TimelineEntry(answered_at, "answered")
    more: list[str] = []
    technical = f"status {outcome.status_text if status is None else status.value}"
    if status is None:
        line = f"ended: {outcome.status_text}"
    else:
        entry = SESSION_STATUSES[status]
        line = "hung up" if answered_at is not None and status is SessionStatus.COMPLETED else entry.meaning
        more += [entry.remedy] if entry.remedy else []
    if outcome.seconds:
        line += f", {outcome.seconds:.0f} s in all"
    sip_code = outcome.sip_code_of(destination)
    if sip_code is not None:
        sip = SIP_CODES.get(sip_code)
        more = [f"SIP {sip_code}" if sip is None else _sentences(f"SIP {sip_code}: {sip.meaning}.", sip.remedy)]
    if len(outcome.legs) > 1:
        legs = ", ".join(_leg(leg) for leg in outcome.legs)
        more.append(f"the whole session ended as {outcome.status_text}; its legs: {legs}")
    if outcome.code is not None:
        error = session_error(outcome.code)
        more.append(_sentences(f"code {outcome.code}: {error.meaning}.", error.remedy))
    yield TimelineEntry(outcome.ended_at or post.began_at, line, tuple(more), (technical,))


def _leg(leg: CallLeg) -> str:
    seconds = f" ({leg.seconds:.0f} s)" if leg.seconds else ""
    return f"{leg.destination or 'an unknown number'} {leg.status or 'unknown'}{seconds}"


def _sentences(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def progress_as_json(heard: SessionProgress) -> dict[str, object]:
    """Return the states of a call's legs, as JSON."""
    return {"progress": [{**asdict(state), "at": rfc3339(state.at)} for state in heard.states]}


_LIVE = {"CALL_INITIATED": "dialled", "CALL_CONNECTED": "answered", "CALL_DISCONNECTED": "hung up"}
"""States of the person's leg in short, until the outcome of the call says the same with more."""


def _failure(failure: MenuFailure) -> str:
    menu = f"menu {failure.menu}" if failure.menu else "the menu"
    return f"{menu} could not go on: the person heard its fallback, or the call was hung up. {failure.reason}"


def _state(state: LegState) -> str:
    ends = f", from {state.source} to {state.destination}" if state.source and state.destination else ""
    sip = f", SIP {state.sip_code}" if state.sip_code is not None else ""
    return f"{state.status or 'a state without a name'}{ends}{sip}"
