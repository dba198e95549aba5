"""The endpoints for webhooks, speech profiles, numbers and recordings."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.sandbox.calls.ledger import moment
from voiceflow_worker.sandbox.events.account import HOOK_TYPES, SandboxAccount
from voiceflow_worker.sandbox.events.delivery import WebhookTarget
from voiceflow_worker.sandbox.orders import Recordings, same_number

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
