"""The exchange: dials what was accepted, lets it take its course, and tells how it ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from voiceflow_worker.sandbox.account import Account
from voiceflow_worker.sandbox.activity import Activity
from voiceflow_worker.sandbox.call import Call
from voiceflow_worker.sandbox.call_log import CallLog
from voiceflow_worker.sandbox.delivery import Delivery
from voiceflow_worker.sandbox.outcomes import too_late
from voiceflow_worker.sandbox.summary import session_summary
from voiceflow_worker.sandbox.timers import Timers


class Exchange:
    """Calls under way. `now` gives the sandbox's own time; `speed` is how much quicker than life it goes."""

    def __init__(
        self,
        activity: Activity,
        *,
        account: Account,
        delivery: Delivery,
        log: CallLog,
        speed: float,
        now: Callable[[], datetime],
    ) -> None:
        self._account = account
        self._log = log
        self._delivery = delivery
        self._speed = speed
        self._now = now
        self._timers = Timers(activity)

    def place(self, call: Call) -> None:
        """Take an accepted call: dial it now, or when its plan says so."""
        if call.plan.dial_seconds > 0:
            self._timers.after(call.plan.dial_seconds / self._speed, partial(self._dial, call))
        else:
            self._dial(call)

    def _dial(self, call: Call) -> None:
        valid_until = call.request.valid_until
        now = self._now()
        if valid_until is not None and now >= valid_until:
            call.plan = too_late(call.plan)
        else:
            call.dialled_at = now
            call.entry.rang = call.plan.rings
        lasts = call.plan.ring_seconds + call.plan.talk_seconds
        self._timers.after((lasts + call.plan.lag_seconds) / self._speed, partial(self._end, call))

    def _end(self, call: Call) -> None:
        call.entry.outcome = call.plan.status.value
        self._log.add(call)
        hook = self._account.hook(call.sub_account, "VSS")
        script = call.script
        if hook is None or (script is not None and script.drop):
            return
        copies, retries = (1, None) if script is None else (1 + script.duplicates, script.retries)
        self._delivery.send(hook, session_summary(call), copies=copies, retries=retries)

    def clear(self) -> None:
        """Let calls under way end without a word."""
        self._timers.clear()
