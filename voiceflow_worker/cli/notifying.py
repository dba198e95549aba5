"""`--notify URL`: notifications of outcomes, sent by a worker or a receiver to a system of the user."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import Parameter

from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.stopping import signals_to

if TYPE_CHECKING:
    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks

LAST_WAIT = timedelta(seconds=30)

NotifyOption = Annotated[
    str | None,
    Parameter(
        name="--notify",
        metavar="URL",
        help="Send the outcomes of calls to this URL, as POSTs signed with VOICEFLOW_NOTIFY_SECRET. "
        "[VOICEFLOW_NOTIFY_URL]",
    ),
]


async def tell_the_rest(hooks: OutcomeHooks | None, output: Output) -> None:
    """Wait for the first delivery of the outcomes that exist now, and print how many are not delivered yet.

    The wait ends after LAST_WAIT, or at SIGINT or SIGTERM.
    """
    if hooks is None:
        return
    from voiceflow_worker.notify.running import HOOK

    scope = anyio.CancelScope()
    async with signals_to(lambda _: scope.cancel()):
        with anyio.move_on_after(LAST_WAIT.total_seconds()), scope:
            await hooks.caught_up()
    waiting = hooks.counts[HOOK].waiting
    if waiting:
        output.note(f"notifications not delivered yet: {waiting}; the next `voiceflow worker --notify` sends them")
