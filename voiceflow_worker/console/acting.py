"""The page `/ui/act/NAME`: the question before an action, and the action. All have one form, from their own fields."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote, urlencode

import anyio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.actions import (
    ActionRefusedError,
    ActionResult,
    Operator,
    OperatorAction,
    Question,
    UnknownSubjectError,
)
from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.actions.imports import DiscardStaged, ReleaseStaged
from voiceflow_worker.actions.many import Many
from voiceflow_worker.actions.queues import CancelBatch, Hold, RedialBatch, Resume
from voiceflow_worker.actions.suppression import ImportNumbers, Suppress, TakeBackFile, Unsuppress
from voiceflow_worker.campaigns.files.rows import NO_ROLES, ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.console.language import translated
from voiceflow_worker.console.routes.page import (
    Answer,
    Page,
    PageRequest,
    problem,
    queue_and_batch,
    sentence,
)
from voiceflow_worker.console.sessions import FormRefusedError, PageForm, PageSession, checked_form, query_form
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.reading import get_jobs, totals_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import (
    CampaignFileError,
    ChangedSinceError,
    InvalidInputError,
    JobError,
    JobNotFoundError,
    VoiceflowError,
)
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, read_redial_on
from voiceflow_worker.model.text.wording import count_of, read_duration
from voiceflow_worker.service.escalation_actions import AcknowledgeEscalation, StopEscalation
from voiceflow_worker.service.other_process import OtherProcess
from voiceflow_worker.service.schedule_actions import RunNow
from voiceflow_worker.service.uploads import plain_name, uploading

SECTION, BATCHES, DOUBTS = "act", "batches", "doubts"
SUPPRESSION, ESCALATIONS, SCHEDULES = "suppression", "escalations", "schedules"
LONGEST_FORM = 10_000_000
LONGEST_NOTE = 500
MOST_AT_ONCE = 200
"""The largest number of calls, or of batches, in one action."""
MOST_NUMBERS = 1000
COUNTING_LIMIT = timedelta(seconds=25)
REDIALLING_LIMIT = timedelta(seconds=30)
"""The time limit of a redial. After a refused redial the calls are counted again, so this limit and `COUNTING_LIMIT`
together must stay below the time limit of an action."""
_TOLD_FOR = timedelta(minutes=10)
_LONGEST_TOLD = 32
_REFUSALS = (InvalidInputError, JobError, ActionRefusedError, ChangedSinceError)
_PLACED, _NOT_PLACED = "placed", "not-placed"
_CALLED = frozenset({JobState.COMPLETED, JobState.ACCEPTED})
_OUTCOMES = {"no_answer": "no answer", "busy": "busy", "canceled": "canceled", "failed": "failed or error"}
"""The outcomes that can be redialled, as `--outcome` names them, with their labels."""

_Pairs = list[tuple[str, str]]

_log = structlog.get_logger("voiceflow.console")


class FormField(NamedTuple):
    """A field of a form. `options` are the values of radio buttons or check boxes, each with its label."""

    name: str
    label: str
    kind: Literal["line", "lines", "choice", "ticks", "tick", "file"] = "line"
    help: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The question before an action, and its form. `subject` is sent in hidden fields.

    `back` is the page under /ui for people who do not confirm. `is_step` is True if the form changes nothing and only
    leads to the question.
    """

    question: Question
    fields: tuple[FormField, ...] = ()
    subject: tuple[tuple[str, str], ...] = ()
    back: str = ""
    is_irreversible: bool = False
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class ActionDone:
    """The result of an action: a sentence, and the page under /ui that shows it."""

    message: str
    back: str


def page_of(form: PageForm, *, otherwise: str = "") -> str:
    """The page under /ui of the call or of the batch that a form names, or else another page."""
    calls, batch = form.all("call"), form.exactly("batch")
    if len(calls) == 1:
        return call_page(calls[0])
    return batch_page(form.one("queue"), batch) if batch else otherwise


