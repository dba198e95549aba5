"""The account of the sandbox, and the endpoints for its webhooks, speech profiles, numbers and recordings."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.text.wording import SUB_ACCOUNT_ID
from voiceflow_worker.sandbox.call import moment
from voiceflow_worker.sandbox.delivery import WebhookTarget
from voiceflow_worker.sandbox.orders import Recordings, same_number

HOOK_TYPES = ("VSS", "VCA", "VCS", "VRU", "VNU")
NO_KEY = "Authentication header not found or token invalid"

# The voices that the 8x8 guides and our pages use, and some other neural voices.
SPEECH_PROFILES: Sequence[Mapping[str, str]] = tuple(
    {"speechProfileCode": code, "localeCode": locale, "localeDescription": description, "gender": gender}
    for code, locale, description, gender in (
        ("en-US-BenjaminRUS", "en-US", "English (United States)", "Male"),
        ("en-US-JennyNeural", "en-US", "English (United States)", "Female"),
        ("en-IE-EmilyNeural", "en-IE", "English (Ireland)", "Female"),
        ("en-GB-SoniaNeural", "en-GB", "English (United Kingdom)", "Female"),
        ("en-SG-LunaNeural", "en-SG", "English (Singapore)", "Female"),
        ("id-ID-GadisNeural", "id-ID", "Indonesian (Indonesia)", "Female"),
        ("fil-PH-BlessicaNeural", "fil-PH", "Filipino (Philippines)", "Female"),
        ("ms-MY-YasminNeural", "ms-MY", "Malay (Malaysia)", "Female"),
        ("th-TH-PremwadeeNeural", "th-TH", "Thai (Thailand)", "Female"),
        ("zh-CN-XiaoxiaoNeural", "zh-CN", "Chinese (Mandarin, China)", "Female"),
        ("de-DE-KatjaNeural", "de-DE", "German (Germany)", "Female"),
        ("es-ES-ElviraNeural", "es-ES", "Spanish (Spain)", "Female"),
        ("fr-FR-DeniseNeural", "fr-FR", "French (France)", "Female"),
        ("it-IT-ElsaNeural", "it-IT", "Italian (Italy)", "Female"),
        ("nl-NL-ColetteNeural", "nl-NL", "Dutch (Netherlands)", "Female"),
        ("pt-PT-RaquelNeural", "pt-PT", "Portuguese (Portugal)", "Female"),
        ("ta-SG-VenbaNeural", "ta-SG", "Tamil (Singapore)", "Female"),
    )
)
# The sub-account of incoming calls until a sub-account is used or registered.
_ANY = "sandbox"
_SAMPLE_NUMBERS = ("6531234567",)


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
        """The account's numbers, or a sample number if any source is accepted."""
        return tuple(map(same_number, _SAMPLE_NUMBERS)) if self._numbers is None else self._numbers

    def owns(self, number: str) -> bool:
        """Return whether calls may have this source."""
        return self._numbers is None or same_number(number) in self._numbers

    @property
    def profiles(self) -> Sequence[Mapping[str, str]]:
        """The account's speech profiles."""
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
            self._hooks[sub_account] = {} if given is None else dict.fromkeys(HOOK_TYPES, given)
        return self._hooks[sub_account]

    def hook(self, sub_account: str, hook_type: str) -> WebhookTarget | None:
        """Return the webhook for events of a type, or None."""
        found = self.hooks(sub_account).get(hook_type)
        return found if found is not None and found.enabled else None

    def first_with(self, hook_type: str) -> str | None:
        """Return the first sub-account that has a webhook for events of a type, or None."""
        known = sorted(self._sub_accounts or ()) or [*self._hooks, _ANY]
        return next((name for name in known if self.hook(name, hook_type) is not None), None)


_NO_JSON = "Invalid JSON request body"
_SINCE = "2026-01-05T08:00:00.000Z"


Answering: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
"""A function that answers a request after its access was checked."""


def guarded(account: SandboxAccount, method: str, path: str, answer: Answering) -> Route:
    """Return a route under the path of a sub-account. It refuses API keys without access to the sub-account."""

    async def endpoint(request: Request) -> Response:
        authorization = request.headers.get("authorization")
        refusal = account.refusal(
            None if authorization is None else authorization.encode("latin-1"), request.path_params["sub_account"]
        )
        if refusal is not None:
            status, message = refusal
            return JSONResponse({"statusCode": status, "statusMessage": message}, status_code=status)
        answered = answer(request)
        return answered if isinstance(answered, Response) else await answered

    return Route("/api/v1/subaccounts/{sub_account}" + path, endpoint, methods=[method])


