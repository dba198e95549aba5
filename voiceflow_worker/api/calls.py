"""Calls: ask for one, look at it, wait for its outcome, list calls, cancel, redial and resolve one."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from voiceflow_worker.actions.calls import CancelCall, Redial, Resolve
from voiceflow_worker.api.answers import Answer, unfit
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import Body, Fields, Json, Note, PageOf, Routes, TimeTold, Told, Wait
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.call_filter import STATES
from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.numbers.phone import with_plus
from voiceflow_worker.model.numbers.reading import read_whole_number
from voiceflow_worker.reporting.status import calls_as_json
from voiceflow_worker.service.named_call import NamedCall

routes: Final = Routes()


def _state(name: str) -> str:
    if name not in STATES:
        raise ValueError(f"{name[:40]!r} is no state; the states are {', '.join(STATES)}")
    return name


State: TypeAlias = Annotated[str, AfterValidator(_state), WithJsonSchema({"type": "string", "enum": list(STATES)})]
CallId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,15}\.[0-9A-HJKMNP-TV-Z]{26}$")]


Post: TypeAlias = Annotated[
    int, Field(ge=0, le=1_000_000, description="The number of the call's newest POST: of another, nothing is done.")
]


class Find(PageOf[CallId]):
    """Which calls are wanted."""

    batch: str | None = Field(None, description="Only calls of this batch.")
    state: State | None = Field(None, description="Only calls in this state.")
    number: str | None = Field(None, description="Only calls to this number, with its country code.")


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
    due_at: TimeTold | None = Field(None, description="null once the call has ended.")
    valid_until: TimeTold | None = None
    attempt: int = 0
    session_id: str | None = None
    client_request_id: str | None = None
    outcome: Outcome | None
    answer: str | None = None
    data: Json | None = None
    reason: str | None = None
    attempts: list[Attempt]
    waits: str | None = Field(None, description="Why a queued call waits, in words; only where calls are read.")


class Calls(Told):
    """A page of calls."""

    calls: list[Call]
    after: str | None = Field(description="The `after` of the next page; null at the end of the list.")


async def check(asked: Asked, body: CallRequest) -> None:
    """Raise the errors of a call that is not asked for, because something else of the request is wrong."""
    context = asked.context
    call = await asked.in_thread(NamedCall, body.root, key=asked.key or "-")
    await asked.in_thread(call.checked, settings=context.settings, menus=context.menus, now=context.store.clock.now())


_ORDERED = {
    200: ("The call that was already created with this key, as it is now.", [Call]),
    201: ("The new call.", [Call]),
}


@routes.on("POST", "/v1/calls", _ORDERED, keyed=True, check=check)
async def ask(asked: Asked, body: CallRequest) -> Answer:
    """Call a number."""
    context = asked.context
    call = await asked.in_thread(NamedCall, body.root, key=asked.key)
    with asked.alone():
        async with context.queue.ordered(asked.actor) as queue:
            job, is_new = await call.enqueue(
                queue, settings=context.settings, menus=context.menus, threads=asked.threads
            )
    return Answer(call_as_json(job), 201 if is_new else 200, location=f"/v1/calls/{job.id}")


@routes.on("GET", "/v1/calls/{id}", Call)
async def show(asked: Asked, query: Wait) -> Answer:
    """One call, and its outcome if it has ended.

    It may wait for the outcome.
    """
    _, job = await asked.operator.call(asked.parts["id"])
    job = await asked.ended(job, within=query.wait)
    (answer,) = await calls_as_json(asked.context.store, [job])
    return Answer(answer)


@routes.on("GET", "/v1/calls", Calls)
async def find(asked: Asked, query: Find) -> Answer:
    """Calls of the queue, the oldest first."""
    queue = asked.context.queue
    if query.after is not None and queue_of(query.after) != queue.name:
        raise unfit("is the id of a call of another queue", parameter="after")
    number = query.number
    found = await queue.find(
        states=None if query.state is None else STATES[query.state],
        batch_id=query.batch,
        destination=None if number is None else read_whole_number(with_plus(number.strip())),  # + is a space in a query
        after=query.after,
        limit=query.limit,
    )
    after = found[-1].id if len(found) == query.limit else None
    return Answer({"calls": await calls_as_json(queue.store, found), "after": after})


@routes.on("POST", "/v1/calls/{id}/cancel", Call)
async def cancel(asked: Asked, body: Note) -> Answer:
    """Cancel a call that was not sent."""
    operator, call = asked.operator, asked.parts["id"]
    try:
        return await asked.done(CancelCall(operator=operator, call=call, note=body.note))
    except IllegalMoveError:
        _, job = await operator.call(call)
        if job.state is not JobState.CANCELLED:
            raise
        await confirm(operator.store)
        return Answer(call_as_json(job))  # asked again, because the answer was lost


@routes.on("POST", "/v1/calls/{id}/redial", Call)
async def redial(asked: Asked, body: RedialRequest) -> Answer:
    """Call again, after a call that has ended."""
    operator, call = asked.operator, asked.parts["id"]
    return await asked.done(Redial(operator=operator, call=call, note=body.note, force=body.force, post=body.post))


@routes.on("POST", "/v1/calls/{id}/resolve", Call)
async def resolve(asked: Asked, body: ResolveRequest) -> Answer:
    """Decide whether a call in doubt was placed."""
    at = None if body.placed else await time_at_8x8(asked.context.settings)
    operator, call = asked.operator, asked.parts["id"]
    return await asked.done(
        Resolve(operator=operator, call=call, note=body.note, placed=body.placed, post=body.post, recorded_at=at)
    )