def batch_page(queue: str, batch: str) -> str:
    """The page of a batch under /ui."""
    return f"batches/{quote(batch, safe='', errors='replace')}?{urlencode({'queue': queue}, errors='replace')}"


def call_page(job_id: str) -> str:
    """The page of a call under /ui."""
    return f"calls/{quote(job_id, safe='', errors='replace')}"


def _note(form: PageForm) -> str:
    if len(text := form.one("note")) > LONGEST_NOTE:
        raise InvalidInputError(f"the note is longer than {LONGEST_NOTE} characters; make it shorter")
    return text


def _lasts(form: PageForm) -> timedelta | None:
    text = form.one("for")
    try:
        return read_duration(text) if text else None
    except ValueError as error:
        raise InvalidInputError(f"the duration {text[:20]!r}: {error}") from None


def _times(form: PageForm) -> int:
    text = form.one("times") or "1"
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 4 and int(text)):
        raise InvalidInputError(f"{text[:20]!r} is not a number of redials; give 1 to 999")
    return int(text)


def _numbers(form: PageForm) -> list[str]:
    return form.all("number") + [line.strip() for line in form.one("numbers").splitlines() if line.strip()]


_READ: Mapping[str, Callable[[PageForm], object]] = {
    "queue": lambda form: form.one("queue"),
    "batch": lambda form: form.exactly("batch") or None,
    "call": lambda form: form.one("call"),
    "escalation": lambda form: form.exactly("escalation"),
    "schedule": lambda form: form.exactly("schedule"),
    "note": _note,
    "lasts": _lasts,
    "outcomes": lambda form: form.all("outcome"),
    "times": _times,
    "force": lambda form: form.one("force") == "yes",
    "placed": lambda form: form.one("verdict") == _PLACED,
    "numbers": _numbers,
    "country": lambda form: form.one("country").upper() or None,
    "skips_bad": lambda form: form.one("skip") == "yes",
    "only_shows": lambda form: form.one("show") == "yes",
}
"""What the fields of actions are read from."""

_NOTE = FormField("note", "Note")
_FORCE = FormField("force", "Call again, although this person was reached", "tick")
_COUNTRY = FormField(
    "country",
    "Country of national numbers",
    help="Such as SG, or international for digits that begin with their country code.",
)
_LIST = (_NOTE, FormField("for", "For how long", help="Such as 30d. Empty: for good."), _COUNTRY)
_NUMBER_FILE = FormField("file", "A table with a column of numbers, or one number on each line", "file", required=True)
_NUMBER_COLUMNS = FormField(
    "columns", "Which column is what", help="If the names do not say it: destination=Mobile,country=Land."
)
_LEFT_OUT = (
    FormField("leave_out", "Leave out rows with", help="Such as Status=Active."),
    FormField("only", "Only rows with", help="Such as Status=Booked."),
)


