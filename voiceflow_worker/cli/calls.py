"""`voiceflow calls`: list, show, cancel, resolve and redial single calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from voiceflow_worker.cli.batches import why_unknown
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import opened_queue, settings_from
from voiceflow_worker.cli.options import BatchOption, Flag, JsonOption, LimitOption, QueueOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.registering import add_command
from voiceflow_worker.errors import InvalidInputError, JobError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.records.call_json import call_as_json
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.core.queue import CallQueue
    from voiceflow_worker.model.jobs.job import Job

PAGE = 500
COLUMNS = ("id", "state", "destination", "batch", "#attempts", "outcome", "reason")

LIST_EXAMPLES = """Examples:
  voiceflow calls list --state in_doubt
  voiceflow calls list --batch march --limit 0 --json | jq -r .destination"""
SHOW_EXAMPLES = """Example:
  voiceflow calls show default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"""
CANCEL_EXAMPLES = """Examples:
  voiceflow calls cancel default.01JB3W8Z5Q7X9V2K4M6N8P0R2T
  voiceflow calls cancel --batch march --reason "the event is off\""""
RESOLVE_EXAMPLES = """Examples:
  voiceflow calls resolve default.01JB3W8Z5Q7X9V2K4M6N8P0R2T --placed --note "seen in the 8x8 portal"
  voiceflow calls resolve default.01JB3W8Z5Q7X9V2K4M6N8P0R2T --not-placed --note "8x8 support says so, case 123\""""
REDIAL_EXAMPLES = """Examples:
  voiceflow calls redial default.01JB3W8Z5Q7X9V2K4M6N8P0R2T
  voiceflow calls redial default.01JB3W8Z5Q7X9V2K4M6N8P0R2T --force --note "asked to be called again\""""

StatesOption = Annotated[
    list[JobState] | None,
    Parameter(name="--state", negative=(), name_transform=str.lower, help="Only calls in this state; may be repeated."),
]
JobIds = Annotated[str, Parameter(name="ID", help="The ids of the jobs.")]
JobId = Annotated[str, Parameter(name="ID", help="The id of the job.")]


def calls_group() -> App:
    """`calls` with its commands."""
    group = App(name="calls", help="List, show, cancel, resolve and redial single calls.")
    add_command(group, list_calls, name="list", examples=LIST_EXAMPLES)
    add_command(group, show, examples=SHOW_EXAMPLES)
    add_command(group, cancel, examples=CANCEL_EXAMPLES, usage="[OPTIONS] (ID... | --batch ID)")
    add_command(group, resolve, examples=RESOLVE_EXAMPLES)
    add_command(group, redial, examples=REDIAL_EXAMPLES, usage="[OPTIONS] ID...")
    return group


async def list_calls(
    *,
    states: StatesOption = None,
    batch: BatchOption = None,
    destination: str | None = None,
    limit: LimitOption = 100,
    json: JsonOption = False,
    where: QueueOptions | None = None,
) -> ExitCode:
    """List calls, the oldest first. With --json, one call a line.

    Args:
        destination: Only calls to this number, such as +6587654321.
    """
    from voiceflow_worker.model.numbers import phone

    number = phone.normalise(destination) if destination is not None else None
    output = Output(as_json=json)
    shown: list[Job] = []
    async with opened_queue(settings_from(where)) as calls:
        async for job in _found(calls, states=states, batch=batch, destination=number, limit=limit or None):
            if json:
                output.document(call_as_json(job))
            else:
                shown.append(job)
        unknown = await why_unknown(calls, batch) if not shown and not json else None
    if unknown is not None:
        output.note(unknown)
    if not json:
        _tell_table(output, shown)
        if len(shown) == limit:
            output.note(f"these are the first {limit}; --limit 0 lists all")
    return ExitCode.DONE


async def show(
    job_id: JobId,
    /,
    *,
    json: JsonOption = False,
    where: QueueOptions | None = None,
) -> ExitCode:
    """Show the whole history of one call: every POST with its result, events of 8x8, and the reason for its state."""
    from voiceflow_worker.core.events.progress import CallProgress
    from voiceflow_worker.core.overview.progress_text import progress_as_json
    from voiceflow_worker.core.overview.story import story

    output = Output(as_json=json)
    async with opened_queue(settings_from(where)) as calls:
        job = await calls.get(job_id)
        heard = await CallProgress(calls.store).of_job(job)
        now = calls.store.clock.now()
    output.document({**call_as_json(job), **progress_as_json(heard)})
    if not json:
        for line in story(job, at=now, heard=heard).lines():
            output.say(line)
    return ExitCode.DONE


