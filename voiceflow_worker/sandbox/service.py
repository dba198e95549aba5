"""The sandbox: a simulator of 8x8 that calls nobody."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import UTC, datetime, timedelta
from ssl import SSLContext
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from voiceflow_worker.asgi.server import serving
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.account import AccountRoutes, SandboxAccount, WebhookTarget
from voiceflow_worker.sandbox.call import Ledger, LedgerEntry
from voiceflow_worker.sandbox.call_events import Activity
from voiceflow_worker.sandbox.callflows import Callflows, Misbehaviour
from voiceflow_worker.sandbox.control import control_routes
from voiceflow_worker.sandbox.delivery import Delivery
from voiceflow_worker.sandbox.exchange import Exchange
from voiceflow_worker.sandbox.exports import ExportRoutes, Exports
from voiceflow_worker.sandbox.orders import Fault, OrderBook, Script
from voiceflow_worker.sandbox.outcomes import Outcomes
from voiceflow_worker.sandbox.wire import date_header

_CALLFLOWS = re.compile(r"/api/v1/subaccounts/([^/]+)/callflows")


class Sandbox:
    """A simulator of 8x8 for one account. It calls nobody. It runs on asyncio.

    `seed` decides how calls end; with `answers`, people answer each call that has no script. With `speed`, time passes
    faster than in reality: at 60, a minute takes a second. `api_key`, `sub_accounts`, `numbers` (permitted sources) and
    `voices` restrict requests only if they are given.

    `webhook` receives all events of a sub-account until another webhook is registered. The events carry
    `webhook_secret` in the Authorization header. A failed delivery is tried again up to `webhook_retries` times. A call
    action event (VCA) is sent once, and must be answered within `answer_within`, which `speed` does not shorten.
    `ssl_context` has the certificates of webhooks that are trusted, by default the public ones.

    `clock_offset` is added to the clock by which the sandbox judges `validUntil` and writes the Date header. The times
    in the ledger are those of the true clock. The ledger and all orders can be used from Python and over HTTP.
    """

    def __init__(
        self,
        *,
        seed: int | str = 0,
        api_key: str | None = None,
        sub_accounts: Collection[str] | None = None,
        numbers: Sequence[str] | None = None,
        voices: Collection[str] | None = None,
        webhook: str | None = None,
        webhook_secret: str | None = None,
        webhook_retries: int = 0,
        speed: float = 1.0,
        answer_within: timedelta = timedelta(seconds=10),
        answers: bool = False,
        clock_offset: timedelta = timedelta(0),
        ssl_context: SSLContext | None = None,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed={speed}: the speed must be above 0. At 60, a minute takes a second")
        self._clock_offset = clock_offset
        self._activity = Activity()
        self._account = SandboxAccount(
            api_key=api_key,
            sub_accounts=sub_accounts,
            numbers=numbers,
            voices=voices,
            hook=None if webhook is None else WebhookTarget(url=webhook, authorization=webhook_secret),
        )
        self._outcomes = Outcomes(seed)
        self._delivery = Delivery(
            self._account,
            self._activity,
            speed=speed,
            within=answer_within.total_seconds(),
            retries=webhook_retries,
            ssl_context=ssl_context,
        )
        self.exports: Exports = Exports(now=self._now)
        """The log of calls, and its exports."""
        exchange = Exchange(activity=self._activity, events=self._delivery, speed=speed, log=self.exports)
        self._misbehaviour = Misbehaviour()
        self.ledger: Ledger = Ledger()
        """Every call that was requested, in order."""
        self.faults: OrderBook[Fault] = OrderBook()
        """Orders for faults: `sandbox.faults.add(Fault(…))`."""
        self.scripts: OrderBook[Script] = OrderBook()
        """Scripts of calls: `sandbox.scripts.add(Script(…))`."""
        self._callflows = Callflows(
            account=self._account,
            ledger=self.ledger,
            faults=self.faults,
            misbehaviour=self._misbehaviour,
            scripts=self.scripts,
            outcomes=self._outcomes,
            usual=Script(outcome=SessionStatus.COMPLETED) if answers else None,
            exchange=exchange,
            now=self._now,
        )
        account = [*AccountRoutes(self._account).routes(), *ExportRoutes(self._account, self.exports).routes()]
        control = control_routes(self.ledger, self.faults, self.scripts, self.reset)
        self._others = Starlette(routes=[*control, *account])

    @contextlib.asynccontextmanager
    async def running(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
        """Serve the sandbox on this event loop during the block, and yield its base URL. Port 0 means any free port.

        At the end, open calls are deleted. Raises OSError if the port cannot be bound. A sandbox can run only once.
        """
        try:
            async with serving(self._serve, host=host, port=port, date_header=False) as address:
                try:
                    yield address.url
                finally:
                    self._misbehaviour.call_off()
        finally:
            with anyio.CancelScope(shield=True):
                await self._activity.aclose()
                await self._delivery.aclose()

    def script(self, destination: str | None = None, *, answer: SessionStatus | None = None, **course: Any) -> None:
        """Decide how calls to a number end, or all calls. `course` has other fields of `Script`, such as `keys`."""
        self.scripts.add(Script(destination=destination, outcome=answer, **course))

    def fault(self, kind: str, **fields: Any) -> None:
        """Order a fault of the next POSTs: `fault("reset", next=1)`. `fields` are those of `Fault`."""
        self.faults.add(Fault.model_validate({"fault": kind, **fields}))

    @property
    def calls(self) -> Sequence[LedgerEntry]:
        """Ledger of every call that was requested, in order."""
        return tuple(self.ledger)

    async def idle(self) -> None:
        """Wait until every call has ended, and every event has been delivered or given up."""
        await self._activity.quiet()

    def reset(self) -> None:
        """Delete the open calls, all orders, and the records of calls. Registered webhooks stay."""
        orders, records = (self.faults, self.scripts), (self.exports, self.ledger)
        for each in (self._activity, self._outcomes, *orders, *records):
            each.clear()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = self._dated(send)
        if scope["type"] == "http" and scope["method"] == "POST":
            found = _CALLFLOWS.fullmatch(scope["path"])
            if found is not None:
                await self._callflows.place_call(found[1], scope, receive, send)
                return
        await self._others(scope, receive, send)

    def _dated(self, send: Send) -> Send:
        """Return a `send` that adds the sandbox's Date header to every answer."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"date", date_header(self._now()))]
            await send(message)

        return send_dated

    def _now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC) + self._clock_offset