@dataclass(frozen=True, slots=True)
class AccountRoutes:
    """The endpoints of one account, apart from callflows and exports."""

    account: SandboxAccount
    recordings: Recordings

    def routes(self) -> list[Route]:
        """Return all routes."""
        answers: list[tuple[str, str, Answering]] = [
            ("GET", "/speech-profiles", self._profiles),
            ("GET", "/numbers", self._numbers),
            ("GET", "/numbers/{number}", self._number),
            ("GET", "/recordings/{session_id}", self._recordings_of),
            ("GET", "/webhooks", self._webhooks),
            ("DELETE", "/webhooks/{hook_type}", self._remove_webhook),
            ("POST", "/webhooks", self._register_webhook),
        ]
        return [guarded(self.account, method, path, answer) for method, path, answer in answers]

    def _profiles(self, _request: Request) -> Response:
        return JSONResponse({"speechProfiles": [dict(profile) for profile in self.account.profiles]})

    def _numbers(self, _request: Request) -> Response:
        numbers = [_number(number) for number in self.account.numbers]
        return _ok({"totalNumbers": len(numbers), "lastUpdatedAt": _now(), "numbers": numbers})

    def _number(self, request: Request) -> Response:
        number = request.path_params["number"]
        if not phone.is_e164(number) or not self.account.owns(number):
            return _not_found(f"Number not found : {number}")
        known = _number(same_number(number))
        shown = {name: known[name] for name in ("referenceId", "msisdn", "countryCode")}
        return _ok({"timestamp": _now(), "payload": shown})

    def _recordings_of(self, request: Request) -> Response:
        session_id, sub_account = request.path_params["session_id"], request.path_params["sub_account"]
        return _ok({"recordings": self.recordings.of_session(session_id, sub_account=sub_account)})

    def _hooks(self, request: Request) -> dict[str, WebhookTarget]:
        return self.account.hooks(request.path_params["sub_account"])

    def _webhooks(self, request: Request) -> Response:
        hooks = [_webhook(hook_type, hook) for hook_type, hook in self._hooks(request).items()]
        return _ok({"subAccountId": request.path_params["sub_account"], "count": len(hooks), "webhooks": hooks})

    async def _register_webhook(self, request: Request) -> Response:
        given = await _body(request)
        if given is None:
            return _invalid(_NO_JSON)
        hook_type, url, header = given.get("type"), given.get("url"), given.get("httpAuthHeader")
        enabled = given.get("enabled", given.get("active"))  # some guides write `active`
        if enabled is None:
            enabled = True
        if not isinstance(hook_type, str) or hook_type not in HOOK_TYPES:
            return _invalid(f"type should be one of: {','.join(HOOK_TYPES)}")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            return _invalid("url should be an http or https address")
        if not isinstance(header, str | None) or not isinstance(enabled, bool):
            return _invalid("httpAuthHeader should be a string, and enabled should be a boolean")
        self._hooks(request)[hook_type] = WebhookTarget(url=url, authorization=header, enabled=enabled)
        return self._webhooks(request)

    def _remove_webhook(self, request: Request) -> Response:
        hook_type = request.path_params["hook_type"]
        hook = self._hooks(request).pop(hook_type, None)
        if hook is None:
            return JSONResponse(
                {"statusCode": 404, "statusMessage": f"No webhook of type {hook_type}"}, status_code=404
            )
        return JSONResponse(
            {**_webhook(hook_type, hook), "enabled": False, "statusCode": 0, "statusMessage": "deleted"}
        )


async def _body(request: Request) -> Mapping[str, object] | None:
    """Return the JSON object of a request, or None if its body is not a JSON object."""
    try:
        given: object = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return None
    return given if is_object(given) else None


def _number(number: str) -> dict[str, object]:
    digits = number.removeprefix("+")
    return {
        "msisdn": digits,
        "dateCreated": _SINCE,
        "dateUpdated": _SINCE,
        "countryCode": phone.country_of("+" + digits),
        "operationalStatus": "Active",
        "referenceId": str(uuid.uuid5(uuid.NAMESPACE_OID, digits)),
        "rentalPrice": 5.0,
        "incomingRate": 0.01,
        "billingUnit": "minute",
        "billingCurrency": "USD",
        "numberType": "LOCAL",
        "uri": f"tel:+{digits}",
        "numberHealthCheckEnabled": True,
        "numberHealth": {"isHealthy": True, "status": "Healthy", "lastCheckedTime": _now()},
    }


def _webhook(hook_type: str, hook: WebhookTarget) -> dict[str, object]:
    return {
        "type": hook_type,
        "url": hook.url,
        "enabled": hook.enabled,
        "httpAuthHeaderAvailable": hook.authorization is not None,
    }


def _ok(shown: Mapping[str, object]) -> Response:
    return JSONResponse({**shown, "statusCode": 0, "statusMessage": "ok"})


def _not_found(message: str) -> Response:
    return JSONResponse({"statusCode": 404, "statusMessage": message, "timestamp": _now()}, status_code=404)


def _invalid(message: str) -> Response:
    return JSONResponse(
        {"errorId": str(uuid.uuid4()), "statusCode": "1001", "statusMessage": message, "timestamp": _now()},
        status_code=422,
    )


def _now() -> str:
    return moment(time.time())
