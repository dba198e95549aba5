"""`voiceflow enqueue` and `voiceflow check`: take the calls of a file into a queue, or only look at it."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace as updated
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from anyio import get_cancelled_exc_class
from cyclopts import Parameter

from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.reading import option
from voiceflow_worker.cli.field_options import (
    FILE_KINDS,
    GUARDS,
    FileArgument,
    RowOptions,
    RunOptions,
    campaign_of,
    fields_in,
    input_file,
)
from voiceflow_worker.cli.opening import collect_less, opened_queue, settings_from
from voiceflow_worker.cli.options import AsOption, Flag, JsonOption, QueueOptions
from voiceflow_worker.cli.output import ExitCode, Meter, Output, counted, meter, tell_findings, typed
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.options import CampaignOptions
    from voiceflow_worker.campaigns.campaign import Campaign
    from voiceflow_worker.campaigns.enqueue import OnProgress, Phase
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
    from voiceflow_worker.campaigns.lists.filters import Filter
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings


async def enqueue(
    file: Annotated[FileArgument, Parameter(help=f"{FILE_KINDS}.")],
    /,
    *,
    rows: RowOptions | None = None,
    run: RunOptions | None = None,
    skip_bad: Annotated[bool, Flag, Parameter(group=GUARDS)] = False,
    replace: Annotated[bool, Flag, Parameter(group=GUARDS)] = False,
    remove_missing: Annotated[bool, Flag, Parameter(group=GUARDS)] = False,
    dry_run: Annotated[bool, Flag, Parameter(group=GUARDS)] = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Put the calls of a file into a queue.

    `voiceflow worker` sends them. If a row is bad, nothing is enqueued, and the exit code is 2. A file that is enqueued
    twice adds nothing the second time. Suppressed numbers are left out.

    Args:
        skip_bad: Enqueue the good rows even if other rows are bad, and exit 0.
        replace: Of a list that is imported again, change the waiting calls that differ from their rows.
        remove_missing: Cancel the waiting calls of the batch that are left out, or no longer in the list.
        dry_run: Enqueue nothing, and show a preview: texts and duration.

    Examples:
        voiceflow enqueue people.csv --template reminder.json --source +6531234567 --window any
        voiceflow enqueue people.csv --say "Hello {{name}}" --country SG --window 09:00-20:00
        voiceflow enqueue people.csv --template reminder.json --window 09:00-20:00 --days mon-sat --holidays SG
        voiceflow enqueue appointments.csv --ivr appointment:appointment --window 09:00-20:00
        voiceflow enqueue people.csv --campaign reminder.toml --batch march
        voiceflow enqueue people.csv --campaign reminder.toml --batch march --replace --dry-run
        voiceflow enqueue people.xlsx --template reminder.json --window any --dry-run
    """
    from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
    from voiceflow_worker.core.audit import Actor, Interface, login_name

    settings = common.settings()
    output = common.output()
    told: set[Finding] = set()
    said = {"skip_bad": skip_bad, "replace": replace, "remove_missing": remove_missing}
    fields: dict[str, Any] = {**fields_in(rows, run), **said}
    batch_id = fields.get("batch")
    try:
        async with _begun(file, fields, settings) as (campaign, calls):
            collect_less()
            with meter(f"enqueuing {file.name}") as shown:
                if dry_run:
                    report = await campaign.preview(calls, progress=_shown_on(shown))
                else:
                    try:
                        report = await campaign.start(
                            calls,
                            by=Actor(on=Interface.COMMAND, login=login_name(), name=as_),
                            progress=_shown_on(shown),
                            warn=partial(_warn, output, told),
                        )
                    except RowsRefusedError as error:
                        report = error.report
    except get_cancelled_exc_class():
        output.note(
            f"{file}: interrupted; some of its rows may be stored, and nobody is called for them yet. Enqueue the same "
            "file again to add the rest: no row is added twice."
        )
        raise
    except CampaignFileError as error:
        output.document(_unreadable(error, file, batch_id=batch_id, dry_run=dry_run).as_json())
        raise
    report = updated(report, findings=tuple(typed(report.findings)))
    output.document(report.as_json())
    _tell_found(output, report, told)
    _tell(output, report, file, campaign)
    if report.calls_nobody or (report.stays and not report.dry_run):
        return ExitCode.UNDONE
    return ExitCode.BAD_INPUT if report.refused or report.again else ExitCode.DONE


@asynccontextmanager
async def _begun(
    file: Path, fields: Mapping[str, Any], settings: Settings
) -> AsyncGenerator[tuple[Campaign, CallQueue]]:
    """The campaign with these fields, of a file."""
    from voiceflow_worker.campaigns.campaign import Campaign

    campaign = Campaign.of(fields, settings=settings, named=option)
    async with input_file(file) as source, opened_queue(settings, makes=True) as calls:
        yield updated(campaign, file=source), calls


def _warn(output: Output, told: set[Finding], findings: Sequence[Finding]) -> None:
    """Say what concerns all rows while nobody can have been called yet: a Ctrl-C still comes in time."""
    for found in typed(findings):
        told.add(found)
        output.note(f"warning: {found.column}: {found.message}" if found.column else f"warning: {found.message}")


def _shown_on(shown: Meter) -> OnProgress:
    from voiceflow_worker.campaigns.enqueue import Phase

    def show(phase: Phase, *, done: int, total: int, rows: int) -> None:
        shown(done, total, f"{rows} rows read" if phase is Phase.READING else f"{done} of {total} rows enqueued")

    return show


