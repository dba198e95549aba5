"""`voiceflow escalations`: list, acknowledge and stop escalations."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import acting, carried_out
from voiceflow_worker.cli.options import AsOption, NoteOption, QueueOptions, SinceOption
from voiceflow_worker.cli.output import ExitCode
from voiceflow_worker.model.text.wording import in_words

if TYPE_CHECKING:
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

    return await _ended(AcknowledgeEscalation, ids, as_=as_, common=common)


async def stop(
    *ids: EscalationIds, note: NoteOption = None, as_: AsOption = None, common: QueueOptions = QueueOptions()
) -> ExitCode:
    """Stop escalations: nobody further is called.

    Only those that nobody has acknowledged are stopped.

    Examples:
        voiceflow escalations stop disk-full --note "a test"
    """
    from voiceflow_worker.service.escalation_actions import StopEscalation

    return await _ended(StopEscalation, ids, note=note, as_=as_, common=common)


async def _ended(
    kind: type[EscalationAction],
    ids: tuple[str, ...],
    *,
    note: str | None = None,
    as_: str | None,
    common: QueueOptions,
) -> ExitCode:
    from voiceflow_worker.actions import UnknownSubjectError

    settings, output, code = common.settings(store_alone=True), common.output(), ExitCode.DONE
    async with acting(settings, as_, stops=True) as operator:
        for each in dict.fromkeys(ids):
            act = kind(operator=operator, queue=settings.queue, escalation=each, note=note)
            try:
                code = max(code, await carried_out(act, output))
            except UnknownSubjectError as error:
                output.note(str(error))
                code = ExitCode.UNDONE
    return code
