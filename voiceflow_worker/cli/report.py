"""`voiceflow report`: report the outcomes of batches or of a queue."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.batches import why_unknown
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.options import Flag, QueueOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.progress import Meter, meter
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.core.overview.report import Report

MANY_CALLS = 20_000
"""A report on at least this many calls takes seconds, and shows its progress."""


async def report(
    *,
    batch: Annotated[list[str] | None, Parameter(metavar="ID", negative=())] = None,
    csv: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    xlsx: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    html: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    totals: Annotated[bool, Flag] = False,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Report on batches, or on all calls of the queue: outcomes, answer rate by hour and country, attempts, cost.

    With --json, one batch a line.

    Args:
        batch: Only this batch; `enqueue` prints its id. May be repeated, to compare batches side by side.
        csv: Write a CSV file with one line per call; a column of the campaign file is named data.NAME.
        xlsx: Write an Excel workbook with the totals, the tables and the calls.
        html: Write one HTML page with the totals and the calls.
        totals: Print only the totals. This takes milliseconds, because the calls are not read one by one.

    Examples:
        voiceflow report
        voiceflow report --batch people
        voiceflow report --batch march --batch april
        voiceflow report --batch people --csv outcomes.csv --xlsx outcomes.xlsx --html outcomes.html
        voiceflow report --batch people --totals --json | jq .answer_rate
    """
    from voiceflow_worker.campaigns.reports.report_files import ReportFiles, write_report_files
    from voiceflow_worker.core.overview.report import build_report, reports_as_rich

    output, files = common.output(), ReportFiles(csv=csv, xlsx=xlsx, html=html)
    batches: list[str | None] = list(dict.fromkeys(batch)) if batch else [None]
    async with common.opened() as calls:
        where = calls.store, calls.name
        found = [await build_report(*where, batch_id) for batch_id in batches]
        if files or not totals:
            count = sum(each.total - each.pruned for each in found)
            with meter("report") if count >= MANY_CALLS else nullcontext() as shown:
                tell = None if shown is None else partial(_tell_progress, shown, count)
                found = await write_report_files(files, *where, batches, progress=tell)
        unknown = [await why_unknown(calls, each.batch_id) for each in found if not each.total]
        url = calls.store.url
    for file in filter(None, (csv, xlsx, html)):
        output.note(f"{file}: {count_of(sum(each.total - each.pruned for each in found), 'call')}")
    for each in found:
        output.document(each.as_json())
    for why in unknown:
        output.note(why or f"there are no calls in queue {calls.name} of {url}")
    full = [each for each in found if each.total]
    if full and not output.as_json:
        output.print(reports_as_rich(full))
        _tell_prices(output, full)
    return ExitCode.UNDONE if unknown else ExitCode.DONE


def _tell_progress(shown: Meter, total: int, count: int, what: str) -> None:
    shown(count, total, f"{count} of {count_of(total, 'call')} {what}")


def _tell_prices(output: Output, found: list[Report]) -> None:
    placed, priced = sum(each.placed for each in found), sum(each.priced for each in found)
    if any(each.cost for each in found) and priced < placed:
        output.say(
            f"the cost covers {priced} of {count_of(placed, 'placed call')}; "
            "`voiceflow reconcile --prices` reads the other prices"
        )
