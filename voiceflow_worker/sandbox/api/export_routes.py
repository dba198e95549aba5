"""The endpoints of the log export and of its files."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.sandbox.api.account_routes import guarded
from voiceflow_worker.sandbox.api.exports import Export, Exports
from voiceflow_worker.sandbox.events.account import SandboxAccount

_EXPORTS = "/messages/exports"
_FILES = "/_sandbox/files"


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """The routes that begin, poll and cancel an export, and serve its files by signed links."""

    account: SandboxAccount
    exports: Exports

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [
            guarded(self.account, "POST", _EXPORTS, self._begin),
            self._of_one("GET", self._state),
            self._of_one("DELETE", self._cancel),
            Route(_FILES + "/{job_id}", self._file, methods=["GET"]),
        ]

    def _of_one(self, method: str, answer: Callable[[Request, Export], Response]) -> Route:
        def answered(request: Request) -> Response:
            found = self.exports.find(request.path_params["sub_account"], request.path_params["job_id"])
            return _error(404, 4018, "Invalid jobId") if found is None else answer(request, found)

        return guarded(self.account, method, _EXPORTS + "/{job_id}", answered)

    async def _begin(self, request: Request) -> Response:
        order = self.exports.next_order()
        if order.http_status is not None:
            return _error(order.http_status, order.http_status, HTTPStatus(order.http_status).phrase)
        content = await request.body()
        try:
            given: object = _json_of(content) if content else {}
            if not is_object(given):
                raise ValueError("Invalid JSON request body")
            limit = given.get("limit")
            if limit is None:
                limit = 0
            # In Python, True and False are integers too.
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
                raise ValueError("limit should be a positive number, or 0 for all")
            made = self.exports.begin(
                request.path_params["sub_account"],
                since=_moment(given.get("from")),
                until=_moment(given.get("to")),
                limit=limit,
                order=order,
            )
        except ValueError as error:
            return _error(400, 1002, str(error))
        return JSONResponse({"jobId": made.job_id}, status_code=202)

    def _state(self, request: Request, export: Export) -> Response:
        export.polls += 1
        shown: dict[str, object] = {"status": export.status}
        if export.status == "succeeded":
            base = str(request.base_url).rstrip("/")
            shown["data"] = [f"{base}{_FILES}/{export.job_id}?signature={export.signature}"]
            shown["expires"] = export.expires.isoformat()
        return JSONResponse(shown)

    def _cancel(self, _request: Request, export: Export) -> Response:
        export.is_cancelled = True
        return Response(status_code=204)

    async def _file(self, request: Request) -> Response:
        if "authorization" in request.headers:
            # Object stores refuse a signed link if the request also has a key. Clients must not send the key here.
            return Response("Only one auth mechanism allowed", status_code=400)
        found = self.exports.file(request.path_params["job_id"], request.query_params.get("signature"))
        return Response(status_code=403) if found is None else Response(found, media_type="text/csv")


def _json_of(content: bytes) -> object:
    """Return the JSON value of a body, or None if the body is not JSON."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _moment(value: object) -> datetime | None:
    """Return a time or a day as a datetime, in UTC if it has no zone. Raises ValueError for anything else."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("'from' and 'to' should be times or days, such as 2026-01-05T08:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _error(status: int, code: int, message: str) -> JSONResponse:
    error_id, now = str(uuid.uuid4()), datetime.now(UTC).isoformat()
    return JSONResponse({"code": code, "message": message, "errorId": error_id, "timestamp": now}, status_code=status)
