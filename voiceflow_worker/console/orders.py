"""The page `/ui/act/NAME`: ask before an order, and carry it out. All have one form, from their own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

import anyio
import structlog
from anyio.to_thread import run_sync
from starlette.requests import Request

from voiceflow_worker.actions import ActionRefusedError, Operator, OperatorAction, UnknownSubjectError
from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.actions.many import Many
from voiceflow_worker.actions.queues import CancelBatch, Hold, RedialBatch, Resume
from voiceflow_worker.actions.suppression import ImportNumbers, Suppress, Unsuppress
from voiceflow_worker.campaigns.lists.columns import NO_ROLES, ColumnRoles
from voiceflow_worker.campaigns.number_file import NumberFile, read_number_file
from voiceflow_worker.console.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.console.sign_in import FormRefusedError, PageForm, Person, read_form
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, JobNotFoundError, StoreError, VoiceflowError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.service.forget import Forget
from voiceflow_worker.service.uploads import plain_name, uploading

SECTION, DOUBTS, SUPPRESSION = "act", "doubts", "suppression"
LONGEST_NOTE = 500
MOST_AT_ONCE = 200
"""The largest number of calls in one order."""
MOST_NUMBERS = 1000
_PLACED, _NOT_PLACED = "placed", "not-placed"
_CALLED = frozenset({JobState.COMPLETED, JobState.ACCEPTED})

_log = structlog.get_logger("voiceflow.console")


class ActionDone(NamedTuple):
    """The result of an order: a sentence, and the page under /ui that shows it."""

    message: str
    back: str


class FormField(NamedTuple):
    """A field of a form. `options` are the values of radio buttons, each with its label."""

    name: str
    label: str
    kind: Literal["line", "lines", "choice", "tick", "file"] = "line"
    help: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()
    value: str = ""


def page_of(form: PageForm, *, otherwise: str = "") -> str:
    """Return the page under /ui of the call or of the batch that a form names, or else another page."""
    calls, batch = form.all("call"), form.get("batch", "")
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


_READ: Mapping[str, Callable[[PageForm], object]] = {
    "queue": lambda form: form.one("queue"),
    "batch": lambda form: form.get("batch") or None,
    "call": lambda form: form.one("call"),
    "note": _note,
    "lasts": _lasts,
    "outcomes": lambda form: form.all("outcome"),
    "times": lambda form: int(form.one("times")[:3]) if form.one("times").isdecimal() else 1,
    "force": lambda form: form.one("force") == "yes",
    "placed": lambda form: form.one("verdict") == _PLACED,
    "numbers": lambda form: form.all("number") + list(filter(str.strip, form.one("numbers").splitlines())),
    "country": lambda form: form.one("country").upper() or None,
}
"""What the fields of orders are read from."""

_NOTE = FormField("note", "Note")
_FORCE = FormField("force", "Call again, although this person was reached", "tick")
_UNTIL = FormField(
    "for", "Resume automatically after", help="Such as 10m or 2h. Leave this empty to hold until somebody resumes."
)
_VERDICT = FormField(
    "verdict",
    "What happened",
    "choice",
    required=True,
    options=((_PLACED, "It was placed"), (_NOT_PLACED, "It was not placed")),
)
_LISTED = (
    _NOTE,
    FormField("for", "For how long", help="Such as 30d. Empty: for good."),
    FormField("country", "Country of national numbers", help="Such as SG."),
)
_FILE = FormField("file", "A table with a column of numbers, or one number on each line", "file", required=True)
_COLUMNS = FormField(
    "columns", "Which column is what", help="If the names do not say it: destination=Mobile,country=Land."
)


class PageOrder(NamedTuple):
    """An order on the pages: the class of its action, the fields that people fill in, and the `hidden` ones.

    `back` is the page under /ui for people who do not confirm, if the form names neither a call nor a batch.
    """

    kind: type[OperatorAction]
    shown: tuple[FormField, ...] = (_NOTE,)
    hidden: tuple[str, ...] = ("queue", "batch")
    back: str = ""


ORDERS: Mapping[str, PageOrder] = {
    "hold": PageOrder(Hold, (_NOTE, _UNTIL)),
    "resume": PageOrder(Resume),
    "cancel-batch": PageOrder(CancelBatch),
    "redial-batch": PageOrder(RedialBatch, hidden=("queue", "batch", "outcome", "times")),
    "cancel-call": PageOrder(CancelCall, hidden=("call",)),
    "redial": PageOrder(Redial, hidden=("call",)),
    "resolve": PageOrder(
        Resolve, (_VERDICT, FormField("note", "How you know", required=True)), hidden=("call",), back=DOUBTS
    ),
    "forget": PageOrder(Forget, hidden=("call",), back="calls"),
    "suppress": PageOrder(
        Suppress,
        (FormField("numbers", "Numbers, one on each line", "lines", required=True), *_LISTED),
        hidden=(),
        back=SUPPRESSION,
    ),
    "unsuppress": PageOrder(Unsuppress, hidden=("number",), back=SUPPRESSION),
    "import-numbers": PageOrder(ImportNumbers, (_FILE, _COLUMNS, *_LISTED), hidden=(), back=SUPPRESSION),
}


class Orders:
    """The orders of operators, each with its question. One file is read at a time (`files`)."""

    def __init__(self, operator: Operator, files: anyio.Lock) -> None:
        self._operator = operator
        self._files = files

    async def answer(self, request: Request, asked: PageRequest, person: Person) -> Answer | ActionDone:
        """Ask before an order; a POST carries it out. Raises StoreError and FormRefusedError."""
        if (order := ORDERS.get(asked.name)) is None:
            return problem(404, "No such action", "All actions can be reached by the buttons on the pages.")
        form, refused = PageForm(request.query_params.multi_items()), ""
        try:
            if request.method == "POST":
                form = await read_form(request)
                try:
                    done = await self._carry_out(order, form, person)
                except VoiceflowError as error:
                    refused = _refusal(error)
                else:
                    _log.info("somebody carried out an action", action=asked.name, name=person.name, done=done.message)
                    return done
            return await self._question(asked.name, order, form, refused=refused)
        except VoiceflowError as error:
            words = refused or _refusal(error)
            is_gone = isinstance(error, UnknownSubjectError | JobNotFoundError)
            return problem(404 if is_gone else 409, "This cannot be done", sentence(words), back=page_of(form))

    async def _question(self, name: str, order: PageOrder, form: PageForm, *, refused: str) -> Page:
        """Return the question before an order, with its form, and why the order was `refused` before."""
        subject = PageForm([(name, value) for name, value in form.multi_items() if name in order.hidden and value])
        act = await self._act(order, subject, self._operator)
        question, shown = await act.question(), order.shown
        if order.kind is Redial:  # people who were reached are called again only where that is ticked
            jobs = await get_jobs(self._operator.store, form.all("call"))
            shown += (_FORCE,) if any(job.state in _CALLED for job in jobs.values()) else ()
        values = {
            "action": name,
            "question": question,
            "fields": [each._replace(value=form.one(each.name) or each.value) for each in shown],
            "subject": [*subject.multi_items(), ("seen", question.token)],
            "back": page_of(form, otherwise=order.back),
            "is_irreversible": act.is_irreversible,
            "said": refused,
        }
        return Page(template="confirm.html", shown=values, status=409 if refused else 200)

    async def _carry_out(self, order: PageOrder, form: PageForm, person: Person) -> ActionDone:
        operator = person.acting(self._operator)
        more, notes, token = dict[str, object](), list[str](), form.one("seen")
        if order.kind is Resolve:
            if (verdict := form.one("verdict")) not in {_PLACED, _NOT_PLACED}:
                raise InvalidInputError("choose what happened: the call was placed, or it was not placed")
            asks = operator.time_at_8x8 if verdict == _NOT_PLACED else None
            more["recorded_at"] = await asks() if asks else None
        if order.kind is ImportNumbers:
            more["found"] = found = await self._numbers_in(form)
            notes.append(found.in_words)
        act = await self._act(order, form, operator, **more)
        if isinstance(act, Suppress) and not 0 < len(act.numbers) <= MOST_NUMBERS:
            raise InvalidInputError(f"give 1 to {MOST_NUMBERS} numbers, one on each line; for more, import a file")
        # The question of what is typed or uploaded showed no numbers.
        result = await (act.do() if order.kind in {Suppress, ImportNumbers} else act.do(token))
        if result.not_done:
            raise ActionRefusedError("; ".join(dict.fromkeys([result.message, *result.lines])))
        back = order.back if order.kind is Forget else page_of(form, otherwise=order.back)  # the call is gone
        return ActionDone("; ".join([*notes, *result.notes, result.message, *result.refused]), back)

    async def _act(self, order: PageOrder, form: PageForm, operator: Operator, **more: object) -> OperatorAction | Many:
        """Return the action, with what a form says in its fields; an order on calls is one on each that was ticked."""
        names = {each.name for each in fields(order.kind)}
        if order.kind is Forget:  # no address of a page has the number
            _, job = await operator.call(form.one("call"))
            more["number"] = job.destination

        def made(said: PageForm) -> OperatorAction:
            given: dict[str, Any] = {name: read(said) for name, read in _READ.items() if name in names} | more
            return order.kind(operator=operator, **given)

        if "call" not in names:
            return made(form)
        calls = form.all("call")
        if not 0 < len(calls) <= MOST_AT_ONCE:
            raise InvalidInputError(f"tick 1 to {MOST_AT_ONCE} calls first")
        typed = [(name, value) for name, value in form.multi_items() if name != "call"]
        return Many([made(PageForm([("call", call), *typed])) for call in calls])

    async def _numbers_in(self, form: PageForm) -> NumberFile:
        name, content = form.files.get("file", ("", b""))
        if not content:
            raise InvalidInputError("choose a file with numbers")
        columns, country = form.one("columns"), form.one("country").upper() or None
        roles = ColumnRoles.of(columns) if columns else NO_ROLES
        with uploading() as folder:
            path = folder / plain_name(name)
            await anyio.Path(path).write_bytes(content)
            try:
                async with self._files:
                    return await run_sync(lambda: read_number_file(path, roles=roles, country=country))
            except CampaignFileError as error:
                raise InvalidInputError(str(error).replace(str(path), "the file")) from None


def _refusal(error: VoiceflowError) -> str:
    """Return why an order is refused. Raises StoreError and FormRefusedError, which say nothing of the order."""
    if isinstance(error, StoreError | FormRefusedError):
        raise error
    return str(error)
