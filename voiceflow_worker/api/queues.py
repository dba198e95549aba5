"""Queues, the suppression list, people and the audit log: what operators change by commands and in the console."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, StringConstraints

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.queues import Hold as HoldAction
from voiceflow_worker.actions.queues import Rate as RateAction
from voiceflow_worker.actions.queues import Resume, resume_token
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.api.answers import Answer
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import (
    Country,
    Duration,
    Json,
    Note,
    PageOf,
    Rate,
    Routes,
    Since,
    Time,
    TimeTold,
    Told,
)
from voiceflow_worker.core.audit import Interface, read_page
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.service.forget import Forget
from voiceflow_worker.service.whole_queue import read_queue

routes: Final = Routes()


class HoldRequest(Note):
    """A hold, which lasts until somebody resumes, or for so long."""

    lasts: Duration = Field(None, alias="for")


class ResumeRequest(Note):
    """The end of a hold: of the one that began at this time, and of no other."""

    since: Since = Field(description="The `since` of the hold.")
    most: int = Field(ge=0, le=1_000_000_000, description="How many calls may ring at most, such as all that wait.")
    unread_files: bool = Field(
        default=False, description="true: also if the queue is held because journal files could not be read."
    )


class RateRequest(Note):
    """A rate, for all workers of a queue."""

    rate: Rate


class Removal(Country):
    """Which entry of a number is removed."""

    since: Since = Field(description="The `since` of the entry: another or a newer one stays.")


class SuppressionRequest(HoldRequest):
    """Without `until` and `for`, for good. An earlier entry stays if it ends later."""

    until: Time = None


SuppressedPlace: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(\+[0-9]{3,20}|erased [0-9a-f]{32})$")]
AuditPlace: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9]{18}\.[0-9a-f]{16}$")]


class Gate(Told):
    """A hold, or that there is none."""

    scope: str = Field(json_schema_extra={"enum": ["queue", "batch"]})
    name: str
    state: str = ""
    since: TimeTold | None = None
    until: TimeTold | None
    reason: str | None


class Queue(Told):
    """A queue, as `voiceflow status --json` prints it."""

    queue: str
    states: dict[str, int]
    due: int
    oldest_due_seconds: float | None = None
    rate: Json
    holds: list[Gate]
    waiting: Json
    doubts: int
    total: int
    conditions: list[Json] = Field([], description="What stands in the way of its calls, as `doctor` prints it.")


class RateTold(Told):
    """The rate of a queue."""

    queue: str
    rate: float | None = Field(description="null: unlimited.")
    is_set: bool


class Suppressed(Told):
    """An entry of the suppression list."""

    number: str
    since: TimeTold
    until: TimeTold | None
    reason: str | None


class SuppressedNumbers(Told):
    """A page of the suppression list."""

    numbers: list[Suppressed]
    after: str | None


class Unsuppressed(Told):
    """Whether a number was on the list."""

    number: str
    removed: bool


class Receipt(Told):
    """What was erased of a person, without the number."""

    receipt: str
    at: TimeTold
    erased: dict[str, int]
    cancelled: int = Field(description="Waiting calls that are never made.")
    kept: Json
    not_ours: str = Field(description="Where else data of the person may be.")


class AuditEntry(Told):
    """Who ordered what."""

    id: str
    at: TimeTold
    action: str
    on: Interface
    by: str | None = Field(description="The login, the name of the API secret, or the DAG and its run.")
    named: str | None = Field(alias="as", description="The name that the person gave.")
    queue: str | None
    batch_id: str | None
    call_id: str | None
    numbers: list[str] | None = None
    note: str | None
    idempotency_key: str | None = None
    result: str | None = Field(description="null: the process died before it was known.")


class Audit(Told):
    """A page of the audit log."""

    entries: list[AuditEntry]
    after: str | None


_REMOVED = {200: ("The entry was removed.", [Unsuppressed]), 204: ("The number was not on the list.", [])}


@routes.on("GET", "/v1/queues/{name}", Queue)
async def show_queue(asked: Asked) -> Answer:
    """A queue: its calls by state, rate, holds and doubts."""
    queue = asked.operator.queue(asked.parts["name"])
    return Answer((await read_queue(queue)).as_json())


@routes.on("POST", "/v1/queues/{name}/hold", Gate)
async def hold_queue(asked: Asked, body: HoldRequest) -> Answer:
    """Send no more calls of a queue."""
    return await asked.done(HoldAction(**_of_queue(asked), note=body.note, lasts=body.lasts))


@routes.on("POST", "/v1/queues/{name}/resume", Gate)
async def resume_queue(asked: Asked, body: ResumeRequest) -> Answer:
    """End the hold of a queue."""
    act = Resume(**_of_queue(asked), note=body.note, unread_files=body.unread_files)
    return await asked.done(act, resume_token(body.since, body.most))


@routes.on("PUT", "/v1/queues/{name}/rate", RateTold)
async def set_rate(asked: Asked, body: RateRequest) -> Answer:
    """Change the rate of a queue, for all its workers."""
    return await asked.done(RateAction(**_of_queue(asked), note=body.note, rate=body.rate))


@routes.on("PUT", "/v1/suppression/{number}", Suppressed)
async def suppress(asked: Asked, query: Country, body: SuppressionRequest) -> Answer:
    """Stop calling a number, in every queue."""
    return await asked.done(Suppress(**_of_number(asked, query), note=body.note, until=body.until, lasts=body.lasts))


@routes.on("GET", "/v1/suppression/{number}", Suppressed)
async def show_suppressed(asked: Asked, query: Country) -> Answer:
    """The entry of a number on the suppression list."""
    act, number = Suppress(**_of_number(asked, query)), asked.parts["number"]
    found = list((await act.listed.newest(number, country=act.country)).values())
    if not found:
        raise UnknownSubjectError(f"{number[:40]} is not on the suppression list")
    return Answer(found[0].as_json())


@routes.on("DELETE", "/v1/suppression/{number}", _REMOVED)
async def unsuppress(asked: Asked, query: Removal) -> Answer:
    """Take a number off the suppression list."""
    done = await Unsuppress(**_of_number(asked, query), since=query.since).do()
    return Answer(status=204) if done.not_done else Answer(done.documents[0])


@routes.on("GET", "/v1/suppression", SuppressedNumbers)
async def list_suppressed(asked: Asked, query: PageOf[SuppressedPlace]) -> Answer:
    """The suppression list, by number."""
    found = await SuppressionList(asked.context.store).scan(after=query.after or "", limit=query.limit)
    after = found[-1].number if len(found) == query.limit else None
    return Answer({"numbers": [entry.as_json() for entry in found], "after": after})


@routes.on("DELETE", "/v1/people/{number}", Receipt)
async def forget(asked: Asked, query: Country) -> Answer:
    """Erase a person, in every queue."""
    return await asked.done(Forget(operator=asked.operator, number=asked.parts["number"], country=query.country))


@routes.on("GET", "/v1/audit", Audit)
async def show_audit(asked: Asked, query: PageOf[AuditPlace]) -> Answer:
    """Who ordered what, the newest first."""
    found = await read_page(asked.context.store, after=query.after or "", limit=query.limit)
    after = found[-1].id if len(found) == query.limit else None
    return Answer({"entries": [entry.as_json() for entry in found], "after": after})


def _of_queue(asked: Asked) -> dict[str, Any]:
    return {"operator": asked.operator, "queue": asked.parts["name"]}


def _of_number(asked: Asked, query: Country) -> dict[str, Any]:
    return {"operator": asked.operator, "numbers": [asked.parts["number"]], "country": query.country}
