"""What people do to queues, calls and the suppression list: hold, resume, cancel, redial, resolve, suppress.

Commands, pages and programs make an action, ask its question, carry it out, and show the result. The question has a
token of what the action would overwrite: the hold of a queue, an entry of the list, a call. `do` takes it to the store
as a condition of the write, so nothing can come between. A resume and the redial of a batch also let no more phones
ring than their question said. Methods raise StoreError, InvalidInputError, JobError, ActionRefusedError and
ChangedSinceError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from voiceflow_worker.core.audit import Actor, AuditEntry, Interface, audited
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import ChangedSinceError, JobNotFoundError, VoiceflowError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import QUEUE_NAME
from voiceflow_worker.reporting.gates import gate_in_words

if TYPE_CHECKING:
    from voiceflow_worker.queue import CallQueue

LONGEST_NAMED = 100
"""The most characters of a text that a refusal repeats."""

TimeAt8x8 = Callable[[], Awaitable[datetime | None]]
"""A function that asks 8x8 for the time of its clock; None if there is no answer."""


class ActionRefusedError(VoiceflowError):
    """Raised when an action cannot be done as things stand. Nothing was changed."""


class UnknownSubjectError(ActionRefusedError):
    """Raised when an action names a queue or a batch that the store does not have."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who acts on a store, with the policy of its workers. Without a `name`, reasons name nobody.

    Each action is kept in the audit log with the interface that it was ordered `on`, the `login` of the person, and the
    name beside it.
    """

    store: Store
    policy: CallPolicy
    name: str | None = None
    on: Interface = Interface.PYTHON
    login: str | None = None
    time_at_8x8: TimeAt8x8 | None = None

    @property
    def actor(self) -> Actor:
        """Person or program that acts, for the audit log."""
        return Actor(on=self.on, login=self.login, name=self.name)

    def queue(self, name: str) -> CallQueue:
        """Return the queue with this name. Raises UnknownSubjectError for a text that cannot be the name of a queue."""
        require_name(name)
        # Not above: a hold needs none of what a queue can do beside, and every part of a second counts for it.
        from voiceflow_worker.queue import CallQueue

        return CallQueue(self.store, name, policy=self.policy)

    async def call(self, job_id: str) -> tuple[CallQueue, Job]:
        """Return the queue of a call, and the call. Raises JobNotFoundError."""
        queue = self.queue_of(job_id)
        return queue, await queue.get(job_id)

    def queue_of(self, job_id: str) -> CallQueue:
        """Return the queue of a call. Raises JobNotFoundError for a text that cannot be the id of a call."""
        name = queue_of(job_id)
        if not QUEUE_NAME.fullmatch(name):
            raise JobNotFoundError(job_id[:LONGEST_NAMED])
        return self.queue(name)


def require_name(queue: str) -> None:
    """Raise UnknownSubjectError for a text that cannot be the name of a queue."""
    if not QUEUE_NAME.fullmatch(queue):
        raise UnknownSubjectError(
            f"{queue[:LONGEST_NAMED]!r} cannot be the name of a queue; give up to 16 small letters, digits, hyphens"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question before an action.

    `will_be_called` and `will_not_be_called` say which phones will ring and which will not, and `facts` what else
    happens. `button` is the answer yes. `token` names what the action would overwrite, for `OperatorAction.do`.
    `subject` names what the action is about, beside others (`actions.many`).
    """

    title: str
    will_be_called: tuple[str, ...]
    will_not_be_called: tuple[str, ...]
    button: str
    facts: tuple[str, ...] = ()
    token: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """The result of an action: a sentence, remarks, and one JSON document for each thing that was changed.

    `lines` say more than the sentence. `not_done` means that something was left as it was, and the sentence says why;
    `refused` says it of some of several.
    """

    message: str
    documents: tuple[Mapping[str, object], ...] = ()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    not_done: bool = False
    refused: tuple[str, ...] = ()


class Several(NamedTuple):
    """The words for several actions on calls: the title of their question, and their result.

    With `asks`, a command asks before several of them, though not before one.
    """

    title: str
    done: str
    asks: bool = False


def changed_since(what: str, *, now: str = "") -> ChangedSinceError:
    """Return the error of an action on something that is no longer as it was shown."""
    state = f": now {now}" if now else ""
    return ChangedSinceError(
        f"{what} has changed since it was shown{state}. Nothing was done. Check it again, then decide"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction(ABC):
    """Something that a person can do. The audit log keeps the `note`, which says why."""

    name_of_action: ClassVar[str]
    is_irreversible: ClassVar[bool] = False
    """Whether the action cannot be taken back, or only before phones ring: every interface asks first."""
    several: ClassVar[Several] = Several("{}?", "done")

    operator: Operator
    note: str | None = None

    @property
    def label(self) -> str:
        """Subject of the action in words."""
        return self.name_of_action

    async def question(self) -> Question:
        """Make the question before the action; this changes nothing. Raises an error if it would be refused.

        One that no interface asks about names itself alone.
        """
        return Question(title=f"{self.label}?", will_be_called=(), will_not_be_called=(), button=self.name_of_action)

    @abstractmethod
    async def carry_out(self, token: str | None) -> ActionResult:
        """Do what `do` orders, over what the token names alone; None is anything."""

    def about(self) -> Mapping[str, Any]:
        """Return what the audit log says of the subject: its queue, batch, call or numbers, and another note."""
        return {}

    async def do(self, token: str | None = None) -> ActionResult:
        """Carry out the action; with the `token` of its question, only if that still holds (else ChangedSinceError).

        The audit log gets an entry in the same write as what the action changes, and then the result. An action that
        leaves everything as it was has no entry.
        """
        who = self.operator
        async with audited(who.store, self.entry()) as store:
            done = await self.within(store.store).carry_out(token)
            store.result = None if done.not_done else done.message
        return done

    def entry(self) -> AuditEntry:
        """Make the entry of the audit log, without a result."""
        said: dict[str, Any] = {"note": self.note, **self.about()}
        return AuditEntry.of(self.actor(), self.name_of_action, at=self.operator.store.clock.now(), **said)

    def actor(self) -> Actor:
        """Return who acts, as the audit log keeps it."""
        return self.operator.actor

    def within(self, store: Store) -> Self:
        """Return the action on this store."""
        return replace(self, operator=replace(self.operator, store=store))


async def active_holds(store: Store, queue: str, batch: str | None) -> list[str]:
    """Return sentences about the gates that keep calls from being sent."""
    closed = [gate for gate in await gates_of(store, queue) if gate.keeps_back(batch, at=store.clock.now())]
    return [f"Nothing is sent at present: {gate_in_words(gate)}." for gate in closed]
