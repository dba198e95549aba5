"""Actions on the held calls of a batch, whose import has not ended: release them, or discard them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from voiceflow_worker.actions import ActionRefusedError, ActionResult, Question, active_holds, changed_since
from voiceflow_worker.actions.queues import BatchAction
from voiceflow_worker.core.imports import StagedImport
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import by_person, count_of
from voiceflow_worker.reporting.gates import closed_in_words, gate_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedAction(BatchAction):
    """An action on the held calls of a batch: those that were counted."""

    async def imports(self, state: str | None = None) -> Sequence[StagedImport]:
        """The imports of the batch that have not ended.

        Raises ActionRefusedError if there is none, and ChangedSinceError if they have another `state`.
        """
        name, _ = self.name, await self.counted()
        found = await self.calls.staged(name)
        if not found:
            raise ActionRefusedError(f"batch {name} has no held calls: each of its imports has ended")
        if half := [each for each in found if each.gate.is_half_applied]:
            raise ActionRefusedError(
                f"nothing was changed: calls that batch {name} had say already what the new list says, and others not "
                f"yet. {closed_in_words(half[0].gate)}"
            )
        if state is not None and state != _state_of(found):
            raise changed_since(f"what the imports hold in batch {name}", now=_calls(found))
        return found


class ReleaseStaged(StagedAction):
    """The order that lets the held calls of a batch ring, although their import has not ended."""

    name_of_action: ClassVar[str] = "release"

    async def question(self) -> Question:
        found = await self.imports()
        calls = _calls(found)
        return Question(
            title=f"Let {calls} of {self.label} ring, whose import has not ended?",
            will_be_called=tuple(f"{count_of(each.calls, 'call')}: {gate_in_words(each.gate)}." for each in found),
            will_not_be_called=(
                "Rows that the import has not stored. To call them too, start the same campaign again instead.",
                *await active_holds(self.operator.store, self.queue, self.batch),
            ),
            button=f"Let {calls} ring",
            version=self.version_of(_state_of(found), await self.ordered(), await self.held()),
            state=_state_of(found),
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        found = await self.imports(state)
        try:
            released = await self.calls.release_staged(self.name, imports=found)
        except InvalidInputError:
            raise changed_since(f"what the imports hold in batch {self.name}") from None
        said = f"{count_of(released, 'held call')} of batch {self.name} may ring"
        return ActionResult(message=said, documents=({"batch_id": self.name, "released": released},))


class DiscardStaged(StagedAction):
    """The cancellation of the held calls of a batch's imports. The batch and its other calls go on."""

    name_of_action: ClassVar[str] = "discard"

    async def question(self) -> Question:
        found = await self.imports()
        return Question(
            title=f"Discard {_calls(found)} of {self.label}, whose import has not ended?",
            will_be_called=("The other calls of the batch, as before.",),
            will_not_be_called=tuple(
                f"{count_of(each.calls, 'call')}, cancelled: {gate_in_words(each.gate)}." for each in found
            ),
            button=f"Discard {_calls(found)}",
            version=self.version_of(_state_of(found)),
            state=_state_of(found),
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        found = await self.imports(state)
        reason = by_person(self.operator.name, self.note, "its import was discarded")
        discarded = await self.calls.discard_staged(self.name, imports=found, reason=reason)
        said = f"{count_of(discarded, 'held call')} of batch {self.name} ended and will not be sent"
        return ActionResult(message=said, documents=({"batch_id": self.name, "discarded": discarded},))


def _calls(found: Sequence[StagedImport]) -> str:
    return count_of(sum(each.calls for each in found), "held call")


def _state_of(found: Sequence[StagedImport]) -> str:
    """What a person has seen of these imports: which they are, and how many calls each holds."""
    return " ".join(f"{each.gate.start}:{each.calls}" for each in found)