@dataclass(frozen=True, slots=True)
class PageAction:
    """An action on the pages: its `name`, which is the last part of its address, and the fields that people fill in.

    The form sends the `hidden` fields on. `back_page` is the page under /ui for people who do not confirm, if the form
    names neither a call nor a batch. Methods raise StoreError, and the errors of actions, which the pages show.
    """

    name: str
    kind: type[OperatorAction]
    shown: tuple[FormField, ...] = ()
    hidden: tuple[str, ...] = ("queue", "batch", "call")
    back_page: str = ""

    too_long: ClassVar[str] = "this took too long to count; choose fewer"
    """The message if the question takes too long."""
    undone: ClassVar[str] = ""
    """The message of an action that ends after `REDIALLING_LIMIT`; empty for one that does not."""

    def made(self, form: PageForm, operator: Operator, **more: object) -> Any:
        """The action, with what the form says in the fields of the action."""
        names = {each.name for each in fields(self.kind)}  # type: ignore[arg-type]
        read = {name: read(form) for name, read in _READ.items() if name in names}
        return self.kind(**{"operator": operator, **read, **more})

    def subject(self, form: PageForm) -> _Pairs:
        """What the action is about, in hidden fields."""
        return form.some(*self.hidden)

    async def fields(self, form: PageForm, operator: Operator) -> tuple[FormField, ...]:  # noqa: ARG002 - for those that read calls
        """The fields that a person fills in. What was typed stays, even if it is wrong."""
        return tuple(each._replace(value=form.one(each.name) or each.value) for each in self.shown)

    async def first_step(self, form: PageForm, operator: Operator) -> tuple[Question, tuple[FormField, ...]] | None:  # noqa: ARG002
        """The question what to do, and its fields; None if the form says so already."""
        return None

    async def confirmation(self, form: PageForm, operator: Operator) -> Confirmation:
        """The question before the action; before it, the question what to do. This changes nothing."""
        if (step := await self.first_step(form, operator)) is not None:
            batch = tuple(form.some("queue", "batch"))
            return Confirmation(question=step[0], fields=step[1], subject=batch, back=page_of(form), is_step=True)
        async with _within(COUNTING_LIMIT, self.too_long):
            subject = self.subject(form)
            act: OperatorAction | Many = self.made(PageForm(subject), operator)
            question = await act.question()
        typed = PageForm([*form.but(*(name for name, _ in subject)), *subject])
        return Confirmation(
            question=question,
            fields=await self.fields(typed, operator),
            subject=(*subject, ("seen", question.version)),
            back=self.back_of(form),
            is_irreversible=act.is_irreversible,
        )

    async def act(self, form: PageForm, operator: Operator, process: OtherProcess) -> ActionDone:  # noqa: ARG002 - for long work
        """Carry out the action in the name of the operator."""
        async with _within(REDIALLING_LIMIT if self.undone else timedelta.max, self.undone):
            return self.done(await self.made(form, operator).do(form.one("seen")), form)

    def done(self, result: ActionResult, form: PageForm) -> ActionDone:
        """The result in a sentence. Raises ActionRefusedError if it was left undone."""
        if result.not_done:
            raise ActionRefusedError("; ".join(dict.fromkeys([result.message, *result.lines])))
        return ActionDone("; ".join([*result.notes, result.message, *result.refused]), self.back_of(form))

    def back_of(self, form: PageForm) -> str:
        """The page under /ui from which people come."""
        return page_of(form, otherwise=self.back_page)


@dataclass(frozen=True, slots=True)
class _OfCalls(PageAction):
    """An action on calls that were ticked, with one note. Each is a value of the form's field `each_in`."""

    back_page: str = "calls"

    each_in: ClassVar[str] = "call"

    def chosen(self, form: PageForm) -> list[str]:
        """What was ticked."""
        return form.all("call")

    def one(self, act: Any, value: str) -> Any:
        """The action on one of them."""
        return replace(act, call=value)

    def page_of_one(self, value: str) -> str:
        """The page under /ui of one of them."""
        return call_page(value)

    def subject(self, form: PageForm) -> _Pairs:
        return [(self.each_in, value) for value in self.chosen(form)]

    def made(self, form: PageForm, operator: Operator, **more: object) -> Many:
        chosen, (noun, nouns) = self.chosen(form), self.kind.several.nouns
        if not chosen:
            raise InvalidInputError(f"no {noun} was chosen; tick the {nouns} first")
        if len(chosen) > MOST_AT_ONCE:
            raise InvalidInputError(f"more than {MOST_AT_ONCE} {nouns} are too many for one act; choose fewer")
        act = PageAction.made(self, form, operator, **more)
        return Many([self.one(act, value) for value in chosen])

    async def fields(self, form: PageForm, operator: Operator) -> tuple[FormField, ...]:
        """The fields. Whoever was reached is called again only where that is ticked."""
        shown = await PageAction.fields(self, form, operator)
        if self.kind is not Redial:
            return shown
        states = {job.state for job in (await get_jobs(operator.store, self.chosen(form))).values()}
        return (*shown, *((_FORCE,) if states & _CALLED else ()))

    def back_of(self, form: PageForm) -> str:
        chosen = self.chosen(form)
        return self.page_of_one(chosen[0]) if len(chosen) == 1 else self.back_page


