"""The interface of an action: the question before it, and the sentence after it."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar, Literal
from urllib.parse import quote, urlencode

from voiceflow_worker.acts import Act, ActRefusedError, Operator, Question
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.webhooks.pages.sign_in.sessions import PageForm

LONGEST_REASON = 500


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
        """The fields that a person fills in; by default the reason or the note that the command has too."""
        named = [name for name in ("reason", "note") if f"--{name} " in self.options]
        return tuple(reason_field(name.title(), form, name=name) for name in named)

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


def reason_field(label: str, form: PageForm, *, name: str = "reason", required: bool = False) -> FormField:
    """The field in which a person gives a reason."""
    return FormField(name=name, label=label, value=form.one(name), required=required)


def duration_in(form: PageForm, *, label: str) -> timedelta | None:
    """The duration in the field `for`; None if the field is empty. Raises InvalidInputError."""
    text = form.one("for")
    try:
        return read_duration(text) if text else None
    except ValueError as error:
        raise InvalidInputError(f"{label} {text[:20]!r}: {error}") from None


def reason_in(form: PageForm, name: str = "reason") -> str:
    """The reason that a person gave. Raises InvalidInputError if it is too long."""
    text = form.one(name)
    if len(text) > LONGEST_REASON:
        raise InvalidInputError(f"the {name} is longer than {LONGEST_REASON} characters; make it shorter")
    return text
