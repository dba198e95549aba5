"""What tasks have in common: the fields as arguments, the key, the hold of a stopped task, and the failures."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from voiceflow_worker import CallQueue, InvalidInputError, Job, JobState, VoiceflowError
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.model.jobs.gate import THEN, Gate, GateState
from voiceflow_worker.types import Actor

log = logging.getLogger(__name__)

DEFAULT_KEY = "{{ dag.dag_id }}.{{ run_id }}.{{ ti.task_id }}.{{ ti.map_index }}"


# -- arguments --------------------------------------------------------------------------------------------------------


def with_fields(of: Of, *, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a constructor take the fields of this kind as keywords: attributes, whose names are `field_names`."""
    names = [name for name in fields_of(of) if name not in without]

    def decorate(init: Callable[..., None]) -> Callable[..., None]:
        @wraps(init)
        def construct(self: Any, **kwargs: Any) -> None:
            self.field_names = tuple(names)
            for name in names:
                setattr(self, name, kwargs.pop(name, None))
            init(self, **kwargs)

        own = [each for each in signature(init).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        fields = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in names]
        rest = [each for each in signature(init).parameters.values() if each not in own]
        # Airflow reads the arguments of an operator, such as those of `partial`, from the signature of its constructor.
        construct.__signature__ = signature(init).replace(parameters=[*own, *fields, *rest])  # type: ignore[attr-defined]
        return construct

    return decorate


# -- keys and holds ---------------------------------------------------------------------------------------------------


def digest(*parts: object) -> str:
    """Return a digest of these parts, written as JSON."""
    text = json.dumps(parts, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class TaskKey:
    """The key of a task instance: its DAG, run, task and map index; or what a person gave, as one part."""

    parts: tuple[Any, ...]
    task: str
    """Task and run, for people."""

    @classmethod
    def of(cls, context: Mapping[str, Any], *, key: str | None) -> TaskKey:
        """Return the key of the task instance of this Airflow context, or the `key` of a person, if there is one."""
        ti = context["ti"]
        index = "" if ti.map_index < 0 else f"[{ti.map_index}]"
        parts = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index) if key is None else (key,)
        return cls(parts, f"task {ti.dag_id}.{ti.task_id}{index} of run {ti.run_id}")

    @property
    def batch_id(self) -> str:
        """Name of the task's batch: a person's key if it can be one, else the beginning of the key and a digest."""
        text = ".".join(map(str, self.parts))
        if len(self.parts) == 1 and re.fullmatch(r"[\w.+:@-]{1,50}", text, re.ASCII):
            return text
        beginning = re.sub(r"[^\w.+:@-]", "-", text[:33], flags=re.ASCII)
        return f"{beginning}.{digest(*self.parts)[:16]}"

    def call_key(self, called: str) -> str:
        """Return the unique key of a call to this number, or with this key of its own. It has no map index."""
        return f"airflow-{digest(*self.parts[:3], called)[:40]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHold:
    """The hold that a try of a task orders when it is stopped: `batch_id` is the task's own batch.

    `task` is its name for people, and `try_number` counts from 1. From `late_at` (ISO) on, no try opens a hold.
    """

    batch_id: str
    task: str
    try_number: int
    late_at: str | None

    def reason(self, try_number: int) -> str:
        """Return the reason of the hold of a try."""
        return f"Airflow stopped {self.task}, try {try_number}"

    async def order(self, queue: CallQueue) -> None:
        """Hold the batch. A person's hold until a time becomes one that a person opens."""
        reason, standing = self.reason(self.try_number), await self._standing(queue)
        if standing is not None and standing.until is not None:
            reason = f"{standing.reason or 'held by a person'}{THEN}{reason}"
        with suppress(InvalidInputError):  # no call was stored
            await self._acting(queue).hold(batch_id=self.batch_id, reason=reason)
            log.info("the task was stopped: batch %s is held until its next try", self.batch_id)

    async def open(self, queue: CallQueue) -> None:
        """Open the batch if earlier tries alone hold it, under that very record."""
        now = queue.store.clock.now()
        is_late = self.late_at is not None and now >= datetime.fromisoformat(self.late_at)
        if is_late or not self._is_of_earlier_try(await self._standing(queue)):
            return

        def check(gate: Gate | None) -> None:
            if not self._is_of_earlier_try(gate):
                raise InvalidInputError("a person holds the batch, or has opened it")

        with suppress(InvalidInputError):
            await self._acting(queue).resume(batch_id=self.batch_id, check=check)
            log.info("this try goes on with batch %s, which a stop of an earlier try has held", self.batch_id)

    async def _standing(self, queue: CallQueue) -> Gate | None:
        gate = (await gates_at(queue.store, queue.name, [self.batch_id])).get(self.batch_id)
        return gate if gate is not None and gate.is_closed(at=queue.store.clock.now()) else None

    def _acting(self, queue: CallQueue) -> CallQueue:
        return CallQueue(queue.store, queue.name, policy=queue.policy, by=Actor(on="Airflow", login=self.task))

    def _is_of_earlier_try(self, gate: Gate | None) -> bool:
        earlier = {self.reason(number) for number in range(1, self.try_number)}
        return gate is not None and gate.state is GateState.HELD and {*gate.reason.split(THEN)} <= earlier