class _OfBatches(_OfCalls):
    """An action on a queue or a batch, or on batches that were ticked."""

    each_in: ClassVar[str] = "of"

    def chosen(self, form: PageForm) -> list[str]:
        ticked = list(dict.fromkeys(value for _, value in form.some("of")))  # with the spaces of their names
        return ticked or ([f"{queue}/{form.exactly('batch')}"] if (queue := form.one("queue")) else [])

    def one(self, act: Any, value: str) -> Any:
        queue, batch = queue_and_batch(value)
        return replace(act, queue=queue, batch=batch or None)

    def page_of_one(self, value: str) -> str:
        queue, batch = queue_and_batch(value)
        return batch_page(queue, batch) if batch else ""


class _Resolve(_OfCalls):
    """The resolution of doubts. A call stays in doubt if its POST is no longer the one that was decided about."""

    async def act(self, form: PageForm, operator: Operator, process: OtherProcess) -> ActionDone:  # noqa: ARG002
        """Resolve the calls, with the time at which 8x8 said what time it is."""
        if (verdict := form.one("verdict")) not in {_PLACED, _NOT_PLACED}:
            raise InvalidInputError("choose what happened: the call was placed, or it was not placed")
        asks = operator.time_at_8x8 if verdict == _NOT_PLACED else None
        acts = self.made(form, operator, recorded_at=await asks() if asks else None)
        return self.done(await acts.do(form.one("seen")), form)


class _RedialBatch(PageAction):
    """The redial of a batch by outcome."""

    undone = "not all calls were redialled in time: redial the batch again; no call is redialled twice"
    too_long = "the batch has too many calls to be counted here; use `voiceflow calls redial --batch` instead"

    async def first_step(self, form: PageForm, operator: Operator) -> tuple[Question, tuple[FormField, ...]] | None:
        if form.all("outcome"):
            return None
        act: RedialBatch = self.made(form, operator)
        batch, _ = act.name, await act.counted()
        counts = (await totals_of(operator.store, act.queue, batch)).outcomes
        found = {word: sum(counts.get(status.value, 0) for status in read_redial_on(word)) for word in _OUTCOMES}
        options = tuple(
            (word, f"{words}: {count_of(found[word], 'call')}") for word, words in _OUTCOMES.items() if found[word]
        )
        if not options:
            raise InvalidInputError(f"no call of batch {batch} has ended in a way that can be redialled")
        question = Question(
            title=f"Redial calls of batch {batch}",
            will_be_called=("No phone yet. The next page says how many phones will ring, and asks again.",),
            will_not_be_called=("Calls in doubt, calls that were answered, and people who opted out.",),
            button="Count them",
        )
        times = FormField(
            "times",
            "Largest number of redials by people, for each call",
            value="1",
            help="With 1, calls that somebody redialled before are left out.",
        )
        return question, (FormField("outcome", "Calls that ended with", "ticks", options=options), times)


class _Suppress(PageAction):
    """The addition of typed numbers to the list; of the number of a call, if the form names one."""

    async def fields(self, form: PageForm, operator: Operator) -> tuple[FormField, ...]:
        numbers, *others = await PageAction.fields(self, form, operator)
        if job_id := form.one("call"):
            numbers = numbers._replace(value=(await operator.call(job_id))[1].destination)
        return (numbers, *others)

    async def act(self, form: PageForm, operator: Operator, process: OtherProcess) -> ActionDone:  # noqa: ARG002
        if not 0 < len(_numbers(form)) <= MOST_NUMBERS:
            raise InvalidInputError(f"give 1 to {MOST_NUMBERS} numbers, one on each line; for more, import a file")
        return self.done(await self.made(form, operator).do(), form)  # its question showed no numbers


