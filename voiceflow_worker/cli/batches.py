"""`voiceflow batches edit`: another window, validity, priority or source for the calls of a batch that wait."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import acting, carried_out
from voiceflow_worker.cli.options import AsOption, Flag, NoteOption, QueueOptions, YesOption
from voiceflow_worker.cli.output import ExitCode


async def edit(
    batch: Annotated[str, Parameter(name="ID")],
    /,
    *,
    window: Annotated[str | None, Parameter(metavar="HOURS")] = None,
    days: Annotated[str | None, Parameter(metavar="DAYS")] = None,
    holidays: Annotated[str | None, Parameter(metavar="CC")] = None,
    window_time_zone: Annotated[str | None, Parameter(metavar="ZONE")] = None,
    valid_until: Annotated[str | None, Parameter(metavar="TIME")] = None,
    valid_for: Annotated[str | None, Parameter(metavar="DURATION")] = None,
    priority: Annotated[str | None, Parameter(metavar="N")] = None,
    source: Annotated[str | None, Parameter(metavar="NUMBER")] = None,
    time_zone: Annotated[str | None, Parameter(metavar="ZONE")] = None,
    country: Annotated[str | None, Parameter(metavar="CC")] = None,
    dry_run: Annotated[bool, Flag] = False,
    note: NoteOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Change the waiting calls of a batch.

    What is not given stays. A question shows first how many calls change, when the last of them would leave, and how
    many would be too late. Calls that were sent are not changed.

    Args:
        batch: The id of the batch.
        window: Phones ring only at these hours, such as 09:00-20:00.
        days: Phones ring only on these days, such as mon-sat.
        holidays: No phone rings on public holidays of this country, such as SG, or number: of each number's own.
        window_time_zone: The hours are those of this zone, and not those at the number called.
        valid_until: No phone rings after this time.
        valid_for: No phone rings after this time from now, such as 2h.
        priority: The priority. Calls with a higher one are sent first.
        source: The number to call from, or one by country. Calls that were sent before keep theirs.
        time_zone: The time zone of a local --valid-until, such as Asia/Singapore.
        country: The country of a national --source, such as SG.
        dry_run: Change nothing, and show what the calls would become.

    Examples:
        voiceflow batches edit march --window 10:00-18:00 --days mon-fri
        voiceflow batches edit march --valid-until "tomorrow 18:00" --time-zone Asia/Singapore --dry-run
        voiceflow batches edit march --priority 10 --yes --note "the event is tomorrow"
    """
    from voiceflow_worker.actions.edits import EditBatch

    settings, output = common.settings(), common.output()
    changes = {
        "window": window, "days": days, "holidays": holidays, "window_time_zone": window_time_zone,
        "valid_until": valid_until, "valid_for": valid_for, "priority": priority, "source": source,
        "time_zone": time_zone, "country": country,
    }  # fmt: skip
    async with acting(settings, as_) as operator:
        act = EditBatch(
            operator=operator,
            queue=settings.queue,
            batch=batch,
            note=note,
            changes=changes,
            called=lambda name: f"--{name.replace('_', '-')}",
        )
        if dry_run:
            found, question = await act.preview(), await act.question()
            output.result(found.as_json(), question.title, *question.rings, *question.silent)
            return ExitCode.DONE
        return await carried_out(act, output, yes=yes)
