"""What people do to queues, calls and the suppression list: hold, resume, cancel, redial, resolve, suppress.

Each action has one question, its checks and its result. Commands and pages make an action, ask, carry it out, and show
the result. An action is bound to what its question showed (`Question.version`), all of it: `do` asks again, and
compares. What the action would overwrite (the gate of a queue, an entry of the list, a call) is a condition of its
write too, so nothing can come between. Its methods raise StoreError, InvalidInputError, JobError, ActionRefusedError
and ChangedSinceError.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

from voiceflow_worker.core.audit import Actor, AuditEntry, Interface, audited
from voiceflow_worker.core.base.identity import keyed_digest, queue_of
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Claim
from voiceflow_worker.errors import ChangedSinceError, JobError, JobNotFoundError, VoiceflowError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.wording import QUEUE_NAME
from voiceflow_worker.reporting.gates import gate_in_words

if TYPE_CHECKING:
    from voiceflow_worker.queue import CallQueue

CARRIED_OUT = "carried out"
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
    name beside it; and with the `key` of its request and the `claim` to that, as in `Actor`.
    """

    store: Store
    policy: CallPolicy
    name: str | None = None
    on: Interface = Interface.PYTHON
    login: str | None = None
    key: str | None = None
    claim: Claim | None = None
    time_at_8x8: TimeAt8x8 | None = None

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit log."""
        return Actor(on=self.on, login=self.login, name=self.name, key=self.key, claim=self.claim)

    @property
    def ordered_at(self) -> datetime:
        """When the action was first ordered: now, unless it was cut and goes on."""
        since = None if self.claim is None else self.claim.since
        return since or self.store.clock.now()

    def queue(self, name: str) -> CallQueue:
        """The queue with this name. Raises UnknownSubjectError for a text that cannot be the name of a queue."""
        require_name(name)
        # Not above: a hold needs none of what a queue can do beside, and every part of a second counts for it.
        from voiceflow_worker.queue import CallQueue

        return CallQueue(self.store, name, policy=self.policy)

    async def call(self, job_id: str) -> tuple[CallQueue, Job]:
        """The queue of a call, and the call. Raises JobNotFoundError."""
        queue = self.queue_of(job_id)
        return queue, await queue.get(job_id)

    def queue_of(self, job_id: str) -> CallQueue:
        """The queue of a call. Raises JobNotFoundError for a text that cannot be the id of a call."""
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
    happens. `button` is the answer yes. `version` stands for all that the person was shown, for `OperatorAction.do`
    (`OperatorAction.version_of`), and `state` for what the action would overwrite. `subject` names what the action is
    about, beside others (`actions.many`).
    """

    title: str
    will_be_called: tuple[str, ...]
    will_not_be_called: tuple[str, ...]
    button: str
    facts: tuple[str, ...] = ()
    version: str = ""
    state: str = ""
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
    """How several acts of one kind are told: the title of their question, their result, and what they are about.

    A command `asks` before several, and not before one. What a question is about is in each of its lines, or is told
    before those that are not about all (`in_each`).
    """

    title: str
    done: str
    nouns: tuple[str, str] = ("call", "calls")
    asks: bool = False
    in_each: bool = True


_ANSWERED = frozenset(
    {"operator", "note", "lasts", "until", "force", "placed", "recorded_at", "post", "at", "files"}
) | {
    "called",
    "unread_files",
}
"""The fields of actions that are no part of a question: who asks, and what is given with the answer."""


_NOT_ASKED = frozenset({"operator", "note", "recorded_at", "at", "files", "called", "new"})
"""The fields of actions by which one that is given again may differ, and those that an entry has by itself."""


_COUNT = re.compile(r"[0-9]{1,19}")


def changed_since(what: str, *, now: str = "") -> ChangedSinceError:
    """The error of an action on something that is no longer as it was shown."""
    stands = f": now {now}" if now else ""
    return ChangedSinceError(
        f"{what} has changed since it was shown{stands}. Nothing was done. Check it again, then decide"
    )