class _NumbersOfFile(PageAction):
    """The addition of the numbers in a file to the list, or their removal."""

    async def act(self, form: PageForm, operator: Operator, process: OtherProcess) -> ActionDone:
        if not form.file:
            raise InvalidInputError("choose a file with numbers")
        act: ImportNumbers | TakeBackFile = self.made(form, operator)
        columns = form.one("columns")
        reading = {
            "roles": ColumnRoles.of(columns) if columns else NO_ROLES,
            "country": act.country,
            **{name: form.one(name) or None for name in ("leave_out", "only")},
        }
        given = {each.name: getattr(act, each.name) for each in fields(act) if each.name not in {"operator", "found"}}
        with uploading() as folder:
            path = folder / plain_name(form.files["file"][0])
            await anyio.Path(path).write_bytes(form.file)
            try:
                made, by = partial(type(act), **given), operator.actor
                result = await process.run(_of_file, path, reading, made=made, policy=operator.policy, by=by)
            except CampaignFileError as error:
                raise InvalidInputError(str(error).replace(str(path), "the file")) from None
        return self.done(result, form)


async def _of_file(
    store: Store,
    path: Path,
    reading: Mapping[str, Any],
    *,
    made: Callable[..., OperatorAction],
    policy: CallPolicy,
    by: Actor,
) -> ActionResult:
    found = read_number_file(path, **reading)
    done = await made(operator=Operator(store, policy), found=found).by(by).do()
    return done if done.not_done else replace(done, notes=(found.in_words, *done.notes))


@asynccontextmanager
async def _within(limit: timedelta, otherwise: str) -> AsyncGenerator[None]:
    """Cancel the block after `limit`, and raise an InvalidInputError whose message is `otherwise`."""
    with anyio.move_on_after(limit.total_seconds()) as scope:
        yield
    if scope.cancelled_caught:
        raise InvalidInputError(otherwise)


_NOTED = (_NOTE,)
_HELD_FOR = FormField(
    "for", "Resume automatically after", help="Such as 10m or 2h. Leave this empty to hold until somebody resumes."
)
_VERDICT = FormField(
    "verdict",
    "What happened",
    "choice",
    required=True,
    options=((_PLACED, "It was placed"), (_NOT_PLACED, "It was not placed")),
)
_TYPED = FormField("numbers", "Numbers, one on each line", "lines", required=True)
_IN_FILE = (
    *(_NUMBER_FILE, _NUMBER_COLUMNS, *_LEFT_OUT, *_LIST),
    FormField("skip", "Skip lines that are not numbers", "tick"),
    FormField("show", "Only show what the file holds, and store nothing", "tick"),
)
_OFF_LIST = (_NUMBER_FILE, _NUMBER_COLUMNS, *_LEFT_OUT, _NOTE, _COUNTRY)
_OUTCOME = ("queue", "batch", "outcome", "times")
_ESCALATION, _SCHEDULE = ("queue", "escalation"), ("queue", "schedule")
ACTS = (
    _OfBatches("hold", Hold, (_NOTE, _HELD_FOR), back_page=BATCHES),
    _OfBatches("resume", Resume, _NOTED, back_page=BATCHES),
    PageAction("release-staged", ReleaseStaged, _NOTED),
    PageAction("discard-staged", DiscardStaged, _NOTED),
    _OfBatches("cancel-batch", CancelBatch, _NOTED, back_page=BATCHES),
    _OfCalls("cancel-call", CancelCall, _NOTED),
    _OfCalls("redial", Redial, _NOTED),
    _RedialBatch("redial-batch", RedialBatch, _NOTED, hidden=_OUTCOME),
    _Resolve("resolve", Resolve, (_VERDICT, FormField("note", "How you know", required=True)), back_page=DOUBTS),
    PageAction("acknowledge-escalation", AcknowledgeEscalation, hidden=_ESCALATION, back_page=ESCALATIONS),
    PageAction("stop-escalation", StopEscalation, _NOTED, hidden=_ESCALATION, back_page=ESCALATIONS),
    PageAction("run-schedule", RunNow, _NOTED, hidden=_SCHEDULE, back_page=SCHEDULES),
    _Suppress("suppress", Suppress, (_TYPED, *_LIST), hidden=(), back_page=SUPPRESSION),
    PageAction("unsuppress", Unsuppress, _NOTED, hidden=("number",), back_page=SUPPRESSION),
    _NumbersOfFile("import-numbers", ImportNumbers, _IN_FILE, hidden=(), back_page=SUPPRESSION),
    _NumbersOfFile("take-back-numbers", TakeBackFile, _OFF_LIST, hidden=(), back_page=SUPPRESSION),
)


