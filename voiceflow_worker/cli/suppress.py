"""`voiceflow suppress`: manage the suppression list: numbers that no queue of the store calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio.to_thread import run_sync
from cyclopts import Parameter

from voiceflow_worker.cli.opening import acting, carried_out
from voiceflow_worker.cli.options import (
    AsOption,
    DurationOption,
    Flag,
    LimitOption,
    MomentOption,
    NoteOption,
    WholeStoreOptions,
)
from voiceflow_worker.cli.output import ExitCode, first, tell_findings, typed
from voiceflow_worker.model.text.wording import in_words

if TYPE_CHECKING:
    from voiceflow_worker.core.suppression import Suppression, SuppressionList

PAGE = 1000

Numbers = Annotated[str, Parameter(name="NUMBER", required=True, help="Phone numbers, in any usual spelling.")]
CountryOption = Annotated[
    str | None, Parameter(metavar="CC", help="The country of national numbers, such as SG, or international.")
]
UntilOption = Annotated[
    MomentOption, Parameter(help="Suppress until this time, such as 2026-11-20T09:00:00+08:00. [for good]")
]
ForOption = Annotated[DurationOption, Parameter(name="--for", help="Suppress for this long, such as 30d. [for good]")]


async def add(
    *numbers: Numbers,
    note: NoteOption = None,
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Put numbers on the suppression list.

    Queued calls to these numbers end unsent, in every queue of the store. If a number is already on the list, it
    stays there until the later end. Calls that were sent are not stopped.

    Examples:
        voiceflow suppress add +6587654321 --note "asked by mail"
        voiceflow suppress add "8765 4321" "8765 4322" --country SG --for 30d
    """
    from voiceflow_worker.acts.suppression import Suppress

    async with acting(common.settings(), as_, stops=True) as operator:
        act = Suppress(operator=operator, numbers=numbers, country=country, note=note, until=until, lasts=for_)
        await carried_out(act, common.output())


async def remove(
    *numbers: Numbers,
    note: NoteOption = None,
    country: CountryOption = None,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Remove numbers from the suppression list.

    Exit 1 if one of them was not on the list. Calls that ended because of the list stay ended: enqueue them again.
    The block list of 8x8 is separate.

    Examples:
        voiceflow suppress remove +6587654321
    """
    from voiceflow_worker.acts.suppression import Unsuppress

    async with acting(common.settings(), as_) as operator:
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
    from voiceflow_worker.core.suppression import SuppressionList

    output = common.output()
    shown: list[Suppression] = []
    async with common.opened() as calls:
        async for entry in first(_pages(SuppressionList(calls.store), number, country=country), limit=limit):
            output.document(entry.as_json())
            if not output.as_json:
                shown.append(entry)
    if output.as_json:
        return
    rows = [(each.number, in_words(each.since), _end_of(each), each.reason, each.job_id) for each in shown]
    output.table(("number", "since", "until", "reason", "by call"), rows)
    if number is None and limit and len(shown) == limit:
        output.note(f"only {limit} numbers are listed; --limit 0 lists all")


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
    file: Annotated[Path, Parameter(help="A CSV with a column of numbers, or one number on each line.")],
    /,
    *,
    column: Annotated[
        list[str] | None,
        Parameter(
            negative=(),
            metavar="NAME",
            help="A column with numbers; may be repeated. [the only one named destination, phone, number, …]",
        ),
    ] = None,
    note: NoteOption = None,
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    country_column: Annotated[str | None, Parameter(metavar="NAME")] = None,
    skip_bad: Annotated[bool, Flag] = False,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Put the numbers of a file on the suppression list.

    Importing the file again changes nothing. If some lines are not numbers, nothing is imported, these lines are
    printed, and the exit code is 2.

    Args:
        country_column: The column with the country of each number, such as SG or Singapore, if they differ.
        skip_bad: Import the numbers even if other lines are bad, and exit 0.

    Examples:
        voiceflow suppress import opt-outs.csv --note "imported from the CRM"
        voiceflow suppress import do-not-call.txt --country SG --skip-bad
    """
    from voiceflow_worker.acts.suppression import ImportNumbers, refused_import
    from voiceflow_worker.campaigns.files.number_file import read_number_file

    output = common.output()
    read = partial(read_number_file, file, columns=column or (), country=country, country_column=country_column)
    found = await run_sync(read)
    if found.findings and not skip_bad:
        done = refused_import(found)  # without a store, which need not be there
    else:
        settings = common.settings()
        # Before the first campaign there is no store yet. That of a service is there, or its name is wrong.
        makes = settings.of_service("store") is None
        async with acting(settings, as_, stops=True, makes=makes) as operator:
            act = ImportNumbers(operator=operator, found=found, skips_bad=True, note=note, until=until, lasts=for_)
            done = await act.do()
    told = typed([*found.findings, *found.warnings])
    output.document({**done.documents[0], "findings": [each.as_json() for each in told]})
    if not output.as_json:
        tell_findings(output, told)
    for line in done.notes:
        output.note(line)
    output.say(f"{file}: {done.said}{', or give --skip-bad' if done.undone else ''}")
    return ExitCode.BAD_INPUT if done.undone else ExitCode.DONE


def _end_of(entry: Suppression) -> str:
    return in_words(entry.until) if entry.until else "for good"
