"""The key of a task, which is the same in each try, and the hold of a task that was stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from voiceflow_worker import CallQueue, InvalidInputError, VoiceflowError
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.model.jobs.gate import THEN, Gate
from voiceflow_worker.types import Actor

log = logging.getLogger(__name__)

DEFAULT_KEY = "{{ dag.dag_id }}.{{ run_id }}.{{ ti.task_id }}.{{ ti.map_index }}"


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
        """Return that of the task instance of this Airflow context; `key` is that of a person, if there is one."""
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


class _OtherHoldError(VoiceflowError):
    """Raised when a hold is not, or not only, that of earlier tries."""


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
        try:
            await self._acting(queue).hold(batch_id=self.batch_id, reason=reason)
            log.info("the task was stopped: batch %s is held until its next try", self.batch_id)
        except InvalidInputError as error:  # no call was stored
            log.info("the task was stopped, and nothing was held: %s", error)

    async def open(self, queue: CallQueue) -> None:
        """Open the batch if earlier tries alone hold it, under that very record."""
        now = queue.store.clock.now()
        is_late = self.late_at is not None and now >= datetime.fromisoformat(self.late_at)
        if is_late or (standing := await self._standing(queue)) is None or not self._is_of_earlier_try(standing):
            return

        def check(gate: Gate | None) -> None:
            if gate is None or not gate.is_closed(at=now) or not self._is_of_earlier_try(gate):
                raise _OtherHoldError

        try:
            await self._acting(queue).resume(batch_id=self.batch_id, check=check)
            log.info("this try goes on with batch %s, which a stop of an earlier try has held", self.batch_id)
        except _OtherHoldError:
            return

    async def _standing(self, queue: CallQueue) -> Gate | None:
        gate = (await gates_at(queue.store, queue.name, [self.batch_id])).get(self.batch_id)
        return gate if gate is not None and gate.is_closed(at=queue.store.clock.now()) else None

    def _acting(self, queue: CallQueue) -> CallQueue:
        return CallQueue(queue.store, queue.name, policy=queue.policy, by=Actor(on="Airflow", login=self.task))

    def _is_of_earlier_try(self, gate: Gate) -> bool:
        return {*gate.reason.split(THEN)} <= {self.reason(number) for number in range(1, self.try_number)}