def _tell(output: Output, report: EnqueueReport, file: Path, campaign: Campaign) -> None:
    """Print the result: on stdout, or on stderr if stdout carries JSON."""
    if not (report.refused or report.dry_run):
        output.say(f"{file}: {report.batch_in_words}: {report.in_words()}")
        if report.duplicates and not (report.enqueued or report.replaced or report.removed or report.ended):
            output.note("these calls are in the store already; a trial belongs in a store of its own (--store URL)")
    else:
        why = "" if report.refused or report.again else " (--dry-run)"
        output.say(f"{file}: {report.in_words()}; nothing is enqueued{why}")
    if planned := report.plan_in_words():
        output.say(f"{report.batch_in_words}: {planned}")
    if report.again:
        output.say("Check the calls of the batch that is named, or enqueue with --again.")
    if report.refused and report.rejected and campaign.skip_bad is not True:
        rest = ", or enqueue the good rows with --skip-bad" if report.valid else ""
        output.say(f"Correct the bad rows{rest}.")
    if (rejects := campaign.rejects) is not None and report.rejected + report.suppressed:
        batch = "" if report.batches else f" with --batch {shlex.quote(report.batch_id)}"
        remedy = f"; correct the bad ones, then enqueue {rejects}{batch}" if report.rejected else ""
        places = {"--sheet": "sheet", "--header-row": "header_row"}
        if remedy and (given := [option for option, name in places.items() if getattr(campaign.options, name)]):
            remedy += f" and without {', '.join(given)}: it has its header first, and these rows alone"
        output.say(f"the rows that are not called are in {rejects}, with the reasons{remedy}")


def _tell_found(output: Output, report: EnqueueReport, told: Collection[Finding] = ()) -> None:
    """Print for people what is wrong with a file, and was not `told` yet, and its preview."""
    if not output.as_json:
        tell_findings(output, [found for found in report.findings if found not in told])
        if report.preview is not None and report.preview.calls:
            output.table(("preview", ""), report.preview.in_words())
        if report.unread:
            output.say("whom columns that are not spoken call, each with what leaves its last value out:")
            for each in report.unread:  # on lines that are not wrapped, to be copied
                output.say(f"  {each.column}: {each.in_words()}\n    {_leaving_out(each.leave_out)}")
        if partly := report.partly_filled:
            counts = (f"{each.column} {each.filled:,} of {each.filled + each.empty:,}" for each in partly)
            output.say(f"partly filled: {', '.join(counts)}")


def _leaving_out(one: Filter) -> str:
    return f"--leave-out {shlex.quote(str(one))}"


def _unreadable(error: CampaignFileError, file: Path, *, batch_id: str | None, dry_run: bool) -> EnqueueReport:
    """The report on a file that could not be read: counts of 0, and the findings."""
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport

    return EnqueueReport(
        batch_id=batch_id or InputFile(file).stem or "",
        findings=tuple(typed(error.findings or (Finding(file=str(file), message=str(error)),))),
        dry_run=dry_run,
        refused=True,
    )


async def check(
    *files: Annotated[
        FileArgument, Parameter(name="FILE", required=True, help=f"A call flow template, or {FILE_KINDS}.")
    ],
    rows: RowOptions | None = None,
    json: JsonOption = False,
) -> ExitCode:
    """Check call flows and campaign files; nothing is sent.

    The store is not read; `enqueue --dry-run` reads it. Exit 0 if all calls can be sent, 2 if not. A preview shows
    texts and duration. Without --template, --say or --ivr, only numbers and reserved columns are checked.

    Examples:
        voiceflow check people.csv --template reminder.json
        voiceflow check reminder.json body.json
        voiceflow check people.csv --json | jq -r 'select(.severity == "error") | .message'
    """
    from voiceflow_worker.campaigns.enqueue import check_file

    settings = settings_from()
    campaign = campaign_of(rows, settings=settings)
    assumed, now = await campaign.assumed(None), datetime.now(UTC)
    output = Output(as_json=json)
    valid = True
    for file in files:
        async with input_file(file) as source:
            with meter(f"checking {source.name}") as shown:
                report = await check_file(
                    source, campaign.options, now=now, assumptions=assumed, progress=_shown_on(shown)
                )
        report = updated(report, findings=tuple(typed(report.findings)))
        valid = valid and report.is_valid
        _tell_checked(output, report, file=str(source))
        if not output.as_json and (said := _proposed(source, campaign.options)):
            output.note(f"{source} reads as a list with {said}")
    return ExitCode.DONE if valid else ExitCode.BAD_INPUT


def _proposed(file: InputFile, options: CampaignOptions) -> str:
    """What the shape of a list is, as it is typed; empty where its options say so."""
    from voiceflow_worker.campaigns.lists.column_detection import detect_columns

    if options.columns or options.header_row or options.date_order or file.suffix == ".json":
        return ""
    with suppress(CampaignFileError):
        return detect_columns(file, sheet=options.sheet, encoding=options.encoding).as_options()
    return ""


def _tell_checked(output: Output, report: EnqueueReport, *, file: str) -> None:
    from voiceflow_worker.campaigns.enqueue_report import SHOWN_OF_COLUMNS

    for found in report.findings:
        output.document(found.as_json())
    shown = {name: [each.as_json() for each in getattr(report, name)] for name in SHOWN_OF_COLUMNS}
    preview = report.preview if report.preview is not None and report.preview.calls else None
    if preview is not None or any(shown.values()):
        # This line has the fields of a finding too, so that a script can read all lines in one way.
        document = Finding(file=file, message="preview").as_json() | {"severity": None}
        output.document({**document, **shown, "preview": None if preview is None else preview.as_json()})
    _tell_found(output, report)
    if not output.as_json:
        output.say(f"{file}: {report.in_words()}; {counted(report.findings)}")
        if report.preview is not None:
            output.note(
                "the store was not read: `voiceflow enqueue --dry-run` knows suppressed numbers and earlier calls too"
            )
