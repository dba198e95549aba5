"""`voiceflow report`: the outcomes of a batch or of a queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.batches import why_unknown
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.options import QueueOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.reports.report import Report


async def report(
    *,
    batch: Annotated[str | None, Parameter(metavar="ID")] = None,
    csv: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    html: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Report on a batch, or on all calls of the queue: calls by state and outcome, and the answer rate.

    Args:
        batch: Only this batch; `enqueue` prints its id.
        csv: Write a CSV file with one line for each call.
        html: Write an HTML page with the totals and the calls.

    Examples:
        voiceflow report
        voiceflow report --batch people
        voiceflow report --batch people --csv outcomes.csv --html outcomes.html
        voiceflow report --batch people --json | jq .answer_rate
    """
    from voiceflow_worker.campaigns.reports.report import build_report
    from voiceflow_worker.campaigns.reports.report_csv import write_csv_report
    from voiceflow_worker.campaigns.reports.report_html import write_html_report

    output = common.output()
    async with common.opened() as calls:
        found = await build_report(calls.store, calls.name, batch)
        unknown = None if found.total else await why_unknown(calls, batch)
        if csv is not None:
            count = await write_csv_report(csv, calls.store, calls.name, batch)
            output.note(f"{csv}: {count_of(count, 'call')}")
        if html is not None:
            count = await write_html_report(html, calls.store, calls.name, batch, at=calls.store.clock.now())
            output.note(f"{html}: {count_of(count, 'call')}")
        url = calls.store.url
    output.document(found.as_json())
    if not found.total:
        output.note(unknown or f"there are no calls in queue {calls.name} of {url}")
        return ExitCode.UNDONE
    if not output.as_json:
        _tell(output, found, queue=calls.name)
    return ExitCode.DONE


def _tell(output: Output, found: Report, *, queue: str) -> None:
    whose = f"queue {queue}" if found.batch_id is None else f"batch {found.batch_id}"
    output.say(f"{whose}: {count_of(found.total, 'call')}")
    output.table(("state", "#calls"), [(state.value, count) for state, count in found.states.items() if count])
    if found.outcomes:
        output.table(("outcome", "#calls"), list(found.outcomes.items()))
    if found.digits:
        output.table(("keys pressed", "#calls"), list(found.digits.items()))
    if found.answer_rate is not None:
        output.say(f"answered: {found.answered} of {found.ended} ({found.answer_rate:.0%})")
    if found.cost:
        output.say(f"cost: {', '.join(f'{price} {currency}' for currency, price in sorted(found.cost.items()))}")
    if found.cost and found.priced < found.placed:
        output.say(
            f"that is {found.priced} of {count_of(found.placed, 'placed call')}; "
            "`voiceflow reconcile --prices` reads the prices of the others"
        )
