"""`voiceflow enqueue`: put the calls of a file into a queue."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio import get_cancelled_exc_class
from cyclopts import Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.findings import tell_findings, typed
from voiceflow_worker.cli.garbage_collection import collect_less
from voiceflow_worker.cli.opening import opened_queue
from voiceflow_worker.cli.options import Flag, QueueOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.preview import Assumptions, preview_options, tell_preview
from voiceflow_worker.cli.progress import Meter, meter
from voiceflow_worker.cli.row_options import FILE_KINDS, FileArgument, RowOptions, campaign_options, input_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.enqueue import OnProgress, Phase
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport


async def enqueue(
    file: Annotated[FileArgument, Parameter(help=f"{FILE_KINDS}.")],
    /,
    *,
    rows: RowOptions | None = None,
    assumptions: Assumptions | None = None,
    skip_bad: Annotated[bool, Flag] = False,
    rejects: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    dry_run: Annotated[bool, Flag] = False,
    again: Annotated[bool, Flag] = False,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Put the calls of a file into a queue; `voiceflow worker` sends them.

    If a row is bad, nothing is enqueued, all bad rows are listed, and the exit code is 2. A file that is enqueued twice
    adds nothing the second time: a row is recognised by its unique_key, else by its batch and body. Numbers on the
    suppression list are left out.

    Args:
        skip_bad: Enqueue the good rows even if other rows are bad, and exit 0.
        rejects: Write the bad rows to this file, unchanged, with the reasons. Correct them, then enqueue that file
            with the same --batch.
        dry_run: Enqueue nothing, and show a preview: texts, duration and cost.
        again: Also call numbers that already have another call in the batch. By default, a file with such numbers is
            refused.

    Examples:
        voiceflow enqueue people.csv --template reminder.json --source +6531234567 --valid-for 2h
        voiceflow enqueue people.csv --say "Hello {{name}}" --voice-profile en-US-JennyNeural --country SG
        voiceflow enqueue people.csv --template reminder.json --skip-bad --rejects bad.csv
        voiceflow enqueue people.csv --template reminder.json --window 09:00-20:00 --days mon-sat --holidays SG
        voiceflow enqueue people.csv --template reminder.json --redial-on unreached --redial-max 2 --redial-after 30m
        voiceflow enqueue appointments.csv --ivr appointment:appointment --source +6531234567
        voiceflow enqueue people.xlsx --template reminder.json --dry-run --prices prices.csv --rate 10
    """
    from voiceflow_worker.campaigns.enqueue import enqueue_file

    settings = common.settings()
    output = common.output()
    try:
        options = campaign_options(rows, settings)
        async with input_file(file) as source, opened_queue(settings, makes=True) as calls:
            collect_less()
            limits = await calls.store.control.limits(calls.name)
            assumed = preview_options(assumptions, settings, limits=limits, time_zone=options.time_zone)
            with meter(f"enqueuing {source.name}") as shown:
                report = await enqueue_file(
                    calls,
                    source,
                    options,
                    now=calls.store.clock.now(),
                    skip_bad=skip_bad,
                    rejects=rejects,
                    dry_run=dry_run,
                    assumptions=assumed,
                    again=again,
                    progress=_shown_on(shown),
                )
    except get_cancelled_exc_class():
        output.note(
            f"{file}: interrupted; some of its rows may be enqueued. Enqueue the same file again for the rest: no row "
            "is added twice."
        )
        raise
    except CampaignFileError as error:
        batch_id = rows.batch if rows is not None else None
        output.document(_unreadable(error, file, batch_id=batch_id, dry_run=dry_run).as_json())
        raise
    report = replace(report, findings=tuple(typed(report.findings)))
    output.document(report.as_json())
    if not output.as_json:
        tell_findings(output, report.findings)
        if report.preview is not None:
            tell_preview(output, report.preview)
    _tell(output, report, file, rejects=rejects)
    if options.stops is not None and options.stops.after_cost is not None:
        output.note(
            "--stop-after-cost counts only known prices; run `voiceflow reconcile --prices` regularly to read them"
        )
    return ExitCode.BAD_INPUT if report.refused else ExitCode.DONE


def _shown_on(shown: Meter) -> OnProgress:
    began: dict[Phase, tuple[float, int]] = {}

    def show(phase: Phase, *, done: int, total: int, rows: int) -> None:
        from voiceflow_worker.campaigns.enqueue import Phase

        count = rows if phase is Phase.READING else done
        now = time.monotonic()
        since, first = began.setdefault(phase, (now, count))
        speed = f", {(count - first) / (now - since):.0f} a second" if count > first else ""
        note = f"{rows} rows read" if phase is Phase.READING else f"{done} of {total} rows enqueued"
        shown(done, total, note + speed)

    return show


def _tell(output: Output, report: EnqueueReport, file: Path, *, rejects: Path | None) -> None:
    """Print the result: on stdout, or on stderr if stdout carries JSON."""
    duplicates = count_of(report.duplicates, "duplicate")
    if report.refused and report.again:
        output.say(
            f"{file}: {report.again} of {count_of(report.rows, 'row')} would call a number that already has a call in "
            "the same batch; nothing is enqueued. Look at the calls of the batch, or enqueue with --again."
        )
    elif report.refused:
        bad, them = ("is bad", "it") if report.rejected == 1 else ("are bad", "them")
        rest = f", or enqueue the other {report.valid} with --skip-bad." if report.valid else "."
        if report.duplicates:
            are, repeat = ("is", "repeats") if report.duplicates == 1 else ("are", "repeat")
            known = count_of(report.duplicates, "row" if report.valid else "other row")
            rest += f" {known} {are} already in the queue or {repeat} another row."
        rows = count_of(report.rows, "row")
        output.say(f"{file}: {report.rejected} of {rows} {bad}; nothing is enqueued. Correct {them}{rest}")
    elif report.dry_run:
        counts = f"{report.valid} would be enqueued, {duplicates}, {report.rejected} bad"
        counts += f", {report.suppressed} suppressed" if report.suppressed else ""
        counts += (
            f", {report.again} to numbers that the batch has called (refused without --again)" if report.again else ""
        )
        output.say(f"{file}: {count_of(report.rows, 'row')}: {counts}; nothing was enqueued (--dry-run)")
    else:
        counts = f"{report.enqueued} enqueued, {duplicates}, {report.rejected} bad"
        counts += f", {report.suppressed} suppressed" if report.suppressed else ""
        output.say(f"{file}: batch {report.batch_id}: {counts}")
    if rejects is not None and report.rejected:
        batch = shlex.quote(report.batch_id)
        remedy = f"correct them, then enqueue {rejects} with --batch {batch}"
        output.say(f"the bad rows are in {rejects}, with the reasons: {remedy}")


def _unreadable(error: CampaignFileError, file: Path, *, batch_id: str | None, dry_run: bool) -> EnqueueReport:
    """The report on a file that could not be read: counts of 0, and the findings."""
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
    from voiceflow_worker.campaigns.files.input_file import InputFile

    remedy = next(iter(error.remedies), None)
    return EnqueueReport(
        batch_id=batch_id or InputFile(file).stem or "",
        enqueued=0,
        duplicates=0,
        suppressed=0,
        rejected=0,
        findings=tuple(typed(error.findings or (Finding(file=str(file), message=str(error), remedy=remedy),))),
        rows=0,
        valid=0,
        again=0,
        dry_run=dry_run,
        refused=True,
    )
