"""The outgoing webhook: one signed POST for each outcome (Standard Webhooks), its deliveries and their verification."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

import anyio
import httpx
import orjson

from voiceflow_worker.errors import HookGoneError, NotificationError, RetryLaterError, SettingsError
from voiceflow_worker.gateway.answer import read_answer
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.verdict import read_retry_after
from voiceflow_worker.model.jobs.call_json import CallOutcome
from voiceflow_worker.model.text.arguments import checked_duration
from voiceflow_worker.model.text.web_address import is_plain_and_remote, read_notify_url

if TYPE_CHECKING:
    from voiceflow_worker.core.outcomes.batch_ends import BatchOutcome
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.notify.delivery import Notifications
    from voiceflow_worker.settings import Settings


PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""The fewest and the most bytes of a secret (Standard Webhooks, "Signature scheme")."""
TOLERANCE = timedelta(minutes=5)
MAKE_ONE = (
    """python -c 'import base64, secrets; print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())'"""
)

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class Secrets:
    """The secrets that sign notifications: usually one, and two while a new secret replaces an old one.

    A secret is `whsec_` followed by 24 to 64 bytes in base64. Raises SettingsError for a malformed secret; the error
    does not quote the secret.
    """

    def __init__(self, texts: str | Sequence[str]) -> None:
        given = texts.split() if isinstance(texts, str) else list(texts)
        if not given:
            raise SettingsError(f"no secret for signing notifications is set; make one: {MAKE_ONE}")
        self._keys = [_key(text) for text in given]

    def __repr__(self) -> str:
        return "<Secrets>"

    def signatures(self, *, message_id: str, timestamp: str, body: bytes) -> str:
        """Return the value of `webhook-signature`: one signature for each secret, separated by spaces."""
        return " ".join(f"v1,{each}" for each in self._each(message_id, timestamp, body))

    def are_in(self, shown: str, *, message_id: str, timestamp: str, body: bytes) -> bool:
        """Return whether `shown`, a value of `webhook-signature`, has a signature by one of these secrets.

        Signatures of other schemes are ignored.
        """
        given = [each.removeprefix("v1,").encode(errors="replace") for each in shown.split() if each.startswith("v1,")]
        ours = [each.encode() for each in self._each(message_id, timestamp, body)]
        return any(hmac.compare_digest(one, our) for one in given for our in ours)

    def _each(self, message_id: str, timestamp: str, body: bytes) -> Iterable[str]:
        signed = f"{message_id}.{timestamp}.".encode(errors="replace") + body
        for key in self._keys:
            yield base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()


def verify_notification(
    secret: str | Sequence[str],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    *,
    now: datetime | None = None,
    tolerance: timedelta = TOLERANCE,
) -> Mapping[str, object]:
    """Verify the signature and the age of a notification, and return its content.

    `headers` are the headers of the request, in upper or lower case. `body` is the exact bytes of the request, not JSON
    that was parsed and written again. While a new secret replaces an old one, give both secrets. `now` is the current
    time, with a zone; the default is this machine's clock. The time of the signature may differ from `now` by at most
    `tolerance`: an older notification may be a copy. The same notification may come again with the same `id`: remember
    the ids that you have accepted. Raises NotificationError, to be answered with 400, and SettingsError for a malformed
    secret.
    """
    secrets = Secrets(secret)
    shown = {name.lower(): value for name, value in dict(headers).items()}
    message_id, timestamp, signature = (shown.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and timestamp and signature):
        raise NotificationError(
            f"the request is not a notification: one of the headers {ID}, {TIMESTAMP} and {SIGNATURE} is missing"
        )
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        raise NotificationError(f"the header {TIMESTAMP} is not a number of whole seconds since 1970")
    if not secrets.are_in(signature, message_id=message_id, timestamp=timestamp, body=body):
        raise NotificationError("the notification was not signed with this secret, or was changed after it was signed")
    age = (now or datetime.now(UTC)) - datetime.fromtimestamp(int(timestamp), UTC)
    if abs(age) > tolerance:
        when = "old" if age > timedelta() else "in the future"
        raise NotificationError(
            f"the signature is {abs(age).total_seconds():.0f} s {when}, and at most {tolerance.total_seconds():g} s are"
            " allowed: the notification is a copy of an earlier one, or a clock is wrong"
        )
    try:
        content: object = json.loads(body)
    except ValueError:
        raise NotificationError("the body of the notification is not JSON") from None
    if not isinstance(content, dict):
        raise NotificationError("the notification is not a JSON object")
    return cast("Mapping[str, object]", content)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.strip().startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        # The secret is not quoted: it may be the real one with a single wrong letter.
        raise SettingsError(
            f"a secret for notifications is malformed: it needs {PREFIX} followed by {SHORTEST} to {LONGEST} bytes in "
            f"base64; make one: {MAKE_ONE}"
        )
    return key


