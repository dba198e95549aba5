"""`voiceflow calls`: list, show, cancel, resolve and redial single calls."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from voiceflow_worker.cli.opening import (
    acting,
    carried_out,
    opened,
    require_batch,
    signals_to,
)
from voiceflow_worker.cli.options import (
    AsOption,
    BatchOption,
    Flag,
    LimitOption,
    NoteOption,
    QueueOptions,
    SinceOption,
    YesOption,
)
from voiceflow_worker.cli.output import ExitCode, Output, first
from voiceflow_worker.core.base.reading import find_pages, totals_of
from voiceflow_worker.core.call_filter import CallFilter
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import read_outcomes
from voiceflow_worker.model.numbers.phone import with_plus
from voiceflow_worker.model.numbers.reading import read_whole_number
from voiceflow_worker.model.text.printable import printable_line

if TYPE_CHECKING:
    from voiceflow_worker.actions import OperatorAction
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.service.one_call import Progress, Report, TestCall
    from voiceflow_worker.settings import Settings

PAGE = 500


StatesOption = Annotated[
    list[JobState] | None,
    Parameter(name="--state", negative=(), name_transform=str.lower, help="Only calls in this state; may be repeated."),
]
OutcomesOption = Annotated[list[str] | None, Parameter(name="--outcome", negative=(), metavar="OUTCOME")]
DestinationOption = Annotated[
    str | None,
    Parameter(name="--number", metavar="NUMBER", help="Only calls to this number, such as +6587654321."),
]
JobIds = Annotated[str, Parameter(name="ID", help="The ids of the calls.")]
JobId = Annotated[str, Parameter(name="ID", help="The id of the call.")]
PostOption = Annotated[
    int | None,
    Parameter(
        name="--post",
        metavar="N",
        help="The number of the POST that you decided about, as in `calls show`. If the call has a newer POST, "
        "nothing is changed.",
    ),
]


async def list_calls(
    *,
    states: StatesOption = None,
    batch: BatchOption = None,
    destination: DestinationOption = None,
    outcomes: Annotated[
        OutcomesOption,
        Parameter(help="Only calls whose newest session has this outcome, such as busy or no_answer; may be repeated."),
    ] = None,
    answer: Annotated[str | None, Parameter(metavar="ANSWER")] = None,
    unique_key: Annotated[str | None, Parameter(metavar="KEY")] = None,
    since: SinceOption = None,
    newest: Annotated[bool, Flag] = False,
    limit: LimitOption = 100,
    common: QueueOptions = QueueOptions(),
) -> None:
    """List calls, the oldest first.

    With --json, one call a line. Exit 1 if the batch has no calls at all.

    Args:
        answer: Only calls whose person gave this answer in a menu, such as confirmed.
        unique_key: Only the call with this unique key.
        newest: List the newest calls first.

    Examples:
        voiceflow calls list --state in_doubt
        voiceflow calls list --outcome busy --since 2h --newest
        voiceflow calls list --batch people --answer confirmed
        voiceflow calls list --batch march --limit 0 --json | jq -r .destination
    """
    from voiceflow_worker.reporting.status import calls_as_json

    number = None if destination is None else read_whole_number(with_plus(destination))
    output = common.output()
    shown: list[Job] = []
    found = 0
    async with common.opened() as calls:
        known = (await totals_of(calls.store, calls.name)).outcomes
        totals = await totals_of(calls.store, calls.name, batch)
        wanted = CallFilter(
            states=None if states is None else frozenset(states),
            batch=batch,
            outcomes=None if outcomes is None else read_outcomes(outcomes, others=known),
            number=number,
            answer=answer,
            begin=calls.store.clock.now() - since if isinstance(since, timedelta) else since,
        )
        size = PAGE if wanted.is_judged else min(PAGE, limit or PAGE)
        pages = find_pages(calls.store, wanted.read(calls.name, newest=newest, limit=size))
        if unique_key is not None:
            pages = _with_key(calls, unique_key)
        async for jobs in first(pages, limit=limit, only=wanted.has):
            found += len(jobs)
            if output.as_json:  # printed page by page, so that a million calls need no memory
                for document in await calls_as_json(calls.store, jobs):
                    output.document(document)
            else:
                shown += jobs
        if not found:
            await require_batch(calls, batch)
            if answer is not None:
                answers = ", ".join(f"{name} ({count})" for name, count in totals.answers.items()) or "none"
                output.note(f"no call of this list has the answer {answer}; answers given: {answers}")
    if not output.as_json:
        _tell_table(output, shown)
        if not shown and number is not None and number != destination:
            output.note(f"{destination} was read as {number}; a national number needs its country code in front")
        if shown:
            output.limited(len(shown), limit, "call")


async def _with_key(calls: CallQueue, key: str) -> AsyncGenerator[Sequence[Job]]:
    """Yield the call of the queue that has this unique key, as the one page."""
    yield await calls.find(unique_key=key)


async def show(job_id: JobId, /, *, common: QueueOptions = QueueOptions()) -> None:
    """Show the whole history of one call.

    Every POST with its result, events of 8x8, and the reason for its state.

    Examples:
        voiceflow calls show default.01JB3W8Z5Q7X9V2K4M6N8P0R2T
    """
    from voiceflow_worker.core.audit import entries_on
    from voiceflow_worker.core.progress import CallProgress
    from voiceflow_worker.reporting.status import calls_as_json
    from voiceflow_worker.reporting.story import progress_as_json, story

    output = common.output()
    async with common.opened() as calls:
        job = await calls.get(job_id)
        heard = await CallProgress(calls.store).of_job(job)
        ordered = await entries_on(calls.store, call=job.id)
        now, (shown,) = calls.store.clock.now(), await calls_as_json(calls.store, [job])
    output.result(
        {**shown, **progress_as_json(heard), "ordered": [each.as_json() for each in ordered]},
        *story(job, at=now, heard=heard).lines(),
        *([f"  waits: {printable_line(str(shown['waits']))}"] if shown["waits"] else []),
        *(f"  ordered: {printable_line(each.in_words())}" for each in reversed(ordered)),
    )


async def cancel(
    *ids: JobIds,
    batch: Annotated[
        BatchOption,
        Parameter(
            help="Cancel this batch for good: its waiting calls and redials end, and nothing can be added to it. A "
            "call that is being sent goes on."
        ),
    ] = None,
    note: NoteOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Cancel calls that have not been sent.

    Exit 1 if a call may have been sent: such a call cannot be cancelled.

    Examples:
        voiceflow calls cancel default.01JB3W8Z5Q7X9V2K4M6N8P0R2T
        voiceflow calls cancel --batch march --note "the event is off"
    """
    if bool(ids) == (batch is not None):
        raise InvalidInputError("name the calls to cancel: give either their ids, or --batch")
    from voiceflow_worker.actions.calls import CancelCall
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.actions.queues import CancelBatch

    def act(**of: Any) -> OperatorAction | Many:
        if batch is not None:
            return CancelBatch(batch=batch, note=note, **of)
        return Many([CancelCall(operator=of["operator"], call=each, note=note) for each in dict.fromkeys(ids)])

    return await common.ordered(act, as_, yes=yes)


