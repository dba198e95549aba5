"""Calls: ask for one, look at it, wait for its outcome, list calls, cancel, redial and resolve one."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.api.asked import Calls as Ordering
from voiceflow_worker.api.asked import Reads, Steers, answer, told_in
from voiceflow_worker.api.models import (
    NO_NOTE,
    Body,
    Fields,
    Id,
    Json,
    Key,
    Limit,
    Note,
    QueueName,
    TimeTold,
    Told,
    Wait,
    place,
)
from voiceflow_worker.api.problems import FindingTold, refused
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.call_filter import STATES
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.numbers.phone import with_plus
from voiceflow_worker.model.numbers.reading import read_whole_number
from voiceflow_worker.reporting.status import calls_as_json
from voiceflow_worker.service.named_call import NamedCall

routes: Final = APIRouter()


def _state(name: str) -> str:
    if name not in STATES:
        raise ValueError(f"{name[:40]!r} is no state; the states are {', '.join(STATES)}")
    return name


State: TypeAlias = Annotated[
    str, AfterValidator(_state), WithJsonSchema({"type": "string", "enum": list(STATES)}),
    Query(description="Only calls in this state."),
]  # fmt: skip
CallPlace: TypeAlias = Annotated[str, place(r"^[a-z0-9][a-z0-9-]{0,15}\.[0-9A-HJKMNP-TV-Z]{26}$")]
Post: TypeAlias = Annotated[
    int, Field(ge=0, le=1_000_000, description="The number of the call's newest POST: of another, nothing is done.")
]


class CallRequest(Fields, table=schema_of(Of.CALL, required=("to",))):
    """Give one of say, flow and ivr. What is left out comes from the settings of the server."""


class RedialRequest(Note):
    """A redial."""

    post: Post
    force: bool = Field(default=False, description="true: also call a person who was reached.")


class ResolveRequest(Body):
    """A decision about a call in doubt."""

    note: Annotated[str, StringConstraints(min_length=1, max_length=1000)] = Field(
        description="How you know; stored with the call."
    )
    post: Post
    placed: bool = Field(description="false: the call is made again, which is refused while 8x8 may still place it.")


class Outcome(Told):
    """How a call, or an attempt of it, ended. Further fields may be added."""

    session_status: str | None
    code: int | None
    message: str | None
    started_at: TimeTold | None
    ended_at: TimeTold | None
    seconds: float | None
    digits: str | None = Field(description="The keys that were pressed.")
    answer: str | None = Field(description="What the menu calls them.")
    legs: list[Json] | None = None


class Attempt(Told):
    """One POST to 8x8. Further fields may be added."""

    number: int
    destination: str = ""
    client_request_id: str
    began_at: TimeTold | None
    answered_at: TimeTold | None
    session_id: str | None
    verdict: str | None
    code: int | None
    message: str | None = None
    valid_until: TimeTold | None = None
    outcome: Outcome | None = None


class Call(Told):
    """A call, as `voiceflow calls show --json` prints it. Further fields may be added."""

    id: str
    queue: str
    state: JobState
    result: str = Field(description="The outcome in one word; `open` until there is one.")
    unique_key: str | None
    batch_id: str | None
    source: str = ""
    destination: str
    further_numbers: list[str] = Field([], description="The person's other numbers, called after it.")
    priority: int = 0
    created_at: TimeTold
    due_at: TimeTold | None = Field(default=None, description="null once the call has ended.")
    valid_until: TimeTold | None = None
    attempt: int = 0
    session_id: str | None = None
    client_request_id: str | None = None
    outcome: Outcome | None
    answer: str | None = None
    data: Json | None = None
    reason: str | None = None
    attempts: list[Attempt]
    waits: str | None = Field(default=None, description="Why a queued call waits, in words; only where calls are read.")


class Calls(Told):
    """A page of calls."""

    calls: list[Call]
    after: str | None = Field(description="The `after` of the next page; null at the end of the list.")


@routes.post("/v1/calls", status_code=201, response_model=Call, responses={200: {"model": Call}})
async def order(asked: Ordering, body: CallRequest, key: Key) -> Any:
    """Call a number. 200 is the call that was made with this key before, as it is now."""
    server, call = asked.server, NamedCall(body.root, key=key)
    with told_in(body.root, body.table):
        async with asked.queue().ordered(asked.actor(key)) as queue:
            job, is_new = await call.enqueue(queue, settings=server.settings, menus=server.menus)
    return asked.made(call_as_json(job), f"/v1/calls/{job.id}", is_new=is_new)


@routes.get("/v1/calls/{id}", response_model=Call)
async def show(asked: Reads, *, call: Id, wait: Wait = 0) -> Any:
    """Show a call; with `wait`, wait for its outcome."""
    queue, job = await asked.operator.call(call)
    if wait and not job.state.is_final:
        await asked.until(partial(asked.server.watch.wait, call), within=wait)
        job = await queue.get(call)
    (document,) = await calls_as_json(asked.server.store, [job])
    return answer(document)


@routes.get("/v1/calls", response_model=Calls)
async def find(
    asked: Reads,
    *,
    queue: QueueName = None,
    batch: Annotated[str | None, Query(description="Only calls of this batch.")] = None,
    state: State | None = None,
    number: Annotated[str | None, Query(description="Only calls to this number, with its country code.")] = None,
    unique_key: Annotated[str | None, Query(description="Only the call with this unique key.")] = None,
    limit: Limit = 100,
    after: CallPlace | None = None,
) -> Any:
    """List the calls of a queue, the oldest first."""
    calls = asked.queue(queue)
    if after is not None and queue_of(after) != calls.name:
        raise refused([FindingTold(detail="is the id of a call of another queue", parameter="after")])
    found = await calls.find(
        states=None if state is None else STATES[state],
        batch_id=batch,
        destination=None if number is None else read_whole_number(with_plus(number.strip())),  # + is a space in a query
        unique_key=unique_key,
        after=after,
        limit=limit,
    )
    last = found[-1].id if len(found) == limit else None
    return answer({"calls": await calls_as_json(calls.store, found), "after": last})


@routes.post("/v1/calls/{id}/cancel", response_model=Call)
async def cancel(asked: Steers, *, call: Id, body: Note = NO_NOTE) -> Any:
    """Cancel a call that was not sent."""
    return await asked.done(CancelCall(operator=asked.operator, call=call, note=body.note))


@routes.post("/v1/calls/{id}/redial", response_model=Call)
async def redial(asked: Ordering, *, call: Id, body: RedialRequest) -> Any:
    """Call again, after a call that has ended."""
    return await asked.done(
        Redial(operator=asked.operator, call=call, note=body.note, force=body.force, post=body.post)
    )


@routes.post("/v1/calls/{id}/resolve", response_model=Call)
async def resolve(asked: Steers, *, call: Id, body: ResolveRequest) -> Any:
    """Decide whether a call in doubt was placed."""
    at = None if body.placed else await time_at_8x8(asked.server.settings)
    return await asked.done(
        Resolve(operator=asked.operator, call=call, note=body.note, placed=body.placed, post=body.post, recorded_at=at)
    )
