"""What people do to an escalation that goes on: acknowledge it, or stop it. Commands and pages ask and act by these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from voiceflow_worker.actions import ActionResult, Operator, OperatorAction, Question, UnknownSubjectError
from voiceflow_worker.errors import EscalationNotFoundError
from voiceflow_worker.model.text.wording import by_person
from voiceflow_worker.service.escalation_state import EscalationStatus
from voiceflow_worker.service.escalations import Escalations


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationAction(OperatorAction):
    """An action on the escalation with an id or a key. It calls nobody: what ends an escalation only stops calls."""

    button: ClassVar[str]

    operator: Operator
    queue: str
    escalation: str
    note: str | None = None

    async def question(self) -> Question:
        _, status = await self._found()
        return Question(
            title=f"{self.button} the escalation {status.unique_key}?",
            will_be_called=("Nobody further. A phone that rings already may ring on.",),
            will_not_be_called=(f"{status.in_words()}. It says: {status.escalation.say}",),
            button=self.button,
        )

    async def do(self, expected_version: str | None = None) -> ActionResult:
        """End the escalation, however it stands: the order is kept with who gave it, in the write that ends it."""
        return await self.carry_out(expected_version)

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The escalation as it is now."""
        return (await self.do()).documents[0]

    def kept_answer(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing: the escalation says it."""
        return {}

    async def carry_out(self, state: str | None) -> ActionResult:
        escalations, status = await self._found()
        status = await self.end(escalations, status.id)
        return ActionResult(message=f"{status.unique_key}: {status.in_words()}", documents=(status.as_json(),))

    @abstractmethod
    async def end(self, escalations: Escalations, escalation_id: str) -> EscalationStatus:
        """End it. Raises StoreError."""

    async def _found(self) -> tuple[Escalations, EscalationStatus]:
        escalations = Escalations(self.operator.queue(self.queue))
        try:
            by_key = await escalations.find(self.escalation)
            return escalations, by_key or await escalations.get(self.escalation)
        except EscalationNotFoundError as error:
            raise UnknownSubjectError(str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeEscalation(EscalationAction):
    """The key of an escalation, without a call. A program may say `who` acknowledges."""

    name_of_action: ClassVar[str] = "acknowledge"
    button: ClassVar[str] = "Acknowledge"

    who: str | None = None

    async def end(self, escalations: Escalations, escalation_id: str) -> EscalationStatus:
        actor = self.operator.actor
        return await escalations.acknowledge(escalation_id, by=replace(actor, name=self.who or actor.name))


class StopEscalation(EscalationAction):
    """The end of an escalation that nobody has acknowledged."""

    name_of_action: ClassVar[str] = "stop"
    button: ClassVar[str] = "Stop"

    async def end(self, escalations: Escalations, escalation_id: str) -> EscalationStatus:
        reason = self.note or by_person(self.operator.name, None, "stopped")
        return await escalations.stop(escalation_id, reason=reason, by=self.operator.actor)