class OperatorAction(ABC):
    """Something that a person can do."""

    operator: Operator
    name_of_action: ClassVar[str]
    is_irreversible: ClassVar[bool] = False
    """Whether the action cannot be taken back, or only before phones ring: every interface asks first."""

    several: ClassVar[Several] = Several("{}?", "done")

    @property
    def label(self) -> str:
        """What the action is about, in words."""
        return self.name_of_action

    @abstractmethod
    async def question(self) -> Question:
        """The question before the action. This changes nothing. Raises an error if the action would be refused."""

    async def told_before(self) -> tuple[str, ...]:
        """What is said before it is carried out, where nobody is asked."""
        return ()

    def version_of(self, *shown: object, most: Sequence[int] = ()) -> str:
        """The version of a question: of the action, its subject, its values, and all that is `shown`.

        The counts in `most` fall by themselves, when calls are sent. A version stands while none has grown.
        """
        names = [each.name for each in fields(cast("Any", self)) if each.name not in _ANSWERED]
        said = [self.name_of_action, *((name, _plain(getattr(self, name))) for name in names), *shown]
        return ".".join([hashlib.sha256(repr(said).encode()).hexdigest()[:24], *map(str, most)])

    def as_shown(self, version: str) -> Self:
        """The action as of the time of a question."""
        return self

    async def _asked_again(self, expected_version: str) -> Question:
        try:
            question = await self.question()
        except (ActionRefusedError, JobError) as error:
            if isinstance(error, UnknownSubjectError | JobNotFoundError):
                raise
            raise changed_since(self.label, now=str(error)) from error
        head, *most = question.version.split(".")
        seen, *shown = expected_version.split(".")
        is_same = head == seen and len(most) == len(shown) and all(map(_COUNT.fullmatch, shown))
        if not is_same or any(int(now) > int(then) for now, then in zip(most, shown, strict=True)):
            raise changed_since(self.label)
        return question

    async def do(self, expected_version: str | None = None) -> ActionResult:
        """Carry out the action, if the version of its question still stands (else ChangedSinceError).

        The audit log gets an entry in the same write as what the action changes, and then the result. An action that
        leaves everything as it was has no entry.
        """
        who, act, state = self.operator, self, None
        if expected_version is not None:
            act = self.as_shown(expected_version)
            state = (await act._asked_again(expected_version)).state  # noqa: SLF001 - the same action
        async with audited(who.store, self.entry(), who.claim) as store:
            done = await act.within(store.store).carry_out(state)
            store.result = None if done.not_done else done.message
        return done

    async def resumed(self) -> Mapping[str, Any]:
        """Carry out to its end what was cut after its first write, and return its document.

        What stands of it is passed over. The entry of the audit log gets the result that it lacks.
        """
        who = self.operator
        async with audited(who.store, self.entry(), who.claim) as store:
            document = await self.within(store.store).answer_again(None)
            store.result = store.result or CARRIED_OUT
        return document

    def entry(self) -> AuditEntry:
        """The entry of the audit log, without a result."""
        about, at = self.about(), self.operator.ordered_at
        return AuditEntry.of(
            self.actor(), self.name_of_action, at=at, note=self.stored_note(), queue=about.get("queue"),
            batch=about.get("batch"), call=about.get("call"), numbers=self.about_numbers(), asked=self._asked(),
        )  # fmt: skip

    def within(self, store: Store) -> Self:
        """The action on this store."""
        return cast("Self", replace(cast("Any", self), operator=replace(self.operator, store=store)))

    def by(self, actor: Actor) -> Self:
        """The action for another actor."""
        given = {each.name: getattr(actor, each.name) for each in fields(Actor)}
        return cast("Self", replace(cast("Any", self), operator=replace(self.operator, **given)))

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The document for who asks again for what was begun; `answer` was the one to the first request, if it got one.

        Without one, the process was killed in the middle, and the action is carried out to its end. What could make
        phones ring is not carried out again.
        """
        return (await self.do()).documents[0] if answer is None else answer

    def kept_answer(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is kept of an answer, for longer than calls: nothing of a person, for `answer_again` to complete."""
        return answer

    @abstractmethod
    async def carry_out(self, state: str | None) -> ActionResult:
        """Do what `do` orders, over this `state` of the question alone; None is any."""

    def about(self) -> Mapping[str, str | None]:
        """The `queue`, `batch` and `call` that the action is about, as far as there are any."""
        return {}

    def actor(self) -> Actor:
        """Who acts, as the audit log keeps it."""
        return self.operator.actor

    def _asked(self) -> str:
        """A digest of what is ordered, which shows nothing of a person."""
        names = [each.name for each in fields(cast("Any", self)) if each.name not in _NOT_ASKED]
        asked = [(name, _plain(getattr(self, name))) for name in names]
        return keyed_digest(self.operator.store.id, repr(asked))

    def stored_note(self) -> str | None:
        """The reason that the audit log keeps."""
        return cast("str | None", getattr(self, "note", None))

    def about_numbers(self) -> Sequence[str]:
        """The telephone numbers that the action is about, as they were given."""
        return ()


def _plain(value: object) -> object:
    """A value of an action, as one text: whoever leaves a field out means the same as by None. A file is its digest."""
    value = getattr(value, "digest", value)
    if isinstance(value, Mapping):
        given = cast("Mapping[str, object]", value)
        return sorted((name, repr(each)) for name, each in given.items() if each is not None)
    return list(cast("Sequence[object]", value)) if isinstance(value, list | tuple) else value


async def active_holds(store: Store, queue: str, batch: str | None) -> list[str]:
    """Sentences about the gates that keep calls from being sent."""
    closed = [gate for gate in await gates_of(store, queue) if gate.keeps_back(batch, at=store.clock.now())]
    return [f"Nothing is sent at present: {gate_in_words(gate)}." for gate in closed]