async def resolve(
    *ids: Annotated[JobIds, Parameter(required=True)],
    placed: Annotated[
        bool, Parameter(name="--placed", negative="--not-placed", help="The decision: the call was placed, or not.")
    ],
    note: str,
    post: PostOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Decide that calls in doubt were placed, or were not.

    --placed ends the call as accepted; a summary that comes later still counts. --not-placed sends the call again, and
    is refused while 8x8 may still place it; the error names the time from which it is allowed.

    Several calls are listed, with one question. Exit 1 if one of them cannot be resolved; the others are.

    Args:
        note: The reason for the decision; it is stored with each call.

    Examples:
        voiceflow calls list --state in_doubt
        voiceflow calls resolve default.01JB3W8Z5Q7X9V2K4M6N8P --placed --note "case 1"
        voiceflow calls resolve default.01JB3W8Z5Q7X9V2K4M6N8P --not-placed --note "case 1"
    """
    if post is not None and len(ids) != 1:
        raise InvalidInputError("--post is for a single call: give exactly one id with it")
    from voiceflow_worker.actions.calls import Resolve
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.gateway.client import time_at_8x8

    settings = common.settings(store_alone=placed)
    recorded_at = None if placed else await time_at_8x8(settings)
    async with acting(settings, as_) as operator:
        acts = [
            Resolve(operator=operator, call=each, note=note, placed=placed, recorded_at=recorded_at, post=post)
            for each in dict.fromkeys(ids)
        ]
        return await carried_out(Many(acts), common.output(), yes=yes, shows=True)


async def redial(
    *ids: JobIds,
    batch: Annotated[BatchOption, Parameter(help="Redial the calls of this batch; needs --outcome.")] = None,
    outcomes: Annotated[
        OutcomesOption,
        Parameter(help="With --batch: redial calls with this outcome, such as busy or no_answer; may be repeated."),
    ] = None,
    times: Annotated[int | None, Parameter(metavar="N")] = None,
    note: NoteOption = None,
    force: Annotated[bool, Flag] = False,
    post: PostOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Put ended calls back, so that their phones ring again.

    If more than one phone would ring, a question shows which. A repeated command redials nobody of a batch twice.

    Args:
        times: With --batch: redial only calls that people have redialled fewer than this many times. [1]
        force: Redial even if the person was reached, or the call was certainly placed.

    Examples:
        voiceflow calls redial default.01JB3W8Z5Q7X9V2K4M6N8P0R2T
        voiceflow calls redial default.01JB3W8Z5Q7X9V2K4M6N8P0R2T --force
        voiceflow calls redial --batch march --outcome no_answer
    """
    if bool(ids) == (batch is not None):
        raise InvalidInputError("name the calls to redial: give either their ids, or --batch and --outcome")
    if (batch is None) != (outcomes is None) or (batch is None and times is not None):
        raise InvalidInputError(
            "--batch needs --outcome, such as busy or no_answer; --outcome and --times need --batch"
        )
    if (batch is not None and force) or (post is not None and len(ids) != 1):
        raise InvalidInputError("--force is for the ids of calls, not for --batch; --post is for exactly one id")
    from voiceflow_worker.actions.calls import Redial
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.actions.queues import RedialBatch

    def act(**of: Any) -> OperatorAction | Many:
        if batch is not None and outcomes is not None:
            return RedialBatch(batch=batch, note=note, outcomes=outcomes, times=1 if times is None else times, **of)
        redial = partial(Redial, operator=of["operator"], note=note, force=force, post=post)
        return Many([redial(call=each) for each in dict.fromkeys(ids)])

    return await common.ordered(act, as_, yes=yes)


def _tell_table(output: Output, jobs: Sequence[Job]) -> None:
    from voiceflow_worker.reporting.story import ending

    rows = [
        {
            "id": job.id,
            "state": job.state.value,
            "destination": job.destination,
            "name": (job.data or {}).get("name"),
            "batch": job.batch_id,
            "attempts": job.attempt,
            "outcome": ending(job) or None,
            "result": result_of(job),
            "reason": job.reason or None,
        }
        for job in jobs
    ]
    output.records(rows)
    if not rows:
        output.say("no calls")


async def call(
    number: Annotated[str, Parameter(name="NUMBER")],
    /,
    *,
    say: Annotated[str, Parameter(metavar="TEXT")],
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Place one call, and wait for its end.

    Exit 0 if the person was reached, 1 if not. The command puts the call into the batch `call`, and sends it itself,
    from VOICEFLOW_SOURCE, with VOICEFLOW_VOICE_PROFILE. Rate, suppression list and holds apply. Ctrl-C cancels it if it
    has not been sent yet.

    Args:
        number: The number to call, with a plus and the country code.
        say: The text to speak.

    Examples:
        voiceflow call +6581234567 --say "The server room is too warm."
        voiceflow call +6581234567 --say "Wake up." --json | jq -rs 'last.step'
    """
    from voiceflow_worker.service.one_call import TestCall, number_to_call

    if not say.strip():
        raise InvalidInputError("--say is empty: give the text to speak")
    wanted = TestCall(number=number_to_call(number, place="NUMBER"), text=say, batch="call", command="voiceflow call")
    return await placed(common.settings(), wanted, report=reporting(common.output()))


def reporting(output: Output) -> Report:
    """Return a function that prints each step when it happens, even if stdout is a pipe."""

    def report(step: Progress) -> None:
        with suppress(OSError):  # nobody reads it any more, such as `| head -1`: the call goes on
            output.result(step.as_json(), step.as_line())
            sys.stdout.flush()

    return report


async def placed(settings: Settings, wanted: TestCall, *, report: Report) -> ExitCode:
    """Place this call until its end, or until a signal. Exit 0 if the person was reached, 1 if not."""
    from voiceflow_worker.service.one_call import call_and_watch

    async with opened(settings) as voiceflow:
        reached = await call_and_watch(
            voiceflow.queue,
            voiceflow.client,
            wanted,
            settings=settings,
            make_worker=lambda batch: voiceflow.temporary_worker(batch=batch),
            report=report,
            stops=signals_to,
        )
    return ExitCode.DONE if reached else ExitCode.UNDONE
