"""Actions on the staged calls of a batch, whose import has not ended: release them, or discard them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from voiceflow_worker.actions import ActionRefusedError, ActionResult, Question, changed_since, kept_back
from voiceflow_worker.actions.queues import BatchAction
from voiceflow_worker.core.imports import StagedImport, with_repeats
from voiceflow_worker.core.reporting.story import gate_in_words
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import by_person, count_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedAction(BatchAction):
    """An action on the staged calls of a batch: those that were counted, if the count was `seen`."""

    async def imports(self, seen: str | None = None) -> Sequence[StagedImport]:
        """The imports of the batch that have not ended.

        Raises ActionRefusedError if there is none, and if they have changed since they were `seen`.
        """
        name, _ = self.name, await self.counted()
        found = await self.calls.staged(name)
        if not found:
            raise ActionRefusedError(f"batch {name} has no staged calls: each of its imports has ended")
        if seen is not None and seen != _seen(found):
            raise changed_since(f"what is staged in batch {name}", now=_calls(found))
        return found


class ReleaseStaged(StagedAction):
    """The order that lets the staged calls of a batch ring, although their import has not ended."""

    name_of_action: ClassVar[str] = "release"

    async def question(self) -> Question:
        store = self.operator.store
        found = await with_repeats(store, self.calls.name, await self.imports())
        calls, twice = _calls(found), sum(each.twice for each in found)
        again = "and each of these people has another call in this batch, so that their phones ring more than once"
        return Question(
            title=f"Let {calls} of {self.named} ring, whose import has not ended?",
            rings=(
                *(f"{count_of(each.calls, 'call')}: {gate_in_words(each.gate)}." for each in found),
                *([f"{twice} of these calls: {again}."] if twice else []),
            ),
            silent=(
                "Rows that the import has not stored. To call them too, start the same campaign again instead.",
                *await kept_back(store, self.queue, self.batch),
            ),
            button=f"Let {calls} ring",
            seen=_seen(found),
        )

    async def carry_out(self, seen: str | None) -> ActionResult:
        found = await self.imports(seen)
        try:
            released = await self.calls.release_staged(self.name, imports=found)
        except InvalidInputError:
            raise changed_since(f"what is staged in batch {self.name}") from None
        said = f"{count_of(released, 'staged call')} of batch {self.name} may ring"
        return ActionResult(said=said, documents=({"batch_id": self.name, "released": released},))


class DiscardStaged(StagedAction):
    """The cancellation of the staged calls of a batch. The batch and its other calls go on."""

    name_of_action: ClassVar[str] = "discard"

    async def question(self) -> Question:
        found = await self.imports()
        return Question(
            title=f"Discard {_calls(found)} of {self.named}, whose import has not ended?",
            rings=("The other calls of the batch, as before.",),
            silent=tuple(f"{count_of(each.calls, 'call')}, cancelled: {gate_in_words(each.gate)}." for each in found),
            button=f"Discard {_calls(found)}",
            seen=_seen(found),
        )

    async def carry_out(self, seen: str | None) -> ActionResult:
        found = await self.imports(seen)
        reason = by_person(self.operator.name, self.note, "its import was discarded")
        discarded = await self.calls.discard_staged(self.name, imports=found, reason=reason)
        said = f"{count_of(discarded, 'staged call')} of batch {self.name} ended and will not be sent"
        return ActionResult(said=said, documents=({"batch_id": self.name, "discarded": discarded},))


def _calls(found: Sequence[StagedImport]) -> str:
    return count_of(sum(each.calls for each in found), "staged call")


def _seen(found: Sequence[StagedImport]) -> str:
    """What a person has seen of these imports: which they are, and how many calls each has staged."""
    return " ".join(f"{each.gate.start}:{each.calls}" for each in found)
