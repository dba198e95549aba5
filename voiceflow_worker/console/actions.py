"""What operators order on the pages: on queues, batches, calls and numbers."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal
from urllib.parse import quote, urlencode

import anyio
from anyio.to_thread import run_sync

from voiceflow_worker.acts import (
    Act,
    ActRefusedError,
    CancelBatch,
    CancelCall,
    Hold,
    ImportNumbers,
    Operator,
    Question,
    Redial,
    RedialBatch,
    Resolve,
    Resume,
    Suppress,
    Unsuppress,
)
from voiceflow_worker.campaigns.files.number_file import NumberFile, read_number_file
from voiceflow_worker.console.sessions import PageForm
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, JobError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import read_redial_on
from voiceflow_worker.model.text.wording import count_of, read_duration

LONGEST_NOTE = 500


FieldKind = Literal["line", "lines", "choice", "ticks", "tick", "file"]
"""The kind of a form field, which decides how the field is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """A field of a form. `options` are the values of radio buttons or check boxes, each with its label."""

    name: str
    label: str
    kind: FieldKind = "line"
    value: str = ""
    help: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()


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
    is_for_good: bool = False
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class ActionDone:
    """The result of an action: a sentence, and the page under /ui that shows it."""

    said: str
    back: str


class PageAction(ABC):
    """The form of an act. Its methods raise StoreError, and the errors of acts, which the pages show."""

    name: ClassVar[str]
    """The name of the action, which is the last part of its address."""
    words: ClassVar[str]
    options: ClassVar[str] = ""
    """The words of the command that does the same, before and after the fields of the form that it names."""
    argument: ClassVar[str] = ""
    """The field that the command names without an option."""
    hidden: ClassVar[tuple[str, ...]] = ("queue", "batch", "call")
    """The hidden fields of the form."""
    room: ClassVar[str] = ""
    """The page under /ui for people who do not confirm, if the form names neither a call nor a batch."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def command(self, subject: PageForm) -> str:
        """The `voiceflow` command that does the same as the action."""
        argument = subject.one(self.argument) if self.argument else ""
        named = [word for name in ("queue", "batch") if (text := subject.exactly(name)) for word in (f"--{name}", text)]
        options = self.options.format(outcome=shlex.quote(",".join(subject.all("outcome")) or "no_answer"))
        return " ".join(filter(None, ["voiceflow", self.words, shlex.join(filter(None, [argument, *named])), options]))

    @abstractmethod
    async def made(self, form: PageForm, operator: Operator) -> Act:
        """The act with what the form says."""

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        """The fields that a person fills in; by default the note that the command has too."""
        return (note_field("Note", form),) if "--note " in self.options else ()

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. This changes nothing. What was typed stays as it is, even if it is wrong."""
        act = await self.made(PageForm(subject.some(*self.hidden)), self._operator)
        question = await act.question()
        return Confirmation(
            question=question,
            fields=await self.fields(subject),
            subject=(*subject.some(*self.hidden), ("seen", question.seen)),
            back=page_of(subject, otherwise=self.room),
            is_for_good=act.is_for_good,
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Carry out the action in the name of `who`."""
        act = await self.made(form, replace(self._operator, name=who))
        result = await act.do(form.one("seen"))
        if result.undone:
            raise ActRefusedError("; ".join(dict.fromkeys([result.said, *result.lines])))
        return ActionDone("; ".join([*result.notes, result.said]), page_of(form, otherwise=self.room))


def page_of(form: PageForm, *, otherwise: str = "") -> str:
    """The page under /ui of the call or of the batch that a form names, or else another page."""
    calls, batch = form.all("call"), form.exactly("batch")
    if len(calls) == 1:
        return call_page(calls[0])
    queue = urlencode({"queue": form.one("queue")}, errors="replace")
    return f"batches/{quote(batch, safe='', errors='replace')}?{queue}" if batch else otherwise


def call_page(job_id: str) -> str:
    """The page of a call under /ui."""
    return f"calls/{quote(job_id, safe='', errors='replace')}"


def note_field(label: str, form: PageForm, *, required: bool = False) -> FormField:
    """The field in which a person gives a reason."""
    return FormField(name="note", label=label, value=form.one("note"), required=required)


def duration_in(form: PageForm, *, label: str) -> timedelta | None:
    """The duration in the field `for`; None if the field is empty. Raises InvalidInputError."""
    text = form.one("for")
    try:
        return read_duration(text) if text else None
    except ValueError as error:
        raise InvalidInputError(f"{label} {text[:20]!r}: {error}") from None


def note_in(form: PageForm) -> str:
    """The note that a person gave. Raises InvalidInputError if it is too long."""
    text = form.one("note")
    if len(text) > LONGEST_NOTE:
        raise InvalidInputError(f"the note is longer than {LONGEST_NOTE} characters; make it shorter")
    return text


INBOX = "doubts"
MOST_CALLS = 100
_CALLED = frozenset({JobState.COMPLETED, JobState.ACCEPTED})
_PLACED, _NOT_PLACED = "placed", "not-placed"


class CancelCallAction(PageAction):
    """The cancellation of a call that was not sent."""

    name: ClassVar[str] = "cancel-call"
    words: ClassVar[str] = "calls cancel"
    argument: ClassVar[str] = "call"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return CancelCall(operator=operator, call=form.one("call"), note=note_in(form))


class RedialAction(PageAction):
    """The redial of a call that has ended."""

    name: ClassVar[str] = "redial"
    words: ClassVar[str] = "calls redial"
    argument: ClassVar[str] = "call"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        force = form.one("force") == "yes"
        return Redial(operator=operator, call=form.one("call"), note=note_in(form), force=force)

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        _, job = await self._operator.call(form.one("call"))
        label = "Call again, although this person was reached"
        force = (FormField(name="force", label=label, kind="tick"),) if job.state in _CALLED else ()
        return (*await PageAction.fields(self, form), *force)


class ResolveAction(PageAction):
    """The resolution of one or several doubts, with a note."""

    name: ClassVar[str] = "resolve"
    words: ClassVar[str] = "calls resolve"
    argument: ClassVar[str] = "call"
    options = "--placed|--not-placed --note …"
    room = INBOX

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return self._each(form, operator)[0]

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        return (
            FormField(
                name="verdict",
                label="What happened",
                kind="choice",
                value=form.one("verdict"),
                required=True,
                options=((_PLACED, "It was placed"), (_NOT_PLACED, "It was not placed")),
            ),
            note_field("How you know", form, required=True),
        )

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question about all of the calls. Raises JobError for a call that is not in doubt."""
        acts = self._each(subject, self._operator)
        asked = [await act.question() for act in acts]
        question = asked[0]
        if len(asked) > 1:
            jobs = [(await self._operator.call(act.call))[1] for act in acts]
            numbers = ", ".join(f"{job.destination} {job.name}".strip() for job in jobs)
            lines = [f"You decide about {numbers}.", *(line for each in asked for line in each.rings)]
            question = Question(
                title=f"Resolve {len(asked)} calls in doubt?",
                rings=tuple(dict.fromkeys(lines)),
                silent=question.silent,
                button=question.button,
            )
        shown = [(("call", act.call), (f"seen {act.call}", each.seen)) for act, each in zip(acts, asked, strict=True)]
        return Confirmation(
            question=question,
            fields=await self.fields(subject),
            subject=tuple(pair for pairs in shown for pair in pairs),
            back=page_of(subject, otherwise=INBOX),
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Resolve the calls. A call that cannot be resolved yet stays in doubt, and is named in the result.

        A call also stays in doubt if its POST in doubt is no longer the one that the person saw and decided about.
        """
        verdict = form.one("verdict")
        if verdict not in {_PLACED, _NOT_PLACED}:
            raise InvalidInputError("choose what happened: the call was placed, or it was not placed")
        operator = replace(self._operator, name=who)
        witnessed = None
        if verdict == _NOT_PLACED and operator.time_at_8x8 is not None:
            witnessed = await operator.time_at_8x8()
        done, refused = list[str](), list[str]()
        for act in self._each(form, operator):
            try:
                await replace(act, witnessed=witnessed).do(form.one(f"seen {act.call}"))
                done.append(act.call)
            except (ActRefusedError, JobError) as error:
                refused.append(str(error))
        if not done:
            raise InvalidInputError("; ".join(refused))
        said = f"{count_of(len(done), 'call')} resolved as {verdict.replace('-', ' ')}"
        return ActionDone("; ".join([said, *refused]), call_page(done[0]) if len(done) == 1 else INBOX)

    def _each(self, form: PageForm, operator: Operator) -> list[Resolve]:
        calls, note = form.all("call"), note_in(form)
        if not calls:
            raise InvalidInputError("no call was chosen; tick the calls to resolve")
        if len(calls) > MOST_CALLS:
            raise InvalidInputError(f"{len(calls)} calls are too many; resolve at most {MOST_CALLS} at once")
        placed = form.one("verdict") == _PLACED
        return [Resolve(operator=operator, call=call, note=note, placed=placed) for call in calls]


PAGE = "suppression"
MOST_AT_ONCE = 1000


class ListAction(PageAction):
    """The addition of numbers to the list."""

    hidden: ClassVar[tuple[str, ...]] = ()
    room = PAGE

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        country = "Such as SG, or international for digits that begin with their country code."
        return (
            note_field("Note", form),
            FormField(name="for", label="For how long", value=form.one("for"), help="Such as 30d. Empty: for good."),
            FormField(name="country", label="Country of national numbers", value=form.one("country"), help=country),
        )


class SuppressAction(ListAction):
    """The addition of numbers to the list."""

    name: ClassVar[str] = "suppress"
    words: ClassVar[str] = "suppress add NUMBER"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Suppress(
            operator=operator,
            numbers=_numbers(form),
            country=_country(form),
            note=note_in(form),
            lasts=duration_in(form, label="for"),
        )

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        """The fields; that of the numbers is filled in if the form names a call."""
        text, label = form.one("numbers"), "Numbers, one on each line"
        if job_id := form.one("call"):
            text = (await self._operator.call(job_id))[1].destination
        numbers = FormField(name="numbers", label=label, kind="lines", value=text, required=True)
        return (numbers, *await ListAction.fields(self, form))

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        if not 0 < len(_numbers(form)) <= MOST_AT_ONCE:
            raise InvalidInputError(f"give 1 to {MOST_AT_ONCE} numbers, one on each line; for more, import a file")
        return await ListAction.act(self, form, who=who)


class UnsuppressAction(PageAction):
    """The removal of a number from the list."""

    name: ClassVar[str] = "unsuppress"
    words: ClassVar[str] = "suppress remove"
    argument: ClassVar[str] = "number"
    hidden: ClassVar[tuple[str, ...]] = ("number",)
    room: ClassVar[str] = PAGE

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Unsuppress(operator=operator, numbers=[form.one("number")])


class ImportNumbersAction(ListAction):
    """The addition of the numbers in a file to the list."""

    name: ClassVar[str] = "import-numbers"
    words: ClassVar[str] = "suppress import FILE"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        """The act. The file is not read before it is sent."""
        read = partial(_numbers_in, form.file or b"", columns=_columns(form), country=_country(form))
        found = await run_sync(read) if form.file else None
        return ImportNumbers(
            operator=operator,
            found=found,
            skips_bad=form.one("skip") == "yes",
            note=note_in(form),
            lasts=duration_in(form, label="for"),
        )

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        file = "A CSV with a column of numbers, or one number on each line"
        skip = "Skip lines that are not numbers"
        return (
            FormField(name="file", label=file, kind="file", required=True),
            FormField(
                name="column",
                label="Names of the columns, if they are unusual or several, with commas between them",
                value=form.one("column"),
            ),
            *await ListAction.fields(self, form),
            FormField(name="skip", label=skip, kind="tick", value=form.one("skip")),
        )


def _numbers(form: PageForm) -> list[str]:
    return [line.strip() for line in form.one("numbers").splitlines() if line.strip()]


def _country(form: PageForm) -> str | None:
    return form.one("country").upper() or None


def _columns(form: PageForm) -> list[str]:
    return [name for part in form.one("column").split(",") if (name := part.strip())]


def _numbers_in(content: bytes, *, columns: Sequence[str], country: str | None) -> NumberFile:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.csv"
        path.write_bytes(content)
        try:
            return read_number_file(path, columns=columns, country=country)
        except CampaignFileError as error:
            raise InvalidInputError(str(error).replace(str(path), "the file")) from None


COUNTING_LIMIT = timedelta(seconds=25)
REDIALLING_LIMIT = timedelta(seconds=30)
"""The time limit of a redial. After a refused redial the calls are counted again, so this limit and `COUNTING_LIMIT`
together must stay below the time limit of an action."""
_OUTCOMES = {"no_answer": "no answer", "busy": "busy", "canceled": "canceled", "failed": "failed or error"}
"""The outcomes that can be redialled, as `--outcome` names them, with their labels."""


class HoldAction(PageAction):
    """The hold of a queue or of one batch."""

    name: ClassVar[str] = "hold"
    words: ClassVar[str] = "hold"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Hold(
            operator=operator,
            queue=form.one("queue"),
            batch=form.exactly("batch") or None,
            note=note_in(form),
            lasts=duration_in(form, label="resume after"),
        )

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        text = "Such as 10m or 2h. Leave this empty to hold until somebody resumes."
        lasts = FormField(name="for", label="Resume automatically after", value=form.one("for"), help=text)
        return (note_field("Note", form), lasts)


class ResumeAction(PageAction):
    """The resumption of a held queue or batch."""

    name: ClassVar[str] = "resume"
    words: ClassVar[str] = "resume"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Resume(operator=operator, queue=form.one("queue"), batch=form.exactly("batch") or None)


class CancelBatchAction(PageAction):
    """The cancellation of a batch. It cannot be undone."""

    name: ClassVar[str] = "cancel-batch"
    words: ClassVar[str] = "calls cancel"
    options: ClassVar[str] = "--note …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        batch = form.exactly("batch") or None
        return CancelBatch(operator=operator, queue=form.one("queue"), batch=batch, note=note_in(form))


class RedialBatchAction(PageAction):
    """The redial of a batch by outcome. A person first chooses outcomes, and then sees how many phones will ring."""

    name: ClassVar[str] = "redial-batch"
    words: ClassVar[str] = "calls redial"
    options: ClassVar[str] = "--outcome {outcome} --note …"
    hidden: ClassVar[tuple[str, ...]] = ("queue", "batch", "outcome", "times")

    async def made(self, form: PageForm, operator: Operator) -> RedialBatch:
        return RedialBatch(
            operator=operator,
            queue=form.one("queue"),
            batch=form.exactly("batch") or None,
            note=note_in(form),
            outcomes=form.all("outcome"),
            times=_times(form),
        )

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action, with a count of the calls; without outcomes, the choice of outcomes."""
        if not subject.all("outcome"):
            return await self._choice(subject)
        too_long = f"the batch has too many calls to be counted here; run this command instead: {self.command(subject)}"
        async with _within(COUNTING_LIMIT, too_long):
            return await PageAction.confirmation(self, subject)

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Put the counted calls back into the queue, and no other calls."""
        too_long = "not all calls were redialled in time: redial the batch again; no call is redialled twice"
        async with _within(REDIALLING_LIMIT, too_long):
            return await PageAction.act(self, form, who=who)

    async def _choice(self, form: PageForm) -> Confirmation:
        act = await self.made(form, self._operator)
        batch, _ = act.name, await act.counted()
        counts = (await self._operator.store.totals(act.queue, batch=batch)).outcomes
        found = {word: sum(counts.get(status.value, 0) for status in read_redial_on(word)) for word in _OUTCOMES}
        options = tuple(
            (word, f"{words}: {count_of(found[word], 'call')}") for word, words in _OUTCOMES.items() if found[word]
        )
        if not options:
            raise InvalidInputError(f"no call of batch {batch} has ended in a way that can be redialled")
        return Confirmation(
            question=Question(
                title=f"Redial calls of batch {batch}",
                rings=("No phone yet. The next page says how many phones will ring, and asks again.",),
                silent=("Calls in doubt, calls that were answered, and people who opted out.",),
                button="Count them",
            ),
            fields=(
                FormField(name="outcome", label="Calls that ended with", kind="ticks", options=options),
                FormField(
                    name="times",
                    label="Largest number of redials by people, for each call",
                    value="1",
                    help="With 1, calls that somebody redialled before are left out.",
                ),
            ),
            subject=tuple(form.some("queue", "batch")),
            back=page_of(form),
            is_step=True,
        )


@asynccontextmanager
async def _within(limit: timedelta, otherwise: str) -> AsyncGenerator[None]:
    """Cancel the block after `limit`, and raise an InvalidInputError whose message is `otherwise`."""
    with anyio.move_on_after(limit.total_seconds()) as scope:
        yield
    if scope.cancelled_caught:
        raise InvalidInputError(otherwise)


def _times(form: PageForm) -> int:
    text = form.one("times") or "1"
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 4 and int(text)):
        raise InvalidInputError(f"{text[:20]!r} is not a number of redials; give 1 to 999")
    return int(text)
