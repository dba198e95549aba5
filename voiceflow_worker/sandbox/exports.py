"""The log of ended calls, its exports and their endpoints (8x8 voice log export reference)."""

from __future__ import annotations

import csv
import io
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.sandbox.account import ROOT, SandboxAccount, guarded
from voiceflow_worker.sandbox.call import Call, SessionLeg
from voiceflow_worker.sandbox.call_events import MOS, sip_code_of, wire_time

COLUMNS: tuple[str, ...] = (
    "SessionId", "CallId", "SubAccountId", "Direction", "SourceEndpoint", "DestinationEndpoint", "InitiatedAt",
    "ConnectedAt", "DisconnectedAt", "DurationInSec", "SipStatus", "SessionStatus", "CallStatus", "MOS",
)  # fmt: skip
"""The columns that clients read, of those that the log of 8x8 has."""
Row: TypeAlias = Mapping[str, str]


def as_csv(rows: Sequence[Row]) -> bytes:
    """Return the rows as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _row(call: Call, leg: SessionLeg) -> dict[str, str]:
    def at(seconds: float) -> str:
        return wire_time(call.dialled_at + timedelta(seconds=seconds))

    connected = leg.connected
    seconds = 0 if connected is None else round(leg.ended - connected)
    source, destination = ((number or "").removeprefix("+") for number in (leg.source, leg.destination))
    return {
        "SessionId": call.session_id,
        "CallId": leg.call_id,
        "SubAccountId": call.sub_account,
        "Direction": Direction.OUTBOUND.value,
        "SourceEndpoint": source,
        "DestinationEndpoint": destination,
        "InitiatedAt": at(leg.dialled),
        "ConnectedAt": "" if connected is None else at(connected),
        "DisconnectedAt": at(leg.ended),
        "DurationInSec": str(seconds),
        "SipStatus": str(sip_code_of(leg.status)) if connected is None else "200",
        "SessionStatus": call.plan.status.value,
        "CallStatus": leg.status.value if connected is None else "COMPLETED",
        "MOS": "" if connected is None else str(MOS),
    }


_KEPT = timedelta(days=30)
ExportStatus: TypeAlias = Literal["running", "succeeded", "empty"]


@dataclass(slots=True, kw_only=True)
class Export:
    """One export, with the rows that the log had when the export began."""

    sub_account: str
    rows: Sequence[Row]
    expires: datetime
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    signature: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    polls: int = 0

    @property
    def status(self) -> ExportStatus:
        """Status of the export, which depends on the number of polls so far."""
        if self.polls <= 1:
            return "running"
        return "succeeded" if self.rows else "empty"


class Exports:
    """The log of calls: its rows, in the order in which calls ended, and its exports. `now` is the sandbox's time."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._rows: list[tuple[Call, Row]] = []
        self.begun: dict[str, Export] = {}
        """All exports by their ids, the oldest first."""

    def add(self, call: Call) -> None:
        """Add the rows of an ended call. A call that never rang has no rows."""
        if call.entry.rang:
            self._rows += ((call, _row(call, leg)) for leg in call.legs)

    def begin(self, sub_account: str, *, since: datetime | None = None, until: datetime | None = None) -> Export:
        """Begin an export, by default of calls of the last seven days. Raises ValueError for an invalid range."""
        now = self._now()
        since, until = since or now - timedelta(days=7), until or now
        if since >= until:
            raise ValueError("'from' should be before 'to'")
        calls = [(call, row) for call, row in self._rows if call.sub_account == sub_account]
        rows = [row for call, row in calls if since <= call.dialled_at <= until]
        made = Export(sub_account=sub_account, rows=rows, expires=now + _KEPT)
        self.begun[made.job_id] = made
        return made

    def find(self, sub_account: str, job_id: str) -> Export | None:
        """Return the export of a sub-account with this id, or None."""
        found = self.begun.get(job_id)
        return found if found is not None and found.sub_account == sub_account else None

    def file(self, job_id: str, signature: str | None) -> bytes | None:
        """Return the file of an export, or None without the right signature."""
        found = self.begun.get(job_id)
        return None if found is None or signature != found.signature else as_csv(found.rows)

    def clear(self) -> None:
        """Delete all rows and exports."""
        self._rows.clear()
        self.begun.clear()


_EXPORTS = "/messages/exports"
_FILES = "/_sandbox/files"


@dataclass(frozen=True, slots=True)
class ExportRoutes:
    """The routes that begin and poll an export, and serve its files by signed links."""

    account: SandboxAccount
    exports: Exports

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [
            Route(ROOT + _EXPORTS, guarded(self.account, self.start_export), methods=["POST"]),
            Route(ROOT + _EXPORTS + "/{job_id}", guarded(self.account, self.get_export), methods=["GET"]),
            Route(_FILES + "/{job_id}", self.get_file, methods=["GET"]),
        ]

    async def start_export(self, request: Request) -> Response:
        """Begin an export of the log of calls."""
        try:
            given = orjson.loads(await request.body() or b"{}")
            since, until = _moment(given.get("from")), _moment(given.get("to"))
            made = self.exports.begin(request.path_params["sub_account"], since=since, until=until)
        except (ValueError, AttributeError) as error:
            return _error(400, 1002, str(error))
        return JSONResponse({"jobId": made.job_id}, status_code=202)

    async def get_export(self, request: Request) -> Response:
        """Show the state of an export."""
        export = self.exports.find(request.path_params["sub_account"], request.path_params["job_id"])
        if export is None:
            return _error(404, 4018, "Invalid jobId")
        export.polls += 1
        shown: dict[str, Any] = {"status": export.status}
        if export.status == "succeeded":
            base = str(request.base_url).rstrip("/")
            shown["data"] = [f"{base}{_FILES}/{export.job_id}?signature={export.signature}"]
            shown["expires"] = export.expires.isoformat()
        return JSONResponse(shown)

    async def get_file(self, request: Request) -> Response:
        """Return the CSV file of an export, by the link in its state."""
        if "authorization" in request.headers:
            # Object stores refuse a signed link if the request also has a key. Clients must not send the key here.
            return Response("Only one auth mechanism allowed", status_code=400)
        found = self.exports.file(request.path_params["job_id"], request.query_params.get("signature"))
        return Response(status_code=403) if found is None else Response(found, media_type="text/csv")


def _moment(value: str | None) -> datetime | None:
    """Return a time or a day as a datetime, in UTC if it has no zone. Raises ValueError for anything else."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("'from' and 'to' should be times or days, such as 2026-01-05T08:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _error(status: int, code: int, message: str) -> Response:
    error_id, now = str(uuid.uuid4()), datetime.now(UTC).isoformat()
    return JSONResponse({"code": code, "message": message, "errorId": error_id, "timestamp": now}, status)