CONNECT_TIMEOUT = timedelta(seconds=5)
DEADLINE = timedelta(seconds=20)
"""The longest time from the start of a POST to the head of its answer; Standard Webhooks suggests 15 to 30 s."""
READING = 2.0
"""Seconds for reading the rest of an answer, so that the connection can be used again."""
CONNECTIONS = 20


class OutcomeWebhook:
    """Sends outcomes and ends of batches to `url`, signed with `secret`: call it with one.

    It is an async context manager.

    A 2xx answer means that the outcome was accepted. A 410 means that the address is gone. After any other answer or an
    error, the outcome is to be sent again later with the same `webhook-id`, and not before the time that a Retry-After
    gives. Redirects are not followed. `network` has the proxy and the certificates of requests
    without a `transport`; proxies that the environment names are not used. `secret` may be a list while a new secret
    replaces an old one. An http address on another machine is refused without `allow_plain_http`. Raises SettingsError
    for a bad address or secret, and InvalidInputError for a limit of time that is not a timedelta above 0.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str],
        connect_timeout: timedelta = CONNECT_TIMEOUT,
        deadline: timedelta = DEADLINE,
        transport: httpx.AsyncBaseTransport | None = None,
        network: Network | None = None,
        allow_plain_http: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = _checked(url, allow_plain_http=allow_plain_http)
        self._secrets = Secrets(secret)
        self._deadline = checked_duration("deadline", deadline, positive=True)
        self._now = now
        checked_duration("connect_timeout", connect_timeout, positive=True)
        self._network = network or Network()
        self._client = httpx.AsyncClient(
            transport=transport or self._network.transport(limit=CONNECTIONS),
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

    async def __call__(self, outcome: CallOutcome | BatchOutcome) -> None:
        """Send one outcome, or the end of a batch.

        Raises RetryLaterError if it must be sent again, and HookGoneError after a 410.
        """
        body = orjson.dumps(outcome.as_json())
        request = self._client.build_request("POST", self._url, content=body, headers=self._headers(outcome, body))
        host = self._url.host
        try:
            with anyio.fail_after(self._deadline.total_seconds()):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise RetryLaterError(f"{host} gave no answer within {self._deadline.total_seconds():g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise RetryLaterError(f"{host} cannot be reached ({self._network.explain(error)})") from None
        with anyio.move_on_after(READING):
            await read_answer(response)
        if 200 <= response.status_code < 300:
            return
        if response.status_code == 410:
            raise HookGoneError(f"{host} answered 410 Gone: it does not want further notifications")
        wait = read_retry_after(response.headers.raw, now=self._now())
        raise RetryLaterError(f"{host} answered {response.status_code}", after=wait)

    def _headers(self, outcome: CallOutcome | BatchOutcome, body: bytes) -> dict[str, str]:
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
        parsed = httpx.URL(read_notify_url(url))
    except (ValueError, httpx.InvalidURL) as error:
        raise SettingsError(f"the address for notifications cannot be used: {error}") from None
    if is_plain_and_remote(str(parsed)) and not allow_plain_http:
        raise SettingsError(
            f"notifications to http://{parsed.host} would not be encrypted, and they contain telephone numbers. Nothing"
            f" was sent. Give an https:// address, or set VOICEFLOW_ALLOW_PLAIN_HTTP=yes if you "
            "trust the network"
        )
    return parsed


def notifier_of(settings: Settings) -> OutcomeWebhook | None:
    """Return the webhook of these settings, not opened yet; None if they name no URL. Raises SettingsError."""
    if settings.notify_url is None:
        return None

    if settings.notify_secret is None:
        raise SettingsError(
            "the secret for signing notifications is missing: set VOICEFLOW_NOTIFY_SECRET, or "
            f"VOICEFLOW_NOTIFY_SECRET_FILE to a file that holds it; make one: {MAKE_ONE}"
        )
    return OutcomeWebhook(
        settings.notify_url,
        secret=settings.notify_secret.get_secret_value(),
        network=Network.of(settings),
        allow_plain_http=settings.allow_plain_http,
    )


@asynccontextmanager
async def notifying(
    notifier: OutcomeWebhook | None, settings: Settings, store: Store, *, queue: str | None, tell: Callable[[str], None]
) -> AsyncGenerator[Notifications | None]:
    """Send the outcomes of a queue to the notifier while the block lasts. If `queue` is None, send those of all queues.

    `tell` gets a sentence with the host to which they go. Yields what sends the outcomes; None without a notifier.
    """
    if notifier is None:
        yield None
        return
    from voiceflow_worker.notify.delivery import Notifications

    notifications = Notifications(store, notifier, queue=queue)
    async with notifier, anyio.create_task_group() as group:
        group.start_soon(notifications.run)
        host = urlsplit(settings.notify_url or "").hostname
        tell(f"outcomes of {'all queues' if queue is None else f'queue {queue}'} are sent to {host}")
        try:
            yield notifications
        finally:
            notifications.stop()
