"""`voiceflow escalations`: list, acknowledge and stop escalations."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from voiceflow_worker.cli.options import AsOption, NoteOption, QueueOptions, SinceOption
from voiceflow_worker.cli.output import ExitCode
from voiceflow_worker.model.text.wording import in_words

if TYPE_CHECKING:
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.service.escalation_actions import EscalationAction

OF_LATE = timedelta(days=1)

EscalationIds = Annotated[str, Parameter(name="ID", required=True, help="Ids or keys of escalations.")]


async def list_escalations(
    *,
    since: Annotated[SinceOption, Parameter(help="Also those that ended after this time, such as 7d. [24h]")] = None,
    common: QueueOptions = QueueOptions(),
) -> None:
    """List open and recent escalations, with each step.

    With --json, one per line.

    Examples:
        voiceflow escalations list
        voiceflow escalations list --since 7d --json | jq '{id, state, message}'
    """
    await tell_escalations(common, since=OF_LATE if since is None else since)


async def tell_escalations(common: QueueOptions, *, since: timedelta | datetime) -> None:
    """Print the open escalations of a queue, and those that have ended since. Raises StoreError."""
    from voiceflow_worker.service.escalations import Escalations

    output = common.output()
    async with common.opened() as calls:
        begin = calls.store.clock.now() - since if isinstance(since, timedelta) else since
        found = await Escalations(calls).recent(since=begin)
        url = calls.store.url
    for status in found:
        output.document(status.as_json())
        if output.as_json:
            continue
        state = "resting" if status.resting_until is not None else status.state.value
        output.say(f"{status.unique_key}: {state}, since {in_words(status.created_at)}: {status.escalation.say}")
        if status.blocked or status.resting_until is not None:
            output.say(f"  {status.in_words()}")
        for step in status.steps:
            output.say(f"  {step.number} {step.message}{f' ({step.call_id})' if step.call_id else ''}")
    if not found:
        output.note(f"queue {calls.name} of {url} has no open escalation, and none has ended since {in_words(begin)}")


async def acknowledge(*ids: EscalationIds, as_: AsOption = None, common: QueueOptions = QueueOptions()) -> ExitCode:
    """Acknowledge escalations: nobody further is called.

    This does what their key does.

    Examples:
        voiceflow escalations acknowledge disk-full --as Ana
    """
    from voiceflow_worker.service.escalation_actions import AcknowledgeEscalation

    return await common.ordered(partial(_each, AcknowledgeEscalation, ids), as_)


async def stop(
    *ids: EscalationIds, note: NoteOption = None, as_: AsOption = None, common: QueueOptions = QueueOptions()
) -> ExitCode:
    """Stop escalations: nobody further is called.

    Only those that nobody has acknowledged are stopped.

    Examples:
        voiceflow escalations stop disk-full --note "a test"
    """
    from voiceflow_worker.service.escalation_actions import StopEscalation

    return await common.ordered(partial(_each, StopEscalation, ids, note=note), as_)


def _each(kind: type[EscalationAction], ids: tuple[str, ...], **of: Any) -> Many:
    from voiceflow_worker.actions.many import Many

    return Many([kind(escalation=each, **of) for each in dict.fromkeys(ids)])
