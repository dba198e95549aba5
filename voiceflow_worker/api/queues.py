"""Queues, the suppression list, people and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import Field

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.queues import Hold, Rate, Resume, resume_token
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.api.asked import Reads, Steers, answer
from voiceflow_worker.api.models import (
    NO_HOLD,
    Country,
    Gate,
    HoldRequest,
    Limit,
    Note,
    ResumeRequest,
    Since,
    Suppressed,
    SuppressedNumbers,
    Time,
    place,
)
from voiceflow_worker.api.models import Rate as CallsPerSecond
from voiceflow_worker.core.audit import read_page
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.service.forget import Forget
from voiceflow_worker.service.whole_queue import read_queue

routes: Final = APIRouter()


class QueueResumeRequest(ResumeRequest):
    """The end of a hold of a queue."""

    unread_files: bool = Field(
        default=False, description="true: also if the queue is held because journal files could not be read."
    )


class RateRequest(Note):
    """A rate, for all workers of a queue."""

    rate: CallsPerSecond


class SuppressionRequest(HoldRequest):
    """Without `until` and `for`, for good. An earlier entry stays if it ends later."""

    until: Time = None


NO_TERMS = SuppressionRequest()


@routes.get("/v1/queues/{name}")
async def show_queue(asked: Reads, name: str) -> Any:
    """Show a queue: its calls by state, rate, holds and doubts."""
    return answer((await read_queue(asked.queue(name))).as_json())


@routes.post("/v1/queues/{name}/hold", response_model=Gate)
async def hold_queue(asked: Steers, name: str, body: HoldRequest = NO_HOLD) -> Any:
    """Send no more calls of a queue."""
    return await asked.done(Hold(operator=asked.operator, queue=name, note=body.note, lasts=body.lasts))


@routes.post("/v1/queues/{name}/resume", response_model=Gate)
async def resume_queue(asked: Steers, name: str, body: QueueResumeRequest) -> Any:
    """End the hold of a queue."""
    act = Resume(operator=asked.operator, queue=name, note=body.note, unread_files=body.unread_files)
    return await asked.done(act, resume_token(body.since, body.most))


@routes.put("/v1/queues/{name}/rate")
async def set_rate(asked: Steers, name: str, body: RateRequest) -> Any:
    """Change the rate of a queue, for all its workers."""
    return await asked.done(Rate(operator=asked.operator, queue=name, note=body.note, rate=body.rate))


@routes.put("/v1/suppression/{number}", response_model=Suppressed)
async def suppress(asked: Steers, number: str, country: Country = None, body: SuppressionRequest = NO_TERMS) -> Any:
    """Stop calling a number, in every queue."""
    of: dict[str, Any] = {"note": body.note, "until": body.until, "lasts": body.lasts}
    return await asked.done(Suppress(operator=asked.operator, numbers=[number], country=country, **of))


@routes.get("/v1/suppression/{number}", response_model=Suppressed)
async def show_suppressed(asked: Reads, number: str, country: Country = None) -> Any:
    """Show the entry of a number on the suppression list."""
    found = await SuppressionList(asked.server.store).find(number, country=country)
    if not found:
        raise UnknownSubjectError(f"{number[:40]} is not on the suppression list")
    return answer(next(iter(found.values())).as_json())


@routes.delete(
    "/v1/suppression/{number}",
    responses={204: {"description": "The number was not on the list."}},
)
async def unsuppress(
    asked: Steers,
    number: str,
    since: Annotated[Since, Query(description="The `since` of the entry: another or a newer one stays.")],
    country: Country = None,
) -> Any:
    """Take a number off the suppression list."""
    done = await Unsuppress(operator=asked.operator, numbers=[number], country=country, since=since).do()
    return Response(status_code=204) if done.not_done else answer(done.documents[0])


@routes.get("/v1/suppression", response_model=SuppressedNumbers)
async def list_suppressed(
    asked: Reads,
    *,
    limit: Limit = 100,
    after: Annotated[str | None, place(r"^(\+[0-9]{3,20}|erased [0-9a-f]{32})$")] = None,
) -> Any:
    """List the suppressed numbers."""
    found = await SuppressionList(asked.server.store).scan(after=after or "", limit=limit)
    last = found[-1].number if len(found) == limit else None
    return answer({"numbers": [entry.as_json() for entry in found], "after": last})


@routes.delete("/v1/people/{number}")
async def forget(asked: Steers, number: str, country: Country = None) -> Any:
    """Erase a person, in every queue."""
    return await asked.done(Forget(operator=asked.operator, number=number, country=country))


@routes.get("/v1/audit")
async def show_audit(
    asked: Reads, limit: Limit = 100, after: Annotated[str | None, place(r"^[0-9]{18}\.[0-9a-f]{16}$")] = None
) -> Any:
    """List who ordered what, the newest first."""
    found = await read_page(asked.server.store, after=after or "", limit=limit)
    last = found[-1].id if len(found) == limit else None
    return answer({"entries": [entry.as_json() for entry in found], "after": last})