# -- failures ---------------------------------------------------------------------------------------------------------


@contextmanager
def as_airflow_errors(subject: str) -> Generator[None]:
    """Raise errors of the library as Airflow exceptions, with messages that begin with `subject`."""
    try:
        yield
    except VoiceflowError as error:
        kind = AirflowFailException if isinstance(error, InvalidInputError) else AirflowException
        raise kind(f"{subject}: {error}") from error


def checked_fail_on(fail_on: Iterable[str], *, answers: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names as a tuple. Raises ValueError for one that is neither a final state nor one of the `answers`.

    None are answers that are not known: any name may be one.
    """
    names = (fail_on,) if isinstance(fail_on, str) else tuple(fail_on)
    states = [state.value for state in JobState if state.is_final]
    if answers is not None and (unknown := set(names).difference(states, answers)):
        raise ValueError(f"fail_on has {min(unknown)!r}, which is no final state ({', '.join(states)}) and no answer")
    return names


def described(job: Job) -> str:
    """Return how a call ended, or its present state, as a clause."""
    outcome = job.outcome.status_text if job.outcome is not None else job.reason
    details = ", ".join(filter(None, (outcome, job.answer and f"answer {job.answer}")))
    return f"call {job.id} to {job.number} is {job.state.value.replace('_', ' ')}{details and f' ({details})'}"


def judge(jobs: Sequence[Job], *, fail_on: Sequence[str], store: str) -> None:
    """Raise an Airflow exception for the first call whose state or answer is in `fail_on`, else for the first doubt."""
    bad = [job for job in jobs if job.state.is_final and not {job.state.value, job.answer}.isdisjoint(fail_on)]
    doubts = [job for job in jobs if job.state is JobState.IN_DOUBT]
    more = f" (The first of {len(bad or doubts)} such calls.)" if len(bad or doubts) > 1 else ""
    if bad:
        remedy = "No retry and no clear calls again: give another key, or start a new run of the DAG"
        raise AirflowFailException(f"{described(bad[0])}. {remedy}.{more}")
    if doubts:
        job = doubts[0]
        post = "" if job.open_post is None else f" --post {job.open_post.number}"
        raise AirflowException(
            f"{described(job)}: nobody knows whether 8x8 placed it, and neither a worker nor a retry calls again. Look "
            f"for it in your 8x8 account, run `voiceflow calls resolve {job.id} --placed|--not-placed{post} --note '…' "
            f"--store {store} --queue {job.queue}`, and clear this task: it goes on with the same call.{more}"
        )
