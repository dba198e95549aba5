"""`voiceflow batches edit`: another window, validity, priority or source for the calls of a batch that wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.campaigns.fields import EDITED
from voiceflow_worker.campaigns.reading import option
from voiceflow_worker.cli.field_options import fields_in, with_fields
from voiceflow_worker.cli.opening import acting, carried_out
from voiceflow_worker.cli.options import AsOption, Flag, NoteOption, QueueOptions, YesOption
from voiceflow_worker.cli.output import ExitCode


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
@with_fields(*EDITED)
class EditOptions:
    """What an edit may change, and how that is read."""


async def edit(
    batch: Annotated[str, Parameter(name="ID")],
    /,
    *,
    changes: EditOptions | None = None,
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
        dry_run: Change nothing, and show what the calls would become.

    Examples:
        voiceflow batches edit march --window 10:00-18:00 --days mon-fri
        voiceflow batches edit march --valid-until "tomorrow 18:00" --time-zone Asia/Singapore --dry-run
        voiceflow batches edit march --priority 10 --yes --note "the event is tomorrow"
    """
    from voiceflow_worker.actions.edits import EditBatch

    settings, output = common.settings(store_alone=True), common.output()
    async with acting(settings, as_) as operator:
        act = EditBatch(
            operator=operator,
            queue=settings.queue,
            batch=batch,
            note=note,
            changes=fields_in(changes),
            called=option,
        )
        if dry_run:
            found, question = await act.preview(), await act.question()
            output.result(found.as_json(), question.title, *question.will_be_called, *question.will_not_be_called)
            return ExitCode.DONE
        return await carried_out(act, output, yes=yes)
