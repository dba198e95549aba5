"""`voiceflow report` and `voiceflow reconcile`: what became of the calls, here and in the log of 8x8."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import opened_queue, voice_client
from voiceflow_worker.cli.options import Flag, QueueOptions
from voiceflow_worker.cli.output import ExitCode, Meter, Output, meter
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of

if TYPE_CHECKING:
    from voiceflow_worker.core.settling.reconcile import LogRequest, Reconciled
    from voiceflow_worker.queue import CallQueue


MANY_CALLS = 20_000
"""A report on at least this many calls takes seconds, and shows its progress."""


async def report(
    *,
    batch: Annotated[str | None, Parameter(metavar="ID")] = None,
    csv: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    xlsx: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    time_zone: Annotated[str | None, Parameter(metavar="ZONE")] = None,
    rows: Annotated[bool, Flag] = False,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Show the outcomes of a batch, or of a whole queue.

    Args:
        batch: Only this batch; `enqueue` prints its id.
        csv: Write a CSV file with one line per call; a column of the campaign file is named data.NAME.
        xlsx: Write an Excel workbook with the same lines.
        time_zone: Show times in this zone, such as Asia/Singapore, instead of UTC. The times of --json stay in UTC.
        rows: With --batch: the files have a line for each row of the campaign's own file, called or not: its columns as
            they are, then what became of the row, and why.

    Examples:
        voiceflow report
        voiceflow report --batch people --csv outcomes.csv --xlsx outcomes.xlsx
        voiceflow report --batch people --xlsx who.xlsx --time-zone Asia/Singapore
        voiceflow report --batch people --rows --xlsx list.xlsx
        voiceflow report --batch people --json | jq .answer_rate
    """
    from voiceflow_worker.campaigns.report_files import ReportFiles, write_report_files
    from voiceflow_worker.core.base.identity import BatchNames
    from voiceflow_worker.model.zones import read_zone
    from voiceflow_worker.reporting.report import build_report

    try:
        zone = None if time_zone is None else read_zone(time_zone)
    except ValueError as error:
        raise InvalidInputError(f"--time-zone {error}") from None
    output, files = common.output(), ReportFiles(csv=csv, xlsx=xlsx, zone=zone, rows=rows)
    if rows and not (files and batch):
        raise InvalidInputError("--rows lists the rows of a batch in a file: add --batch, and --csv or --xlsx")
    async with common.opened() as calls:
        found = await build_report(calls.store, calls.name, batch)
        count = found.total
        if files:
            with meter("report") if count >= MANY_CALLS else nullcontext() as shown:
                progress = None if shown is None else partial(_tell_progress, shown, count)
                read = await write_report_files(files, calls.store, calls.name, batch, progress=progress)
            for file in filter(None, (csv, xlsx)):
                in_file = count_of(read, "call")
                output.note(f"{file}: {f'every row, with {in_file}' if rows else in_file}")
        why = None if found.total else await BatchNames(calls.store, calls.name).why_unknown(batch)
        url = calls.store.url
    output.document(found.as_json())
    if not found.total:
        output.note(why or f"there are no calls in queue {calls.name} of {url}")
        return ExitCode.UNDONE
    if not output.as_json:
        output.answer(*str(found).splitlines())
    return ExitCode.DONE


def _tell_progress(shown: Meter, total: int, count: int) -> None:
    shown(count, total, f"{count} of {count_of(total, 'call')} read")


SHOWN = 50
"""The largest number of calls in doubt in the output; `voiceflow calls list` lists all."""


async def reconcile(
    *,
    submitted: Annotated[bool, Flag] = False,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Look for calls in doubt in the call log of 8x8.

    Also for calls whose summary is overdue, and for queued calls of a store that was put back. A call gets the outcome
    of a row that certainly belongs to it. Others stay in doubt, because rows may come late. Needs VOICEFLOW_API_KEY and
    VOICEFLOW_SUB_ACCOUNT.

    Args:
        submitted: Look also for calls whose summary is not overdue yet, such as after the receiver was down.

    Examples:
        voiceflow reconcile
        voiceflow reconcile --submitted
        voiceflow reconcile --queue reminders --json | jq .open
    """
    from voiceflow_worker.core.settling.reconcile import Reconciler

    settings = common.settings()
    output = common.output()
    client = voice_client(settings)  # reports missing settings before anything is opened
    async with opened_queue(settings) as calls, client as voice:
        reconciler = Reconciler(calls.store, voice, queue=calls.name, policy=calls.policy)
        found = await reconciler.everything(
            submitted=submitted, on_request=lambda request: output.note(_asking(request))
        )
        output.document({name: n for name, n in asdict(found).items() if n or not name.startswith("queued_")})
        await _show(output, calls, found)
    return ExitCode.UNDONE if found.open else ExitCode.DONE


def _asking(request: LogRequest) -> str:
    which = f" ({request.number} of {request.count})" if request.count > 1 else ""
    calls = count_of(request.calls, "call") if request.calls else "queued calls that were sent before the hold"
    since, until = request.asked.since, request.asked.until
    return f"asking 8x8 for its log{which}: {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC, for {calls}"


async def _show(output: Output, calls: CallQueue, found: Reconciled) -> None:
    if found.queued_in_log or found.queued_not_in_log:
        output.say(
            f"queued calls of the store that was put back: {found.queued_in_log} in the log of 8x8, in doubt now; "
            f"{found.queued_not_in_log} not in the log, which stay queued and held"
        )
    if not found.looked_at:
        output.say("no call is in doubt, and no summary is overdue: nothing to look for")
        return
    output.say(
        f"looked for {count_of(found.looked_at, 'call')}: placed {found.placed}, not placed {found.not_placed}, "
        f"still open {found.open}"
    )
    if not found.open or output.as_json:
        return
    doubts = await calls.find(states=[JobState.IN_DOUBT], limit=SHOWN)
    if doubts:
        output.table(("id", "destination", "reason"), [(job.id, job.number, job.reason) for job in doubts])
    output.say(
        "A call may appear late in the log of 8x8: run this command again later. See `voiceflow calls list --state "
        "in_doubt`, and decide by hand: `voiceflow calls resolve ID --placed|--not-placed --note TEXT`"
    )
