"""Events about calls, sent to the webhooks of the account by POST, and the replies to those that ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ssl import SSLContext

import httpx
import orjson
import structlog

from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.sandbox.account import HookType, SandboxAccount, WebhookTarget
from voiceflow_worker.sandbox.call import Call
from voiceflow_worker.sandbox.call_events import Activity, Event, action_event, session_summary
from voiceflow_worker.sandbox.wire import against_account

# The receiver is on the same machine, and more connections would only wait in its backlog.
_AT_ONCE = 20
_ANSWERED_WITHIN = 10.0
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0
_INVALID_FLOW = -2003
_SOURCE_NOT_ALLOWED = -2008
_API_SOURCE_NOT_ALLOWED = -1014

_log = structlog.get_logger("voiceflow.sandbox")


@dataclass(frozen=True, slots=True)
class NextActions:
    """The next actions of a call. `client_action_id` is None if it is missing in the reply."""

    actions: Sequence[object]
    client_action_id: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error of an invalid reply. It ends the session, and the summary of the session names it."""

    code: int
    message: str


def judged_reply(answer: httpx.Response | str, account: SandboxAccount) -> NextActions | Refusal:
    """Return the actions of a reply, or the error of an invalid one. Without an answer, `answer` says why."""
    if isinstance(answer, str):
        return Refusal(_INVALID_FLOW, f"the call action event got no answer: {answer}")
    if answer.status_code != 200:
        return Refusal(_INVALID_FLOW, f"the call action event was answered with HTTP status {answer.status_code}")
    try:
        body: object = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return Refusal(_INVALID_FLOW, "the answer to the call action event is not JSON")
    problem = next((found for found in find_problems(body, reply=True) if found.is_error), None)
    if problem is not None:
        return Refusal(_INVALID_FLOW, f"the answer to the call action event is invalid: {problem}")
    given: Mapping[str, object] = body if is_object(body) else {}
    flow, action_id = given.get("callflow"), given.get("clientActionId")
    if not is_list(flow) or not flow:
        return Refusal(_INVALID_FLOW, "the answer to the call action event has no actions")
    for found in against_account(flow, account):
        code = _SOURCE_NOT_ALLOWED if found.code == _API_SOURCE_NOT_ALLOWED else _INVALID_FLOW
        return Refusal(code, found.message)
    return NextActions(flow, action_id if isinstance(action_id, str) else None)


class Delivery:
    """The sender of events. One that is not taken is logged; a summary is sent again up to `retries` times.

    `speed` shortens the waits between these. The answer to a call action event may take `within` seconds. `ssl_context`
    has the certificates that are trusted, by default the public ones.
    """

    def __init__(
        self,
        account: SandboxAccount,
        activity: Activity,
        *,
        speed: float,
        within: float,
        retries: int = 0,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self._account = account
        self._activity = activity
        self._speed = speed
        self._within = within
        self._retries = retries
        self._places = asyncio.Semaphore(_AT_ONCE)
        # The receiver is on this machine, so proxies in the environment are ignored.
        self._transport = httpx.AsyncHTTPTransport(verify=ssl_context or True, trust_env=False)

    def can_ask(self, call: Call) -> bool:
        """Return whether a webhook for call actions is registered."""
        return self._account.hook(call.sub_account, HookType.VCA) is not None

    async def ask(self, call: Call, *, dtmf: str | None, at: float) -> tuple[NextActions | Refusal, float]:
        """Ask the receiver for the next step. Return its reply, and the seconds that it took."""
        hook, began = self._account.hook(call.sub_account, HookType.VCA), time.perf_counter()
        answer: httpx.Response | str = "its webhook was removed"
        if hook is not None:
            # A caller waits for each question, so questions do not queue behind summaries or each other.
            answer = await self._post(hook, action_event(call, dtmf=dtmf, at=at), within=self._within)
        return judged_reply(answer, self._account), time.perf_counter() - began

    def summary(self, call: Call) -> None:
        """Report the end of a session. The event is made only if somebody gets it: making one is slow."""
        script, hook = call.script, self._account.hook(call.sub_account, HookType.VSS)
        if hook is not None and not (script is not None and script.drop):
            copies = 1 if script is None else 1 + script.duplicates
            self._activity.run(self._deliver(hook, session_summary(call), copies))

    async def _deliver(self, hook: WebhookTarget, event: Event, copies: int) -> None:
        for _ in range(copies):
            wait = _FIRST_RETRY
            for left in range(self._retries, -1, -1):
                async with self._places:  # the timeout begins after the wait for a place
                    answer = await self._post(hook, event, within=_ANSWERED_WITHIN)
                if not left or (not isinstance(answer, str) and answer.is_success):
                    break
                await asyncio.sleep(wait / self._speed)
                wait = min(wait * 2, _LONGEST_RETRY)

    async def _post(self, hook: WebhookTarget, event: Event, *, within: float) -> httpx.Response | str:
        """Return the answer to an event, which is logged unless it is 200; or why there is none."""
        headers = {"Content-Type": "application/json"}
        if hook.authorization is not None:
            headers["Authorization"] = hook.authorization
        answer: httpx.Response | str
        try:
            request = httpx.Request("POST", hook.url, content=orjson.dumps(event), headers=headers)
            async with asyncio.timeout(within):
                answer = await self._transport.handle_async_request(request)
                await answer.aread()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failure:
            answer = f"{type(failure).__name__}: {failure}"
        if isinstance(answer, str) or not answer.is_success:
            why = answer if isinstance(answer, str) else f"status {answer.status_code}"
            session = event["payload"]["sessionId"]
            _log.warning("an event was not taken", type=event["eventType"], session=session, url=hook.url, error=why)
        return answer

    async def aclose(self) -> None:
        """Close the connections, after all deliveries have ended."""
        await self._transport.aclose()
