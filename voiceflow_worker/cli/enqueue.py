"""`voiceflow enqueue` and `voiceflow check`: take the calls of a file into a queue, or only look at it."""

from __future__ import annotations

import shlex
from dataclasses import replace as updated
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio import get_cancelled_exc_class
from cyclopts import Parameter

from voiceflow_worker.cli.field_options import (
    FILE_KINDS,
    GUARDS,
    RowOptions,
    RunOptions,
    campaign_of,
    input_file,
)
from voiceflow_worker.cli.opening import collect_less, opened_queue, settings_from
from voiceflow_worker.cli.options import AsOption, Flag, JsonOption, QueueOptions
from voiceflow_worker.cli.output import ExitCode, Output, counted, tell_findings, typed
from voiceflow_worker.finding import Finding

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.campaign import Campaign
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport


async def enqueue(
    file: Annotated[Path, Parameter(help=f"{FILE_KINDS}.")],
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
        voiceflow enqueue people.csv --say "Hello {{name}}" --window 09:00-20:00
        voiceflow enqueue people.csv --campaign reminder.toml --dry-run
        voiceflow enqueue people.csv --campaign reminder.toml --batch march
        voiceflow enqueue people.csv --campaign reminder.toml --batch march --replace
        voiceflow enqueue appointments.csv --ivr appointment:appointment --window any
    """
    from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
    from voiceflow_worker.core.audit import Actor, Interface, login_name

    settings, output = common.settings(), common.output()
    given = {"skip_bad": skip_bad, "replace": replace, "remove_missing": remove_missing}
    campaign = campaign_of(rows, run, settings=settings, **given)
    try:
        async with input_file(file) as source, opened_queue(settings, makes=True) as calls:
            campaign = updated(campaign, file=source)
            collect_less()
            if dry_run:
                report = await campaign.preview(calls)
            else:
                by = Actor(on=Interface.COMMAND, login=login_name(), name=as_)
                try:
                    report = await campaign.start(calls, by=by)
                except RowsRefusedError as error:
                    report = error.report
    except get_cancelled_exc_class():
        output.note(
            f"{file}: interrupted; some of its rows may be stored, and nobody is called for them yet. Enqueue the same "
            "file again to add the rest: no row is added twice."
        )
        raise
    report = updated(report, findings=tuple(typed(report.findings)))
    output.document(report.as_json())
    if not output.as_json:
        _show_found(output, report)
    _show(output, report, file, campaign)
    if report.refused or report.again:
        return ExitCode.BAD_INPUT
    return ExitCode.UNDONE if report.over_differ or (report.stays and not report.dry_run) else ExitCode.DONE


def _show(output: Output, report: EnqueueReport, file: Path, campaign: Campaign) -> None:
    """Print the result: on stdout, or on stderr if stdout carries JSON."""
    if report.refused or report.dry_run:
        why = "" if report.refused or report.again else " (--dry-run)"
        output.say(f"{file}: {report.in_words()}; nothing is enqueued{why}")
    else:
        output.say(f"{file}: {report.batch_in_words}: {report.in_words()}")
    if planned := report.plan_in_words():
        output.say(f"{report.batch_in_words}: {planned}")
    if report.again:
        output.say("Check the calls of the batch that is named, or enqueue with `--again elsewhere`.")
    if report.refused and report.rejected and not campaign.skip_bad:
        rest = ", or enqueue the good rows with --skip-bad" if report.valid else ""
        output.say(f"Correct the bad rows{rest}.")
    if (rejects := campaign.rejects) is not None and report.rejected + report.suppressed:
        batch = "" if report.batches else f" with --batch {shlex.quote(report.batch_id)}"
        output.say(f"The rows that are not called are in {rejects}. Correct them, then enqueue {rejects}{batch}")


def _show_found(output: Output, report: EnqueueReport) -> None:
    """Print what is wrong with a file, and its preview."""
    tell_findings(output, report.findings)
    if report.preview is not None and report.preview.calls:
        output.table(("preview", ""), report.preview.in_words())
    if report.unread:
        output.say("whom columns that are not spoken call, each with what leaves its last value out:")
        for each in report.unread:  # on lines that are not wrapped, to be copied
            output.say(f"  {each.column}: {each.in_words()}")
            if each.leave_out.can_be_typed:
                output.say(f"    --leave-out {shlex.quote(str(each.leave_out))}")
    if partly := report.partly_filled:
        counts = (f"{each.column} {each.filled:,} of {each.filled + each.empty:,}" for each in partly)
        output.say(f"partly filled: {', '.join(counts)}")


async def check(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help=f"A call flow template, or {FILE_KINDS}.")],
    rows: RowOptions | None = None,
    json: JsonOption = False,
) -> ExitCode:
    """Check call flows and campaign files; nothing is sent.

    The store is not read; `enqueue --dry-run` reads it. Exit 0 if all calls can be sent, 2 if not. A preview shows
    texts and duration.

    Examples:
        voiceflow check people.csv --template reminder.json
        voiceflow check reminder.json body.json
        voiceflow check people.csv --json | jq -r .message
    """
    from voiceflow_worker.campaigns.enqueue import check_file
    from voiceflow_worker.campaigns.enqueue_report import SHOWN_OF_COLUMNS

    campaign = campaign_of(rows, settings=settings_from())
    assumed, now = await campaign.assumed(None), datetime.now(UTC)
    output = Output(as_json=json)
    is_valid = True
    for file in files:
        async with input_file(file) as source:
            report = await check_file(source, campaign.options, now=now, assumptions=assumed)
        report = updated(report, findings=tuple(typed(report.findings)))
        is_valid = is_valid and report.is_valid
        for found in report.findings:
            output.document(found.as_json())
        # This line has the fields of a finding too, so that a script can read all lines in one way.
        columns = {name: [each.as_json() for each in getattr(report, name)] for name in SHOWN_OF_COLUMNS}
        preview = report.preview.as_json() if report.preview is not None and report.preview.calls else None
        if preview is not None or any(columns.values()):
            line = Finding(file=str(source), message="preview").as_json() | {"severity": None}
            output.document({**line, **columns, "preview": preview})
        if not json:
            _show_found(output, report)
            output.say(f"{source}: {report.in_words()}; {counted(report.findings)}. The store was not read")
    return ExitCode.DONE if is_valid else ExitCode.BAD_INPUT
