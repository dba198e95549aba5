"""The account of the sandbox, and the endpoints for its webhooks, speech profiles and numbers."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, ClassVar, TypeAlias

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.text.wording import SUB_ACCOUNT_ID
from voiceflow_worker.sandbox.call import moment
from voiceflow_worker.sandbox.orders import same_number
from voiceflow_worker.sandbox.voices import VOICES

NO_KEY = "Authentication header not found or token invalid"

Json: TypeAlias = dict[str, Any]
SPEECH_PROFILES: Sequence[Json] = tuple(
    {"speechProfileCode": code, "localeCode": locale, "localeDescription": description, "gender": gender}
    for code, locale, description, gender in VOICES
)
_SAMPLE_NUMBERS = ("6531234567",)


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The URL that events of a type are sent to, and their Authorization value."""

    url: str
    authorization: str | None = None
    enabled: bool = True


class HookType(StrEnum):
    """VSS: session summaries. VCA: call actions. VCS: call statuses. VRU: recordings. VNU: numbers."""

    VSS = "VSS"
    VCA = "VCA"
    VCS = "VCS"
    VRU = "VRU"
    VNU = "VNU"


class SandboxAccount:
    """The key, sub-accounts, numbers, voices and registered webhooks of an account.

    If an argument is None, its values are not checked: any non-empty key, any well-formed sub-account, any source or
    any voice is accepted.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        sub_accounts: Collection[str] | None,
        numbers: Sequence[str] | None,
        voices: Collection[str] | None,
        hook: WebhookTarget | None,
    ) -> None:
        self._api_key = None if api_key is None else api_key.encode()
        self._sub_accounts = None if sub_accounts is None else frozenset(sub_accounts)
        self._numbers = None if numbers is None else tuple(map(same_number, numbers))
        self._voices = None if voices is None else frozenset(voices)
        self.hook_for_all = hook
        """The default webhook, which gets the events of all types until others are registered."""
        self._hooks: dict[str, dict[str, WebhookTarget]] = {}

    # -- access --------------------------------------------------------------------------------------------------------

    def refusal(self, authorization: bytes | None, sub_account: str) -> tuple[int, str] | None:
        """Return the HTTP status and the message that refuse a request, or None for a request with access."""
        scheme, _, token = (authorization or b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            return 401, NO_KEY
        if self._api_key is not None and not hmac.compare_digest(token, self._api_key):
            return 401, NO_KEY
        known = SUB_ACCOUNT_ID.fullmatch(sub_account) is not None
        if not known or (self._sub_accounts is not None and sub_account not in self._sub_accounts):
            return 404, f"SubAccount not found by Id : {sub_account}"
        return None

    # -- numbers and voices --------------------------------------------------------------------------------------------

    @property
    def numbers(self) -> tuple[str, ...]:
        """Numbers of the account, or a sample number if any source is accepted."""
        return tuple(map(same_number, _SAMPLE_NUMBERS)) if self._numbers is None else self._numbers

    def owns(self, number: str) -> bool:
        """Return whether calls may have this source."""
        return self._numbers is None or same_number(number) in self._numbers

    @property
    def profiles(self) -> Sequence[Json]:
        """Speech profiles of the account."""
        if self._voices is None:
            return SPEECH_PROFILES
        known = {profile["speechProfileCode"]: profile for profile in SPEECH_PROFILES}
        return [known.get(voice, {"speechProfileCode": voice}) for voice in sorted(self._voices)]

    def speaks(self, voice: str) -> bool:
        """Return whether the account has this voice."""
        return self._voices is None or voice in self._voices

    # -- webhooks ----------------------------------------------------------------------------------------------------

    def hooks(self, sub_account: str) -> dict[str, WebhookTarget]:
        """Return the webhooks of this sub-account by type of event. At first, the default webhook gets all types."""
        if sub_account not in self._hooks:
            given = self.hook_for_all
            self._hooks[sub_account] = {} if given is None else dict.fromkeys(HookType, given)
        return self._hooks[sub_account]

    def hook(self, sub_account: str, hook_type: str) -> WebhookTarget | None:
        """Return the webhook for events of a type, or None."""
        found = self.hooks(sub_account).get(hook_type)
        return found if found is not None and found.enabled else None


ROOT = "/api/v1/subaccounts/{sub_account}"
"""The path of a sub-account, under which all of its endpoints are."""
Answering: TypeAlias = Callable[[Request], Awaitable[Response]]
"""A function that answers a request."""


def guarded(account: SandboxAccount, answer: Answering) -> Answering:
    """Make a function that answers only requests whose API key has access to the sub-account."""

    @wraps(answer)
    async def endpoint(request: Request) -> Response:
        authorization = request.headers.get("authorization")
        refusal = account.refusal(
            None if authorization is None else authorization.encode("latin-1"), request.path_params["sub_account"]
        )
        return await answer(request) if refusal is None else _error(*refusal)

    return endpoint


class WebhookRequest(BaseModel):
    """A webhook for events of a type. Some guides call `enabled` `active`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True)

    type: HookType
    url: str = Field(pattern="^https?://")
    httpAuthHeader: str | None = None  # noqa: N815 - the field of 8x8
    enabled: bool | None = Field(default=None, validation_alias=AliasChoices("enabled", "active"))


