"""The outgoing webhook: one signed POST for each outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Self

import anyio
import httpx
import orjson

from voiceflow_worker.errors import HookGoneError, SettingsError, TellAgainError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.gateway.answers.answer import AnswerReader
from voiceflow_worker.gateway.answers.verdict import describe, read_retry_after
from voiceflow_worker.model.records.call_outcome import CallOutcome
from voiceflow_worker.model.text.duration import checked_duration
from voiceflow_worker.model.text.web_address import is_plain_and_remote
from voiceflow_worker.notify.signature import ID, SIGNATURE, TIMESTAMP, Secrets

CONNECT_TIMEOUT = timedelta(seconds=5)
DEADLINE = timedelta(seconds=20)
"""The longest time from the start of a POST to the head of its answer; Standard Webhooks suggests 15 to 30 s."""
READING = 2.0
"""Seconds for reading the rest of an answer, so that the connection can be used again."""
CONNECTIONS = 20


class OutcomeWebhook:
    """A handler for `OutcomeHooks` that sends each outcome to `url`, signed with `secret`; an async context manager.

    A 2xx answer means that the outcome was accepted. A 410 means that the address is gone, and the hook stops. After
    any other answer or an error, the outcome is sent again later with the same `webhook-id`, and not before the time
    that a Retry-After gives. Redirects are not followed. Proxies that the environment names are not used. `secret` may
    be a list while a new secret replaces an old one. An http address on another machine is refused without
    `allow_plain_http`. Raises SettingsError for a bad address or secret, and InvalidInputError for a limit of time that
    is not a timedelta above 0.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str],
        connect_timeout: timedelta = CONNECT_TIMEOUT,
        deadline: timedelta = DEADLINE,
        transport: httpx.AsyncBaseTransport | None = None,
        allow_plain_http: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = _checked(url, allow_plain_http=allow_plain_http)
        self._secrets = Secrets(secret)
        self._deadline = checked_duration("deadline", deadline, positive=True)
        self._now = now
        checked_duration("connect_timeout", connect_timeout, positive=True)
        self._client = httpx.AsyncClient(
            transport=transport
            or httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits(max_connections=CONNECTIONS)),
            timeout=httpx.Timeout(None, connect=connect_timeout.total_seconds()),
            follow_redirects=False,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"<OutcomeWebhook to {self._url.host}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def __call__(self, outcome: CallOutcome) -> None:
        """Send one outcome. Raises TellAgainError if it must be sent again, and HookGoneError after a 410."""
        body = orjson.dumps(outcome.as_json())
        request = self._client.build_request("POST", self._url, content=body, headers=self._headers(outcome, body))
        host = self._url.host
        try:
            with anyio.fail_after(self._deadline.total_seconds()):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise TellAgainError(f"{host} gave no answer within {self._deadline.total_seconds():g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise TellAgainError(f"{host} cannot be reached ({describe(error)})") from None
        with anyio.move_on_after(READING):
            await AnswerReader(response).read()
        if 200 <= response.status_code < 300:
            return
        if response.status_code == 410:
            raise HookGoneError(f"{host} answered 410 Gone: it does not want further notifications")
        wait = read_retry_after(response.headers.raw, now=self._now())
        raise TellAgainError(f"{host} answered {response.status_code}", after=wait)

    def _headers(self, outcome: CallOutcome, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._now().timestamp()))
        return {
            "Content-Type": "application/json",
            "User-Agent": "voiceflow-worker",
            ID: outcome.id,
            TIMESTAMP: timestamp,
            SIGNATURE: self._secrets.signatures(message_id=outcome.id, timestamp=timestamp, body=body),
        }


def _checked(url: str, *, allow_plain_http: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        # The address is not quoted: it may contain a token.
        raise SettingsError("the address for notifications is not an http:// or https:// address with a host")
    if parsed.userinfo:
        raise SettingsError(
            "the address for notifications contains a user name or a password; remove them: the receiver can verify "
            "the signature of notifications instead"
        )
    if is_plain_and_remote(str(parsed)) and not allow_plain_http:
        raise SettingsError(
            f"notifications to http://{parsed.host} would not be encrypted, and they contain telephone numbers. Nothing"
            f" was sent. Give an https:// address, or {Remedy.ALLOW_PLAIN_HTTP}"
        ).remedied(Remedy.ALLOW_PLAIN_HTTP)
    return parsed
