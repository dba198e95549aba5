"""Queues, the suppression list, people and the audit log: what operators change by commands and in the console."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.queues import Hold as HoldAction
from voiceflow_worker.actions.queues import Rate as RateAction
from voiceflow_worker.actions.queues import Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.api.answers import Answer, etag
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import (
    AFTER,
    Country,
    Duration,
    Json,
    Note,
    Operation,
    PageOf,
    Rate,
    Time,
    TimeTold,
    Told,
)
from voiceflow_worker.backends.local_journal import journal_files
from voiceflow_worker.core.audit import Interface, read_page
from voiceflow_worker.core.suppression import SuppressionList
from voiceflow_worker.errors import StoreForgetsError
from voiceflow_worker.service.forget import Forget
from voiceflow_worker.service.whole_queue import read_queue


class HoldRequest(Note):
    """A hold, which lasts until somebody resumes, or for so long."""

    lasts: Duration = Field(None, alias="for")


class RateRequest(Note):
    """A rate, for all workers of a queue."""

    rate: Rate


class SuppressionRequest(Note):
    """Without `until` and `for`, for good. An earlier entry stays if it ends later."""

    until: Time = None
    lasts: Duration = Field(None, alias="for")


class SuppressedPage(PageOf):
    """A page of the suppression list."""

    after: Annotated[str, StringConstraints(pattern=r"^(\+[0-9]{3,20}|erased [0-9a-f]{32})$")] | None = Field(
        None, description=AFTER
    )


class AuditPage(PageOf):
    """A page of the audit log."""

    after: Annotated[str, StringConstraints(pattern=r"^[0-9]{18}\.[0-9a-f]{16}$")] | None = Field(
        None, description=AFTER
    )


class Gate(Told):
    """A hold, or that there is none."""

    scope: str = Field(json_schema_extra={"enum": ["queue", "batch"]})
    name: str
    state: str = ""
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
    escalations: list[Json] = Field([], description="Those that are open.")
    schedules: list[Json] = Field([], description="The last run of each schedule, and when the next one is due.")


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


async def show_queue(asked: Asked) -> Answer:
    """`GET /v1/queues/{name}`."""
    operator, name = asked.operator, asked.parts["name"]
    queue = operator.queue(name)
    version = await HoldAction(operator=operator, queue=name).resource_version()
    return Answer((await read_queue(queue)).as_json(), headers=etag(version))


async def hold_queue(asked: Asked) -> Answer:
    """`POST /v1/queues/{name}/hold`."""
    given = asked.body(HoldRequest)
    act = HoldAction(operator=asked.operator, queue=asked.parts["name"], note=given.note, lasts=given.lasts)
    return await asked.done(act)


async def resume_queue(asked: Asked) -> Answer:
    """`POST /v1/queues/{name}/resume`."""
    act = Resume(operator=asked.operator, queue=asked.parts["name"], note=asked.body(Note).note)
    return await asked.done(act)


async def set_rate(asked: Asked) -> Answer:
    """`PUT /v1/queues/{name}/rate`."""
    given = asked.body(RateRequest)
    act = RateAction(operator=asked.operator, queue=asked.parts["name"], note=given.note, rate=given.rate)
    return await asked.done(act)


async def suppress(asked: Asked) -> Answer:
    """`PUT /v1/suppression/{number}`."""
    given, of = asked.body(SuppressionRequest), _of_number(asked)
    act = Suppress(**of, note=given.note, until=given.until, lasts=given.lasts)
    answer = await asked.done(act)
    with contextlib.suppress(StoreForgetsError):  # it was stored all the same
        return replace(answer, headers=etag(await act.resource_version()))
    return answer


async def show_suppressed(asked: Asked) -> Answer:
    """`GET /v1/suppression/{number}`."""
    act, number = Suppress(**_of_number(asked)), asked.parts["number"]
    version = await act.resource_version()
    found = list((await act.listed.find(number, country=act.country)).values())
    if not found:
        raise UnknownSubjectError(f"{number[:40]} is not on the suppression list")
    return Answer(found[0].as_json(), headers=etag(version))


async def unsuppress(asked: Asked) -> Answer:
    """`DELETE /v1/suppression/{number}`."""
    return await asked.done(Unsuppress(**_of_number(asked)))


async def list_suppressed(asked: Asked) -> Answer:
    """`GET /v1/suppression`, page by page."""
    query = asked.query(SuppressedPage)
    found = await SuppressionList(asked.desk.store).scan(after=query.after or "", limit=query.limit)
    after = found[-1].number if len(found) == query.limit else None
    return Answer({"numbers": [entry.as_json() for entry in found], "after": after})


async def forget(asked: Asked) -> Answer:
    """`DELETE /v1/people/{number}`."""
    desk, country = asked.desk, asked.query(Country).country
    files = journal_files(desk.settings, desk.store)
    return await asked.done(Forget(operator=asked.operator, number=asked.parts["number"], country=country, files=files))


async def show_audit(asked: Asked) -> Answer:
    """`GET /v1/audit`, page by page."""
    query = asked.query(AuditPage)
    found = await read_page(asked.desk.store, after=query.after or "", limit=query.limit)
    after = found[-1].id if len(found) == query.limit else None
    return Answer({"entries": [entry.as_json() for entry in found], "after": after})


def _of_number(asked: Asked) -> dict[str, Any]:
    country = asked.query(Country).country
    return {"operator": asked.operator, "numbers": [asked.parts["number"]], "country": country}


_GATE = {200: ("The hold of the queue, as it is now.", [Gate])}
_OF_QUEUE: dict[str, Any] = {"matched": True, "problems": [404, 409]}
OPERATIONS: Final = (
    Operation(
        method="GET", path="/v1/queues/{name}", handle=show_queue,
        summary="A queue: its calls by state, rate, holds and doubts.", answers={200: ("The queue.", [Queue])},
    ),
    Operation(
        method="POST", path="/v1/queues/{name}/hold", handle=hold_queue, summary="Send no more calls of a queue.",
        body=HoldRequest, body_required=False, answers=_GATE, **_OF_QUEUE,
    ),
    Operation(
        method="POST", path="/v1/queues/{name}/resume", handle=resume_queue, summary="End the hold of a queue.",
        body=Note, body_required=False, answers=_GATE, **_OF_QUEUE,
    ),
    Operation(
        method="PUT", path="/v1/queues/{name}/rate", handle=set_rate, body=RateRequest, **_OF_QUEUE,
        summary="Change the rate of a queue, for all its workers.",
        answers={200: ("The rate that holds from now on.", [RateTold])},
    ),
    Operation(
        method="GET", path="/v1/suppression", handle=list_suppressed, query=SuppressedPage,
        summary="The suppression list, by number.", answers={200: ("A page of the list.", [SuppressedNumbers])},
    ),
    Operation(
        method="GET", path="/v1/suppression/{number}", handle=show_suppressed, query=Country,
        summary="The entry of a number on the suppression list.",
        answers={200: ("The entry, with the ETag that If-Match takes.", [Suppressed])},
    ),
    Operation(
        method="PUT", path="/v1/suppression/{number}", handle=suppress, query=Country, matched=True,
        summary="Stop calling a number, in every queue.", body=SuppressionRequest, body_required=False,
        answers={200: ("The entry of the suppression list.", [Suppressed])},
    ),
    Operation(
        method="DELETE", path="/v1/suppression/{number}", handle=unsuppress, query=Country, matched=True,
        summary="Take a number off the suppression list.",
        answers={200: ("Whether it was on the list.", [Unsuppressed])},
    ),
    Operation(
        method="DELETE", path="/v1/people/{number}", handle=forget, query=Country, problems=[409],
        summary="Erase a person, in every queue.",
        answers={200: ("What was erased, without the number.", [Receipt])},
    ),
    Operation(
        method="GET", path="/v1/audit", handle=show_audit, query=AuditPage,
        summary="Who ordered what, the newest first.", answers={200: ("A page of the audit log.", [Audit])},
    ),
)  # fmt: skip