async def cancel(
    *ids: JobIds,
    batch: Annotated[
        str | None,
        Parameter(name="--batch", metavar="ID", help="Cancel a whole batch for good, with calls added to it later."),
    ] = None,
    reason: str | None = None,
    json: JsonOption = False,
    where: QueueOptions | None = None,
) -> ExitCode:
    """Cancel calls that have not been sent. A call that may have been sent cannot be cancelled: exit code 1.

    Args:
        reason: The reason, shown with the call.
    """
    if bool(ids) == (batch is not None):
        raise InvalidInputError("say what to cancel: either the ids of jobs, or --batch")
    output = Output(as_json=json)
    async with opened_queue(settings_from(where)) as calls:
        if batch is not None:
            unknown = await why_unknown(calls, batch)
            if unknown is not None:
                output.note(f"{unknown}. Nothing was cancelled.")
                return ExitCode.UNDONE
            count = await calls.cancel_batch(batch, reason=reason or "the batch was cancelled by a person")
            output.document({"batch_id": batch, "cancelled": count})
            output.answer(f"batch {batch} is cancelled for good; {count_of(count, 'waiting call')} ended")
            return ExitCode.DONE
        return await _each(output, ids, lambda job_id: calls.cancel(job_id, reason=reason or "cancelled by a person"))


async def resolve(
    job_id: JobId,
    /,
    *,
    placed: Annotated[bool, Parameter(name="--placed", negative="--not-placed", help="Whether the phone was called.")],
    note: str,
    json: JsonOption = False,
    where: QueueOptions | None = None,
) -> ExitCode:
    """Resolve a call in doubt: say whether it was placed.

    "Placed" ends it as accepted; a late summary still settles it. "Not placed" puts it back in the queue, so it is
    refused until 8x8 can no longer place the call; the message says when. The time is that of 8x8's own
    clock when an API key and a sub-account are set, else the store's.

    Args:
        note: How you know; it is kept with the call.
    """
    from voiceflow_worker.cli.voice import time_at_8x8
    from voiceflow_worker.core.overview.story import one_line

    settings = settings_from(where)
    witnessed = None if placed else await time_at_8x8(settings)
    async with opened_queue(settings) as calls:
        job = await calls.resolve(job_id, placed=placed, note=note, witnessed=witnessed)
    output = Output(as_json=json)
    output.document(call_as_json(job))
    output.answer(one_line(job))
    return ExitCode.DONE


async def redial(
    *ids: JobIds,
    note: str = "called again by a person",
    force: Annotated[bool, Flag] = False,
    json: JsonOption = False,
    where: QueueOptions | None = None,
) -> ExitCode:
    """Call again: calls that ended go back into the queue, and their phones ring once more.

    Args:
        note: Why; it is kept with the call.
        force: Redial even if the person was reached, or was certainly called.
    """
    if not ids:
        raise InvalidInputError("say what to redial: the ids of jobs")
    async with opened_queue(settings_from(where)) as calls:
        return await _each(Output(as_json=json), ids, lambda job_id: calls.redial(job_id, note=note, force=force))


async def _each(output: Output, ids: Sequence[str], change: Callable[[str], Awaitable[Job]]) -> ExitCode:
    """Change each job. A refusal is printed, and the other jobs are changed all the same."""
    from voiceflow_worker.core.overview.story import one_line

    code = ExitCode.DONE
    for job_id in ids:
        try:
            job = await change(job_id)
        except JobError as error:
            output.note(str(error))
            code = ExitCode.UNDONE
            continue
        output.document(call_as_json(job))
        output.answer(one_line(job))
    return code


async def _found(
    calls: CallQueue,
    *,
    states: Sequence[JobState] | None,
    batch: str | None,
    destination: str | None,
    limit: int | None,
) -> AsyncIterator[Job]:
    """Calls page by page: a listing of a million calls is not held in memory."""
    after, left = None, limit
    while left is None or left > 0:
        page = await calls.find(
            states=states,
            batch_id=batch,
            destination=destination,
            after=after,
            limit=PAGE if left is None else min(PAGE, left),
        )
        for job in page:
            yield job
        if len(page) < PAGE:
            return
        after = page[-1].id
        left = None if left is None else left - len(page)


def _tell_table(output: Output, jobs: Sequence[Job]) -> None:
    from voiceflow_worker.core.overview.story import ending

    if not jobs:
        output.say("no calls")
        return
    rows = [
        (job.id, job.state.value, job.destination, job.batch_id, job.attempt, ending(job), job.reason) for job in jobs
    ]
    # What is empty in every row would only take room from what is not.
    filled = [place for place in range(len(COLUMNS)) if any(row[place] not in {None, ""} for row in rows)]
    output.table([COLUMNS[place] for place in filled], [[row[place] for place in filled] for row in rows])
