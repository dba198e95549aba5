"""The menu of the calls of escalations, served by every receiver: who presses the key has acknowledged."""

from __future__ import annotations

from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.core.writes import ESCALATION, escalation_of
from voiceflow_worker.errors import EscalationNotFoundError
from voiceflow_worker.ivr.approval import ApprovalMenu, confirmed
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.menu import Again, End, Menu
from voiceflow_worker.service.escalation_state import EscalationState
from voiceflow_worker.service.escalations import Escalations

OVER = "Thank you. This alarm is over already. There is nothing left to do."
TAKEN = "Thank you. Somebody has acknowledged this alarm already."

escalation_menu: Menu = ApprovalMenu(ESCALATION)


@escalation_menu.capture(max_digits=1, complete_on_hash=False)
async def acknowledge(caller: Caller) -> End | Again:
    """Acknowledge the escalation of this call before the person hears so; say so if it has ended meanwhile.

    When the person hears the confirmation, nobody else is called any more.
    """
    confirmation = confirmed(caller)
    if confirmation is None:
        return Again()
    job, store = caller.job, caller.store
    escalation = None if job is None else escalation_of(job)
    if job is None or store is None or escalation is None:
        return confirmation
    try:
        status = await Escalations(CallQueue(store, job.queue)).acknowledge(escalation, call=job)
    except EscalationNotFoundError:
        return End(OVER)
    if status.state is EscalationState.STOPPED:
        return End(OVER)
    done = status.acknowledged
    return confirmation if done is not None and done.call_id == job.id else End(TAKEN)
