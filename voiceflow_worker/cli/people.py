"""The numbers that no queue calls (`suppress`), the erasure of a person (`forget`), who ordered what (`audit`)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio.to_thread import run_sync
from cyclopts import Parameter

from voiceflow_worker.cli.field_options import STANDARD_INPUT, fields_in, with_fields
from voiceflow_worker.cli.opening import acting, carried_out
from voiceflow_worker.cli.options import (
    AsOption,
    DurationOption,
    Flag,
    LimitOption,
    MomentOption,
    NoteOption,
    SinceOption,
    WholeStoreOptions,
    YesOption,
)
from voiceflow_worker.cli.output import ExitCode, first, tell_findings, typed
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import in_words

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.number_file import NumberFile
    from voiceflow_worker.core.settling.suppressing import SuppressionList
    from voiceflow_worker.core.suppression import Suppression

PAGE = 1000

Numbers = Annotated[str, Parameter(name="NUMBER", required=True, help="Phone numbers, with + or a country.")]
CountryOption = Annotated[
    str | None, Parameter(metavar="CC", help="The country of national numbers, such as SG, or international.")
]
UntilOption = Annotated[
    MomentOption, Parameter(help="Suppress until this time, such as 2026-11-20T09:00:00+08:00. [for good]")
]
ForOption = Annotated[DurationOption, Parameter(name="--for", help="Suppress for this long, such as 30d. [for good]")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
@with_fields("columns", "leave_out", "only", "sheet", "encoding")
class NumberFileOptions:
    """How a file of numbers is read."""

    async def read(self, file: Path, country: str | None) -> NumberFile:
        """Return the numbers of a file. Raises CampaignFileError, InvalidInputError."""
        from voiceflow_worker.campaigns.lists.columns import ColumnRoles
        from voiceflow_worker.campaigns.number_file import read_number_file

        given = fields_in(self)
        roles = ColumnRoles.of(given.pop("columns") or ())
        return await run_sync(partial(read_number_file, file, roles=roles, country=country, **given))


async def add(
    *numbers: Numbers,
    note: NoteOption = None,
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Put numbers on the suppression list.

    Queued calls to these numbers end unsent, in every queue. Of two entries, the later end counts. Calls that were sent
    are not stopped.

    Examples:
        voiceflow suppress add +6587654321 --note "asked by mail"
        voiceflow suppress add "8765 4321" "8765 4322" --country SG --for 30d
    """
    from voiceflow_worker.actions.suppression import Suppress

    async with acting(common.settings(store_alone=True), as_, makes=True) as operator:
        act = Suppress(operator=operator, numbers=numbers, country=country, note=note, until=until, lasts=for_)
        return await carried_out(act, common.output())