@dataclass(frozen=True, slots=True)
class AccountRoutes:
    """The endpoints of one account, apart from callflows and exports."""

    account: SandboxAccount

    def routes(self) -> list[Route]:
        """Return all routes."""
        endpoints: Sequence[tuple[str, str, Answering]] = (
            ("GET", "/speech-profiles", self.list_speech_profiles),
            ("GET", "/numbers", self.list_numbers),
            ("GET", "/numbers/{number}", self.get_number),
            ("GET", "/webhooks", self.list_webhooks),
            ("POST", "/webhooks", self.register_webhook),
            ("DELETE", "/webhooks/{hook_type}", self.remove_webhook),
        )
        return [
            Route(ROOT + path, guarded(self.account, answer), methods=[method]) for method, path, answer in endpoints
        ]

    async def list_speech_profiles(self, _request: Request) -> Response:
        """List the voices of the account."""
        return JSONResponse({"speechProfiles": list(self.account.profiles)})

    async def list_numbers(self, _request: Request) -> Response:
        """List the numbers of the account."""
        numbers = [_number(number) for number in self.account.numbers]
        return JSONResponse({"totalNumbers": len(numbers), "lastUpdatedAt": _now(), "numbers": numbers, **_OK})

    async def get_number(self, request: Request) -> Response:
        """Show one number of the account."""
        number = request.path_params["number"]
        if not phone.is_e164(number) or not self.account.owns(number):
            return _error(404, f"Number not found : {number}", timestamp=_now())
        known = _number(same_number(number))
        shown = {name: known[name] for name in ("referenceId", "msisdn", "countryCode")}
        return JSONResponse({"timestamp": _now(), "payload": shown, **_OK})

    def _hooks(self, request: Request) -> dict[str, WebhookTarget]:
        return self.account.hooks(request.path_params["sub_account"])

    async def list_webhooks(self, request: Request) -> Response:
        """List the webhooks."""
        hooks = [_webhook(hook_type, hook) for hook_type, hook in self._hooks(request).items()]
        sub_account = request.path_params["sub_account"]
        return JSONResponse({"subAccountId": sub_account, "count": len(hooks), "webhooks": hooks, **_OK})

    async def register_webhook(self, request: Request) -> Response:
        """Register a webhook for events of a type."""
        try:
            given = WebhookRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(422, str(error), statusCode="1001", errorId=str(uuid.uuid4()), timestamp=_now())
        target = WebhookTarget(given.url, given.httpAuthHeader, enabled=given.enabled is not False)
        self._hooks(request)[given.type] = target
        return await self.list_webhooks(request)

    async def remove_webhook(self, request: Request) -> Response:
        """Remove the webhook for events of a type."""
        hook_type = request.path_params["hook_type"]
        hook = self._hooks(request).pop(hook_type, None)
        if hook is None:
            return _error(404, f"No webhook of type {hook_type}")
        shown = {**_webhook(hook_type, hook), "enabled": False}
        return JSONResponse({**shown, "statusCode": 0, "statusMessage": "deleted"})


def _number(number: str) -> Json:
    digits = number.removeprefix("+")
    return {
        "msisdn": digits,
        "countryCode": phone.country_of("+" + digits),
        "operationalStatus": "Active",
        "referenceId": str(uuid.uuid5(uuid.NAMESPACE_OID, digits)),
        "numberType": "LOCAL",
        "numberHealth": {"isHealthy": True, "status": "Healthy", "lastCheckedTime": _now()},
    }


def _webhook(hook_type: str, hook: WebhookTarget) -> Json:
    return {
        "type": HookType(hook_type),
        "url": hook.url,
        "enabled": hook.enabled,
        "httpAuthHeaderAvailable": hook.authorization is not None,
    }


_OK: Json = {"statusCode": 0, "statusMessage": "ok"}
"""What every answer of the account ends with."""


def _error(status: int, message: str, **more: object) -> Response:
    return JSONResponse({"statusCode": status, "statusMessage": message, **more}, status)


def _now() -> str:
    return moment(time.time())
