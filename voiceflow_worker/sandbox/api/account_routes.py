"""The endpoints beside callflows: webhooks, speech profiles, numbers, recordings."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.sandbox.events.account import HOOK_TYPES, Account
from voiceflow_worker.sandbox.events.delivery import Hook
from voiceflow_worker.sandbox.orders.orders import same_number
from voiceflow_worker.sandbox.orders.recordings import Recordings

_SUB_ACCOUNT = "/api/v1/subaccounts/{sub_account}"
_NUMBER_STATUS = "Active"
_SINCE = "2026-01-05T08:00:00.000Z"
_PUSH_FIELDS = ("protocol", "host", "port", "username", "password", "path")
_MOST_PORT = 65535


class AccountRoutes:
    """The endpoints of one account beside callflows."""

    def __init__(self, account: Account, recordings: Recordings) -> None:
        self._account = account
        self._recordings = recordings

    def routes(self) -> list[Route]:
        """All routes."""
        return [
            self._route("/speech-profiles", self._profiles, "GET"),
            self._route("/numbers", self._numbers, "GET"),
            self._route("/numbers/{number}", self._number, "GET"),
            self._route("/recordings/{session_id}", self._recordings_of, "GET"),
            self._route("/webhooks", self._webhooks, "GET"),
            self._route("/webhooks/{hook_type}", self._remove_webhook, "DELETE"),
            self._route_with_body("/webhooks", self._register_webhook),
            self._route("/recording-push-config", self._push_config, "GET"),
            self._route("/recording-push-config", self._remove_push_config, "DELETE"),
            self._route_with_body("/recording-push-config", self._set_push_config),
        ]

    def _route(self, path: str, answer: Callable[[str, Request], Response], method: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return turned_away(self._account, request) or answer(request.path_params["sub_account"], request)

        return Route(_SUB_ACCOUNT + path, endpoint, methods=[method])

    def _route_with_body(self, path: str, answer: Callable[[str, Mapping[str, object], Request], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            refused = turned_away(self._account, request)
            if refused is not None:
                return refused
            try:
                given = orjson.loads(await request.body())
            except orjson.JSONDecodeError:
                given = None
            if not is_object(given):
                return _invalid("Invalid JSON request body")
            return answer(request.path_params["sub_account"], given, request)

        return Route(_SUB_ACCOUNT + path, endpoint, methods=["POST"])

    def _profiles(self, _sub_account: str, _request: Request) -> Response:
        return JSONResponse({"speechProfiles": [dict(profile) for profile in self._account.profiles]})

    def _numbers(self, _sub_account: str, _request: Request) -> Response:
        numbers = self._account.numbers
        return JSONResponse(
            {
                "totalNumbers": len(numbers),
                "lastUpdatedAt": _now(),
                "numbers": [_number(number) for number in numbers],
                "statusCode": 0,
                "statusMessage": "ok",
            }
        )

    def _number(self, _sub_account: str, request: Request) -> Response:
        number = request.path_params["number"]
        if not phone.is_e164(number) or not self._account.owns(number):
            return _not_found(f"Number not found : {number}")
        known = _number(same_number(number))
        return JSONResponse(
            {
                "statusCode": 0,
                "statusMessage": "ok",
                "timestamp": _now(),
                "payload": {name: known[name] for name in ("referenceId", "msisdn", "countryCode")},
            }
        )

    def _recordings_of(self, sub_account: str, request: Request) -> Response:
        found = self._recordings.of_session(request.path_params["session_id"], sub_account=sub_account)
        return JSONResponse({"recordings": found, "statusCode": 0, "statusMessage": "ok"})

    def _webhooks(self, sub_account: str, _request: Request) -> Response:
        return JSONResponse(
            {
                "subAccountId": sub_account,
                "count": len(self._account.hooks(sub_account)),
                "webhooks": [_webhook(hook_type, hook) for hook_type, hook in self._account.hooks(sub_account).items()],
                "statusCode": 0,
                "statusMessage": "ok",
            }
        )

    def _register_webhook(self, sub_account: str, given: Mapping[str, object], request: Request) -> Response:
        hook_type, url, header = given.get("type"), given.get("url"), given.get("httpAuthHeader")
        enabled = given.get("enabled", given.get("active"))  # some guides write `active`
        if enabled is None:
            enabled = True
        if not isinstance(hook_type, str) or hook_type not in HOOK_TYPES:
            return _invalid(f"type should be one of: {','.join(HOOK_TYPES)}")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            return _invalid("url should be an http or https address")
        if not isinstance(header, str | None) or not isinstance(enabled, bool):
            return _invalid("httpAuthHeader should be a string, and enabled a boolean")
        self._account.hooks(sub_account)[hook_type] = Hook(url=url, authorization=header, enabled=enabled)
        return self._webhooks(sub_account, request)

    def _remove_webhook(self, sub_account: str, request: Request) -> Response:
        hook_type = request.path_params["hook_type"]
        hook = self._account.hooks(sub_account).pop(hook_type, None)
        if hook is None:
            return JSONResponse(
                {"statusCode": 404, "statusMessage": f"No webhook of type {hook_type}"}, status_code=404
            )
        return JSONResponse(
            {**_webhook(hook_type, hook), "enabled": False, "statusCode": 0, "statusMessage": "deleted"}
        )

    def _push_config(self, sub_account: str, _request: Request) -> Response:
        found = self._account.push_config(sub_account)
        return _no_push() if found is None else JSONResponse(_shown(found))

    def _remove_push_config(self, sub_account: str, _request: Request) -> Response:
        found = self._account.push_config(sub_account)
        if found is None:
            return _no_push()
        self._account.set_push_config(sub_account, None)
        return JSONResponse(_shown(found))

    def _set_push_config(self, sub_account: str, given: Mapping[str, object], _request: Request) -> Response:
        wrong = _wrong_in_push_config(given)
        if wrong is not None:
            return _invalid(wrong)
        config = {name: given[name] for name in _PUSH_FIELDS if given.get(name) is not None}
        self._account.set_push_config(sub_account, config)
        return JSONResponse(_shown(config))


def turned_away(account: Account, request: Request) -> Response | None:
    """The refusal of a request without access; None for one with access."""
    authorization = request.headers.get("authorization")
    refusal = account.refusal(
        None if authorization is None else authorization.encode("latin-1"), request.path_params["sub_account"]
    )
    if refusal is None:
        return None
    status, message = refusal
    return JSONResponse({"statusCode": status, "statusMessage": message}, status_code=status)


def _number(number: str) -> dict[str, object]:
    digits = number.removeprefix("+")
    return {
        "msisdn": digits,
        "dateCreated": _SINCE,
        "dateUpdated": _SINCE,
        "countryCode": phone.country_of("+" + digits),
        "operationalStatus": _NUMBER_STATUS,
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


def _webhook(hook_type: str, hook: Hook) -> dict[str, object]:
    return {
        "type": hook_type,
        "url": hook.url,
        "enabled": hook.enabled,
        "httpAuthHeaderAvailable": hook.authorization is not None,
    }


def _wrong_in_push_config(given: Mapping[str, object]) -> str | None:
    protocol, port = given.get("protocol"), given.get("port")
    if protocol not in {"S3", "SFTP"}:
        return "protocol should be one of: S3,SFTP"
    if not isinstance(given.get("host"), str) or not given["host"]:
        return "host is missing but it is required"
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 < port <= _MOST_PORT):
        return f"port should be between 1 and {_MOST_PORT}"
    texts = ("username", "password", "path")
    wrong = [name for name in texts if not isinstance(given.get(name), str | None)]
    return f"{wrong[0]} should be a string" if wrong else None


def _shown(config: Mapping[str, object]) -> dict[str, object]:
    """A recording-push-config as the service answers it, without its password."""
    shown = {name: value for name, value in config.items() if name != "password"}
    return {**shown, "passwordSet": "password" in config, "statusCode": 0, "statusMessage": "ok"}


def _no_push() -> Response:
    return _not_found("Recording push config not found")


def _not_found(message: str) -> Response:
    return JSONResponse({"statusCode": 404, "statusMessage": message, "timestamp": _now()}, status_code=404)


def _invalid(message: str) -> Response:
    return JSONResponse(
        {"errorId": str(uuid.uuid4()), "statusCode": "1001", "statusMessage": message, "timestamp": _now()},
        status_code=422,
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
