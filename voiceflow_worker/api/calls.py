"""Calls: ask for one, look at it, wait for its outcome, list calls, cancel, redial and resolve one."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints

from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.api.asked import Calls as Ordering
from voiceflow_worker.api.asked import Reads, Steers, answer, findings_in
from voiceflow_worker.api.models import (
    NO_NOTE,
    Body,
    Call,
    Calls,
    Fields,
    Id,
    Key,
    Limit,
    Note,
    QueueName,
    Wait,
    place,
)
from voiceflow_worker.api.problems import FoundProblem, refused
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.call_filter import STATES
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.numbers.phone import with_plus
from voiceflow_worker.model.numbers.reading import read_whole_number
from voiceflow_worker.reporting.status import calls_as_json
from voiceflow_worker.service.named_call import NamedCall

routes: Final = APIRouter()


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


@routes.post("/v1/calls", status_code=201, response_model=Call, responses={200: {"model": Call}})
async def order(asked: Ordering, body: CallRequest, key: Key) -> Any:
    """Call a number. 200 is the call that was made with this key before, as it is now."""
    server, call = asked.server, NamedCall(body.root, key=key)
    with findings_in(body.root, body.table):
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
    state: Annotated[str | None, Query(pattern=f"^({'|'.join(STATES)})$", description="Only calls in it.")] = None,
    number: Annotated[str | None, Query(description="Only calls to this number, with its country code.")] = None,
    unique_key: Annotated[str | None, Query(description="Only the call with this unique key.")] = None,
    limit: Limit = 100,
    after: CallPlace | None = None,
) -> Any:
    """List the calls of a queue, the oldest first."""
    calls = asked.queue(queue)
    if after is not None and queue_of(after) != calls.name:
        raise refused([FoundProblem(detail="is the id of a call of another queue", parameter="after")])
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
