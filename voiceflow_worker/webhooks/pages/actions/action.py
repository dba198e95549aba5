"""The interface of an action: the question before it, and the sentence after it."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from urllib.parse import quote, urlencode

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.duration import read_duration
from voiceflow_worker.model.text.names import QUEUE_NAME
from voiceflow_worker.webhooks.pages.sign_in.forms import PageForm

LONGEST_REASON = 500

TimeAt8x8 = Callable[[], Awaitable[datetime | None]]
"""A function that asks 8x8 for the time of its clock; None if there is no answer."""


class FieldKind(StrEnum):
    """The kind of a form field, which decides how the field is drawn."""

    LINE = "line"
    LINES = "lines"
    CHOICE = "choice"
    TICKS = "ticks"
    TICK = "tick"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """A field of a form. `options` are the values of radio buttons or check boxes, each with its label."""

    name: str
    label: str
    kind: FieldKind = FieldKind.LINE
    value: str = ""
    help: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The question before an action. `rings` and `silent` say which phones will ring and which will not.

    `subject` is sent in hidden fields of the form. `back` is the page under /ui for people who do not confirm.
    `is_step` is True if the form changes nothing and only leads to the question.
    """

    title: str
    rings: tuple[str, ...]
    silent: tuple[str, ...]
    button: str
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


class UnknownSubjectError(InvalidInputError):
    """Raised when an action names a call, a batch or a queue that the store does not have."""


@dataclass(frozen=True, slots=True)
class ActingStore:
    """The store that actions change, and the policy of its workers. `time_at_8x8` asks 8x8 for the time."""

    store: Store
    policy: CallPolicy
    time_at_8x8: TimeAt8x8 | None = None

    def queue(self, name: str) -> CallQueue:
        """The queue with this name. Raises UnknownSubjectError for a text that cannot be the name of a queue."""
        if not QUEUE_NAME.fullmatch(name):
            raise UnknownSubjectError("no such queue: the address of this page does not name a queue")
        return CallQueue(self.store, name, policy=self.policy)

    async def call(self, job_id: str) -> tuple[CallQueue, Job]:
        """The queue of a call, and the call. Raises JobNotFoundError and UnknownSubjectError."""
        queue = self.queue(queue_of(job_id))
        return queue, await queue.get(job_id)


class PageAction(ABC):
    """An action. Its methods raise StoreError, InvalidInputError and JobError; the pages show the last two."""

    name: ClassVar[str]
    """The name of the action, which is the last part of its address."""

    def __init__(self, acting: ActingStore) -> None:
        self._acting = acting

    @abstractmethod
    def command(self, subject: PageForm) -> str:
        """The `voiceflow` command that does the same as the action."""

    @abstractmethod
    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. This changes nothing."""

    @abstractmethod
    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Carry out the action in the name of `who`."""


def command(*words: str, **options: str | None) -> str:
    """A command line of `voiceflow`, with the options that are not None."""
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join(["voiceflow", *words, *given])


def batch_page(queue: str, batch_id: str) -> str:
    """The page of a batch under /ui."""
    return f"batches/{quote(batch_id, safe='', errors='replace')}?{urlencode({'queue': queue}, errors='replace')}"


def call_page(job_id: str) -> str:
    """The page of a call under /ui."""
    return f"calls/{quote(job_id, safe='', errors='replace')}"


def reason_field(label: str, form: PageForm, *, name: str = "reason", required: bool = False) -> FormField:
    """The field in which a person gives a reason."""
    return FormField(name=name, label=label, value=form.one(name), required=required)


def end_in(form: PageForm, store: Store, *, label: str) -> datetime | None:
    """The time now plus the duration in the field `for`; None if the field is empty. Raises InvalidInputError."""
    text = form.one("for")
    try:
        return store.clock.now() + read_duration(text) if text else None
    except ValueError as error:
        raise InvalidInputError(f"{label} {text[:20]!r}: {error}") from None


def reason_in(form: PageForm, name: str = "reason") -> str:
    """The reason that a person gave. Raises InvalidInputError if it is too long."""
    text = form.one(name)
    if len(text) > LONGEST_REASON:
        raise InvalidInputError(f"the {name} is longer than {LONGEST_REASON} characters; make it shorter")
    return text
