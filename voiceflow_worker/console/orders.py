"""The page `/ui/act/NAME`: ask before an action, and carry it out. All have one form, from their own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

import anyio
import structlog
from anyio.to_thread import run_sync
from starlette.requests import Request

from voiceflow_worker.actions import (
    ActionRefusedError,
    ActionResult,
    Operator,
    OperatorAction,
    UnknownSubjectError,
)
from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.actions.many import Many
from voiceflow_worker.actions.queues import CancelBatch, Hold, RedialBatch, Resume
from voiceflow_worker.actions.suppression import ImportNumbers, Suppress, TakeBackFile, Unsuppress
from voiceflow_worker.campaigns.lists.columns import NO_ROLES, ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.console.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.console.sign_in import PageForm, Person, query_form, read_form
from voiceflow_worker.core.base.reading import gates_at, get_jobs
from voiceflow_worker.errors import (
    CampaignFileError,
    ChangedSinceError,
    InvalidInputError,
    JobError,
    JobNotFoundError,
    VoiceflowError,
)
from voiceflow_worker.model.jobs.gate import GateKind
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.service.forget import Forget
from voiceflow_worker.service.uploads import plain_name, uploading

SECTION, DOUBTS = "act", "doubts"
SUPPRESSION = "suppression"
LONGEST_NOTE = 500
MOST_AT_ONCE = 200
"""The largest number of calls in one action."""
MOST_NUMBERS = 1000
_REFUSALS = (InvalidInputError, JobError, ActionRefusedError, ChangedSinceError)
_PLACED, _NOT_PLACED = "placed", "not-placed"
_CALLED = frozenset({JobState.COMPLETED, JobState.ACCEPTED})
_Pairs = list[tuple[str, str]]

_log = structlog.get_logger("voiceflow.console")


class FormField(NamedTuple):
    """A field of a form. `options` are the values of radio buttons, each with its label."""

    name: str
    label: str
    kind: Literal["line", "lines", "choice", "tick", "file"] = "line"
    help: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()
    value: str = ""


@dataclass(frozen=True, slots=True)
class ActionDone:
    """The result of an action: a sentence, and the page under /ui that shows it."""

    message: str
    back: str


def page_of(form: PageForm, *, otherwise: str = "") -> str:
    """Return the page under /ui of the call or of the batch that a form names, or else another page."""
    calls, batch = form.all("call"), form.exactly("batch")
    if len(calls) == 1:
        return f"calls/{quote(calls[0], safe='', errors='replace')}"
    return batch_page(form.one("queue"), batch) if batch else otherwise


def batch_page(queue: str, batch: str) -> str:
    """Return the page under /ui of a batch."""
    return f"batches/{quote(batch, safe='', errors='replace')}?{urlencode({'queue': queue}, errors='replace')}"


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


def _numbers(form: PageForm) -> list[str]:
    return form.all("number") + [line.strip() for line in form.one("numbers").splitlines() if line.strip()]


def _times(form: PageForm) -> int:
    text = form.one("times") or "1"
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise InvalidInputError(f"{text[:20]!r} is no number of redials; give 1 or more")
    return int(text)


_READ: Mapping[str, Callable[[PageForm], object]] = {
    "queue": lambda form: form.one("queue"),
    "batch": lambda form: form.exactly("batch") or None,
    "call": lambda form: form.one("call"),
    "note": _note,
    "lasts": _lasts,
    "outcomes": lambda form: form.all("outcome"),
    "times": _times,
    "force": lambda form: form.one("force") == "yes",
    "unread_files": lambda form: form.one("unread_files") == "yes",
    "placed": lambda form: form.one("verdict") == _PLACED,
    "numbers": _numbers,
    "country": lambda form: form.one("country").upper() or None,
    "only_shows": lambda form: form.one("show") == "yes",
}
"""What the fields of actions are read from."""

_NOTE = FormField("note", "Note")
_FORCE = FormField("force", "Call again, although this person was reached", "tick")
_UNREAD = FormField("unread_files", "Resume, although journal files could not be read", "tick")
_COUNTRY = FormField(
    "country",
    "Country of national numbers",
    help="Such as SG, or international for digits that begin with their country code.",
)
_LIST = (_NOTE, FormField("for", "For how long", help="Such as 30d. Empty: for good."), _COUNTRY)
_NUMBER_FILE = (
    FormField("file", "A table with a column of numbers, or one number on each line", "file", required=True),
    FormField("columns", "Which column is what", help="If the names do not say it: destination=Mobile,country=Land."),
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

    def made(self, form: PageForm, operator: Operator, **more: object) -> Any:
        """Return the action, with what the form says in the fields of the action."""
        names = {each.name for each in fields(self.kind)}
        read: dict[str, Any] = {name: read(form) for name, read in _READ.items() if name in names}
        return self.kind(**{"operator": operator, **read, **more})

    def subject(self, form: PageForm) -> _Pairs:
        """Return what the action is about, in hidden fields."""
        return form.some(*self.hidden)

    async def fields(self, form: PageForm, operator: Operator) -> tuple[FormField, ...]:  # noqa: ARG002 - for those that read calls
        """Return the fields that a person fills in. What was typed stays, even if it is wrong."""
        return tuple(each._replace(value=form.one(each.name) or each.value) for each in self.shown)

    async def asked(self, form: PageForm, operator: Operator, *, said: str = "") -> Page:
        """Return the question before the action, with its form, and what was `said` to it before."""
        subject = self.subject(form)
        act: OperatorAction | Many = self.made(PageForm(subject), operator, **await self.more(form, operator))
        question = await act.question()
        typed = PageForm([*form.but(*(name for name, _ in subject)), *subject])
        shown = {
            "action": self.name,
            "question": question,
            "fields": await self.fields(typed, operator),
            "subject": [*subject, ("seen", question.token)],
            "back": self.back_of(form),
            "is_irreversible": act.is_irreversible,
            "said": said,
        }
        return Page(template="confirm.html", shown=shown, status=409 if said else 200)

    async def act(self, form: PageForm, operator: Operator, files: anyio.Lock) -> ActionDone:  # noqa: ARG002 - for long work
        """Carry out the action in the name of the operator."""
        act = self.made(form, operator, **await self.more(form, operator))
        return self.done(await act.do(form.one("seen")), form)

    async def more(self, form: PageForm, operator: Operator) -> Mapping[str, object]:  # noqa: ARG002 - for those that read calls
        """Return fields of the action that the form does not have itself."""
        return {}

    def done(self, result: ActionResult, form: PageForm) -> ActionDone:
        """Return the result in a sentence. Raises ActionRefusedError if it was left undone."""
        if result.not_done:
            raise ActionRefusedError("; ".join(dict.fromkeys([result.message, *result.lines])))
        return ActionDone("; ".join([*result.notes, result.message, *result.refused]), self.back_of(form))

    def back_of(self, form: PageForm) -> str:
        """Return the page under /ui from which people come."""
        return page_of(form, otherwise=self.back_page)


@dataclass(frozen=True, slots=True)
class _OfCalls(PageAction):
    """An action on calls that were ticked, with one note."""

    hidden: tuple[str, ...] = ("call",)
    back_page: str = "calls"

    def made(self, form: PageForm, operator: Operator, **more: object) -> Many:
        calls = form.all("call")
        if not 0 < len(calls) <= MOST_AT_ONCE:
            raise InvalidInputError(f"tick 1 to {MOST_AT_ONCE} calls first")
        typed = form.but("call")
        return Many([PageAction.made(self, PageForm([("call", call), *typed]), operator, **more) for call in calls])

    async def fields(self, form: PageForm, operator: Operator) -> tuple[FormField, ...]:
        """Return the fields. Whoever was reached is called again only where that is ticked."""
        shown = await PageAction.fields(self, form, operator)
        if self.kind is not Redial:
            return shown
        states = {job.state for job in (await get_jobs(operator.store, form.all("call"))).values()}
        return (*shown, *((_FORCE,) if states & _CALLED else ()))


class _Resume(PageAction):
    """The end of a hold. A queue whose journal files could not be read is resumed only where that is ticked."""

    async def fields(self, form: PageForm, operator: Operator) -> tuple[FormField, ...]:
        shown = await PageAction.fields(self, form, operator)
        gates = await gates_at(operator.store, form.one("queue"), [None])
        return (*shown, *((_UNREAD,) if any(GateKind.UNREAD_FILES in each.kinds for each in gates.values()) else ()))


class _Resolve(_OfCalls):
    """The resolution of doubts. A call stays in doubt if its POST is no longer the one that was decided about."""

    async def act(self, form: PageForm, operator: Operator, files: anyio.Lock) -> ActionDone:  # noqa: ARG002
        """Resolve the calls, with the time at which 8x8 said what time it is."""
        if (verdict := form.one("verdict")) not in {_PLACED, _NOT_PLACED}:
            raise InvalidInputError("choose what happened: the call was placed, or it was not placed")
        asks = operator.time_at_8x8 if verdict == _NOT_PLACED else None
        acts = self.made(form, operator, recorded_at=await asks() if asks else None)
        return self.done(await acts.do(form.one("seen")), form)


@dataclass(frozen=True, slots=True)
class _Forget(PageAction):
    """The erasure of the person of a call, whose number no address of a page has."""

    async def more(self, form: PageForm, operator: Operator) -> Mapping[str, object]:
        """Return the number."""
        _, job = await operator.call(form.one("call"))
        return {"number": job.destination}

    def back_of(self, form: PageForm) -> str:  # noqa: ARG002 - the call is gone
        return self.back_page


class _Suppress(PageAction):
    """The addition of typed numbers to the list."""

    async def act(self, form: PageForm, operator: Operator, files: anyio.Lock) -> ActionDone:  # noqa: ARG002
        if not 0 < len(_numbers(form)) <= MOST_NUMBERS:
            raise InvalidInputError(f"give 1 to {MOST_NUMBERS} numbers, one on each line; for more, import a file")
        return self.done(await self.made(form, operator).do(), form)  # its question showed no numbers


class _NumbersOfFile(PageAction):
    """The addition of the numbers in a file to the list, or their removal."""

    async def act(self, form: PageForm, operator: Operator, files: anyio.Lock) -> ActionDone:
        name, content = form.files.get("file", ("", b""))
        if not content:
            raise InvalidInputError("choose a file with numbers")
        columns = form.one("columns")
        reading: dict[str, Any] = {
            "roles": ColumnRoles.of(columns) if columns else NO_ROLES,
            "country": form.one("country").upper() or None,
            **{option: form.one(option) or None for option in ("leave_out", "only")},
        }
        with uploading() as folder:
            path = folder / plain_name(name)
            await anyio.Path(path).write_bytes(content)
            try:
                async with files:
                    found = await run_sync(lambda: read_number_file(path, **reading))
                done = await self.made(form, operator, found=found).do()
            except CampaignFileError as error:
                raise InvalidInputError(str(error).replace(str(path), "the file")) from None
        return self.done(done if done.not_done else replace(done, notes=(found.in_words, *done.notes)), form)


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
    *(*_NUMBER_FILE, *_LIST),
    FormField("show", "Only show what the file holds, and store nothing", "tick"),
)
ACTS = (
    PageAction("hold", Hold, (_NOTE, _HELD_FOR)),
    _Resume("resume", Resume, _NOTED),
    PageAction("cancel-batch", CancelBatch, _NOTED),
    _OfCalls("cancel-call", CancelCall, _NOTED),
    _OfCalls("redial", Redial, _NOTED),
    _Forget("forget", Forget, _NOTED, hidden=("call",), back_page="calls"),
    PageAction("redial-batch", RedialBatch, _NOTED, hidden=("queue", "batch", "outcome", "times")),
    _Resolve("resolve", Resolve, (_VERDICT, FormField("note", "How you know", required=True)), back_page=DOUBTS),
    _Suppress("suppress", Suppress, (_TYPED, *_LIST), hidden=(), back_page=SUPPRESSION),
    PageAction("unsuppress", Unsuppress, _NOTED, hidden=("number",), back_page=SUPPRESSION),
    _NumbersOfFile("import-numbers", ImportNumbers, _IN_FILE, hidden=(), back_page=SUPPRESSION),
    _NumbersOfFile(
        "take-back-numbers", TakeBackFile, (*_NUMBER_FILE, _NOTE, _COUNTRY), hidden=(), back_page=SUPPRESSION
    ),
)


class Orders:
    """The actions of operators, each with its question. One file is read at a time (`files`)."""

    def __init__(self, operator: Operator, files: anyio.Lock) -> None:
        self._operator = operator
        self._files = files
        self._acts = {each.name: each for each in ACTS}

    async def answer(self, request: Request, asked: PageRequest, person: Person) -> Answer | ActionDone:
        """Ask before an action; a POST carries it out. Raises StoreError and FormRefusedError."""
        act, form = self._acts.get(asked.name), query_form(request.scope)
        if act is None:
            return problem(404, "No such action", "All actions can be reached by the buttons on the pages.")
        refused: VoiceflowError | None = None
        if request.method == "POST":
            form = await read_form(request)
            operator = replace(self._operator, name=person.name, login=person.login)
            try:
                done = await act.act(form, operator, self._files)
            except _REFUSALS as error:
                _log.info("an action in the console was refused", action=act.name, name=person.name, why=str(error))
                refused = error
            else:
                _log.info("somebody carried out an action", action=act.name, name=person.name, done=done.message)
                return done
        try:
            return await act.asked(form, self._operator, said=str(refused or ""))
        except _REFUSALS as error:
            return _refused(refused or error, form)


def _refused(error: VoiceflowError, subject: PageForm) -> Page:
    if isinstance(error, UnknownSubjectError | JobNotFoundError):
        return problem(404, "This cannot be done", sentence(error))
    return problem(409, "This cannot be done", sentence(error), back=page_of(subject))
