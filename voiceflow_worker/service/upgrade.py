"""A store of the version before is taken along: its steps, and then its schema number, on the order of a person.

The steps leave alone what the version before reads, so processes of both use the store meanwhile. The number, which the
version before refuses, is raised once no worker and no receiver of it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

from voiceflow_worker.actions import ActionRefusedError, ActionResult, Operator, OperatorAction, Question
from voiceflow_worker.backends.health import Health, Schema, UpgradeStep
from voiceflow_worker.core.heartbeats import FRESH, Heartbeats
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.model.text.wording import count_of

NAMESPACE = "upgrade"
"""Namespace of the upgrade that was begun last: its schema number."""
_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeStore(OperatorAction):
    """The upgrade of a store of the version before. `health` is that of the store of the operator, which is open."""

    name_of_action: ClassVar[str] = "store upgrade"
    is_irreversible: ClassVar[bool] = True

    operator: Operator
    health: Health

    async def schema(self) -> Schema | None:
        """The schema of the store; None if it is already that of this version, or has none. Raises StoreError."""
        return await self.health.older_schema()

    async def question(self) -> Question:
        """What is to be done. Raises ActionRefusedError if nothing is, and StoreError."""
        schema, store = await self._schema(), self.operator.store
        steps = [f"Step: {step.meaning}." for step in await self._undone()] or ["No step is left but the number."]
        older = await _older(self.operator)
        waits = (
            f"{older}: the steps are taken beside them, and the number stays {schema.number} "
            "until they are replaced. Then give this order again."
            if older
            else "No worker and no receiver of the version before runs."
        )
        refused = (
            f"With schema {schema.known}, the version before cannot open the store: upgrade programs, schedules and "
            "Airflow that use it first."
        )
        asked = Question(
            title=f"Upgrade the store {store.url} from schema {schema.number} to {schema.known}?",
            will_be_called=("Calls go on meanwhile.",),
            will_not_be_called=(),
            facts=(*steps, waits, refused),
            button="Upgrade the store",
        )
        return replace(asked, version=self.version_of(asked))

    async def carry_out(self, state: str | None) -> ActionResult:  # noqa: ARG002 - each step sees what is done
        """Take the steps that are left, then raise the number. Raises ActionRefusedError, StoreError."""
        schema, store = await self._schema(), self.operator.store
        now = store.clock.now()
        begun = Put(NAMESPACE, "schema", str(schema.known), now + _KEPT)
        await store.write(BulkWrite(writes=(Write(puts=(begun,)),)), now=now)  # the audit log has it with this
        for step in self.health.upgrade_steps:
            while not await step.is_done(store):
                await step.take(store)
        if older := await _older(self.operator):
            return ActionResult(
                message=f"each step is taken, and the store keeps schema {schema.number}: {older}. "
                f"Stop them; of one that was killed, the sign of life ends after {FRESH.seconds} s. Then give "
                "this order again",
                not_done=True,
            )
        await self.health.raise_schema()
        return ActionResult(
            message=f"the store {store.url} has schema {schema.known}",
            documents=({"store": store.url, "schema": schema.known, "before": schema.number},),
        )

    async def _schema(self) -> Schema:
        if (schema := await self.schema()) is None:
            raise ActionRefusedError(f"the store {self.operator.store.url} has the schema of this version already")
        return schema

    async def _undone(self) -> Sequence[UpgradeStep]:
        return [step for step in self.health.upgrade_steps if not await step.is_done(self.operator.store)]


async def _older(operator: Operator) -> str:
    """The live workers and receivers of the version before, in words; empty if there are none."""
    workers, receivers = await Heartbeats(operator.store).older()
    found = [count_of(count, what) for count, what in ((workers, "worker"), (receivers, "receiver")) if count]
    return (
        f"{' and '.join(found)} of the version before {'runs' if workers + receivers == 1 else 'run'}" if found else ""
    )