class PageActing:
    """The actions of operators, each with its question.

    Work that takes long is done in another `process`.
    """

    def __init__(self, operator: Operator, process: OtherProcess) -> None:
        self._operator = operator
        self._process = process
        self._acts = {each.name: each for each in ACTS}
        self._told = text_records(operator.store, "page-told", keep_for=_TOLD_FOR)

    async def confirm(self, scope: Scope, asked: PageRequest, session: PageSession) -> Answer:
        """The question before an action. Raises StoreError."""
        act, form = self._acts.get(asked.name), query_form(scope)
        if not session.may_act:
            return only_operators(session)
        if act is None:
            return _no_such_action()
        try:
            return _question(act, await act.confirmation(form, self._operator), session)
        except _REFUSALS as error:
            return _refused(error, form)

    async def act(self, scope: Scope, receive: Receive, asked: PageRequest, session: PageSession) -> Answer:
        """Carry out an action, and redirect to the page that shows its result. Raises StoreError."""
        act = self._acts.get(asked.name)
        if not session.may_act:
            return only_operators(session)
        if act is None:
            return _no_such_action()
        try:
            form = await checked_form(scope, receive, session, longest=LONGEST_FORM)
        except FormRefusedError as error:
            return problem(403, "Nothing was changed", sentence(error))
        try:
            operator = replace(self._operator, name=session.name, login=session.login)
            done = await act.act(form, operator, self._process)
        except _REFUSALS as error:
            _log.info("an action in the console was refused", action=act.name, name=session.name, why=str(error))
            try:
                question = await act.confirmation(form, self._operator)
            except _REFUSALS:
                return _refused(error, form)
            return _question(act, question, session, said=str(error))
        _log.info(
            "somebody carried out an action in the console", action=act.name, name=session.name, done=done.message
        )
        return await self.tell(done, asked, session)

    async def tell(self, done: ActionDone, asked: PageRequest, session: PageSession) -> Response:
        """Redirect to the page that shows a result, which `told` then tells. Raises StoreError."""
        told = token_urlsafe(9)
        await self._told.put({f"{session.id}/{told}": done.message})
        way = f"{done.back}{'&' if '?' in done.back else '?'}told={told}"
        return Response(b"", 303, {"Location": f"{asked.home}{'' if way.startswith('?') else '/'}{way}"})

    async def told(self, asked: PageRequest, session: PageSession) -> str | None:
        """A sentence with the result of the action that led to this page; None if no action did. Raises StoreError."""
        told = asked.query.get("told")
        if not told or len(told) > _LONGEST_TOLD:
            return None
        key = f"{session.id}/{told}"
        return (await self._told.get([key])).get(key)


def _question(act: PageAction, asked: Confirmation, session: PageSession, *, said: str = "") -> Page:
    shown = {"action": act.name, "ask": asked, "token": session.token, "said": said}
    return Page(template="confirm.html", shown=shown, status=409 if said else 200)


def _refused(error: VoiceflowError, subject: PageForm) -> Page:
    if isinstance(error, UnknownSubjectError | JobNotFoundError):
        return problem(404, "This cannot be done", sentence(error))
    return problem(409, "This cannot be done", sentence(error), back=page_of(subject))


def _no_such_action() -> Page:
    return problem(404, "No such action", "All actions can be reached by the buttons on the pages.")


def only_operators(session: PageSession) -> Page:
    """The page for people who may not act."""
    if session.is_named:
        what = translated("%s may look only: VOICEFLOW_AUTH_OPERATORS has neither this name nor a group of it.")
        return problem(403, "Only operators may do this", what % session.name)
    return problem(403, "Only operators may do this", "Sign in with VOICEFLOW_UI_OPERATOR_SECRET.")