async def remove(
    *numbers: Annotated[str, Parameter(name="NUMBER", help="Phone numbers, with + or a country.")],
    file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    note: NoteOption = None,
    country: CountryOption = None,
    reading: NumberFileOptions = NumberFileOptions(),
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Remove numbers from the suppression list.

    Exit 1 if one of them was not on the list. Calls that ended because of the list stay ended: enqueue them again.
    The block list of 8x8 is separate.

    Args:
        file: Take back the import of this file, read with the same options, all or nothing: if a line is not one
            number, nothing is removed. A number that a call, a person or another file has put there too stays.

    Examples:
        voiceflow suppress remove +6587654321
        voiceflow suppress remove --file opt-outs.csv --country DE
    """
    from voiceflow_worker.actions.suppression import TakeBackFile, Unsuppress

    if bool(numbers) == (file is not None):
        raise InvalidInputError("give either numbers or --file FILE")
    if file is None and reading != NumberFileOptions():
        raise InvalidInputError("--columns, --leave-out, --only, --sheet and --encoding are for --file FILE")
    async with acting(common.settings(store_alone=True), as_) as operator:
        if file is not None:
            found = await reading.read(file, country)
            back = TakeBackFile(operator=operator, found=found, country=country, note=note)
            return await carried_out(back, common.output())
        act = Unsuppress(operator=operator, numbers=numbers, country=country, note=note)
        return await carried_out(act, common.output())


async def list_numbers(
    *,
    number: Annotated[str | None, Parameter(metavar="NUMBER", help="Only this number.")] = None,
    country: CountryOption = None,
    limit: LimitOption = 100,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """List the suppressed numbers, with times and reasons.

    With --json, one number per line.

    Examples:
        voiceflow suppress list
        voiceflow suppress list --number +6587654321
        voiceflow suppress list --limit 0 --json | jq -r .number
    """
    from voiceflow_worker.core.settling.suppressing import SuppressionList

    output = common.output()
    shown: list[Suppression] = []
    async with common.opened() as calls:
        async for page in first(_pages(SuppressionList(calls.store), number, country=country), limit=limit):
            for entry in page:
                output.document(entry.as_json())
            if not output.as_json:
                shown += page
    if output.as_json:
        return
    rows = [(each.number, in_words(each.since), _end_of(each), each.reason, each.job_id) for each in shown]
    output.table(("number", "since", "until", "reason", "by call"), rows)
    if number is None:
        output.limited(len(shown), limit, "number")


async def _pages(
    listed: SuppressionList, number: str | None, *, country: str | None
) -> AsyncIterator[Sequence[Suppression]]:
    if number is not None:
        yield list((await listed.find(number, country=country)).values())
        return
    after = ""
    while page := await listed.scan(after=after, limit=PAGE):
        yield page
        after = page[-1].number


async def import_file(
    file: Annotated[
        Path,
        Parameter(help="CSV, Excel or JSON lines with a column of numbers, or one number on each line."),
    ],
    /,
    *,
    note: NoteOption = None,
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    reading: NumberFileOptions = NumberFileOptions(),
    dry_run: Annotated[bool, Flag] = False,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Put the numbers of a file on the suppression list.

    Every number that can be read is stored, also each that a doubtful text may hold. Lines without a number are named,
    and the exit code is 1. Importing the file again changes nothing. `suppress remove --file` takes the file back.

    Args:
        dry_run: Only show what the file holds; store nothing. No store is needed.

    Examples:
        voiceflow suppress import opt-outs.csv --country DE --dry-run
        voiceflow suppress import opt-outs.csv --note "imported from the CRM"
        voiceflow suppress import do-not-call.txt --country SG
        voiceflow suppress import members.xlsx --leave-out "Status=Active"
    """
    from voiceflow_worker.actions.suppression import ImportNumbers, shown_import

    output = common.output()
    found = await reading.read(file, country)
    if dry_run:
        done = shown_import(found)  # without a store, which need not be there
    else:
        output.note(f"{file}: {found.in_words}")
        async with acting(common.settings(store_alone=True), as_, makes=True) as operator:
            act = ImportNumbers(operator=operator, found=found, note=note, until=until, lasts=for_)
            done = await act.do()
    findings = typed([*found.findings, *found.warnings])
    output.document({**found.as_json(), **done.documents[0], "findings": [each.as_json() for each in findings]})
    if not output.as_json:
        tell_findings(output, findings)
    for line in (*done.notes, *done.refused):
        output.note(line)
    output.say(f"{file}: {done.message}")
    return ExitCode.UNDONE if done.refused else ExitCode.DONE


def _end_of(entry: Suppression) -> str:
    return in_words(entry.until) if entry.until else "for good"


async def forget(
    number: Annotated[
        str,
        Parameter(name="NUMBER", help="The person's phone number, with + or a country; - for stdin."),
    ],
    /,
    *,
    country: CountryOption = None,
    note: NoteOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Erase a person, with all that is stored of them.

    Shows what goes and what stays, and asks. An opt-out and the unique keys stay as keyed digests: the person is still
    not called. Refused (exit 1) while a call to the number is open or in doubt. Order it again if it was interrupted,
    and after a backup was restored. A number from stdin is in no list of processes, history of a shell or system log.

    Examples:
        voiceflow forget "8765 4321" --country SG --note "asked by mail" --yes
        voiceflow forget - --yes < number.txt
    """
    from voiceflow_worker.service.forget import Forget

    settings, output = common.settings(), common.output()
    if number == str(STANDARD_INPUT):
        number = sys.stdin.readline().strip()
    async with acting(settings, as_) as operator:
        act = Forget(operator=operator, number=number, country=country, note=note)
        return await carried_out(act, output, yes=yes, shows=True)


async def audit(
    *,
    since: Annotated[
        SinceOption, Parameter(help="Only entries after this time, or within this time, such as 24h.")
    ] = None,
    by: Annotated[str | None, Parameter(metavar="NAME")] = None,
    limit: LimitOption = 100,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Show who ordered what, the newest first.

    Every action of people on this store, from any interface, with its time, login, note and result. Entries are stored
    for 400 days.

    Args:
        by: Only what this person ordered: a login, a name given with --as, or the name of an API secret.

    Examples:
        voiceflow audit --since 24h
        voiceflow audit --by mary --json | jq -r '[.at, .action, .result] | @tsv'
    """
    from voiceflow_worker.core.audit import read_log

    output = common.output()
    shown = 0
    async with common.opened() as calls:
        now = calls.store.clock.now()
        earliest = since if isinstance(since, datetime) else now - since if isinstance(since, timedelta) else None
        async for page in first(read_log(calls.store, since=earliest, by=by), limit=limit):
            for entry in page:
                output.result(entry.as_json(), printable_line(entry.in_words()))
            shown += len(page)
    if not shown:
        output.note("the audit log has no such entry" + (" then" if since else "") + (f" as {by}" if by else ""))
    output.limited(shown, limit, "line")
