"""`voiceflow suppress`: manage the suppression list: numbers that no queue of the store calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio.to_thread import run_sync
from cyclopts import Parameter

from voiceflow_worker.cli.messages import ExitCode, tell_findings, typed
from voiceflow_worker.cli.options import AsOption, DurationOption, Flag, LimitOption, MomentOption, WholeStoreOptions
from voiceflow_worker.cli.output import first
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers.phone import parse_number
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.model.text.who import by_person

if TYPE_CHECKING:
    from voiceflow_worker.core.numbers.suppression import Suppression, SuppressionList

PAGE = 1000

Numbers = Annotated[str, Parameter(name="NUMBER", required=True, help="Phone numbers, in any usual spelling.")]
CountryOption = Annotated[
    str | None, Parameter(metavar="CC", help="The country of national numbers, such as SG, or international.")
]
ReasonOption = Annotated[str, Parameter(metavar="TEXT", help="The reason, shown in the list and with the calls.")]
UntilOption = Annotated[
    MomentOption, Parameter(help="Suppress until this time, such as 2026-11-20T09:00:00+08:00. [for good]")
]
ForOption = Annotated[DurationOption, Parameter(name="--for", help="Suppress for this long, such as 30d. [for good]")]


async def add(
    *numbers: Numbers,
    reason: ReasonOption = "",
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Put numbers on the suppression list. Queued calls to these numbers end unsent, in every queue of the store.

    If a number is already on the list, it stays there until the later end. Calls that were sent are not stopped.

    Examples:
        voiceflow suppress add +6587654321 --reason "asked by mail"
        voiceflow suppress add "8765 4321" "8765 4322" --country SG --for 30d
    """
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    output = common.output()
    async with common.opened(makes=True) as calls:
        end = _end(until, for_, now=calls.store.clock.now())
        standing = await SuppressionList(calls.store).add(
            *numbers, reason=_reason(reason, as_), until=end, country=country
        )
    for entry in standing.values():
        output.result(entry.as_json(), _in_words(entry))
    for number in numbers:
        for message in parse_number(number, country=country).messages:
            output.note(f"warning: {message}")


async def remove(
    *numbers: Numbers,
    country: CountryOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Remove numbers from the suppression list. Exit 1 if one of them was not on the list.

    Calls that ended because of the list stay ended: enqueue them again. The block list of 8x8 is separate.

    Examples:
        voiceflow suppress remove +6587654321
    """
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    output = common.output()
    async with common.opened() as calls:
        listed = SuppressionList(calls.store)
        found = await listed.find(*numbers, country=country)
        gone = await listed.remove(*numbers, country=country)
    wanted = {parse_number(number, country=country).e164: None for number in numbers}
    for number in wanted:
        said = f"{number} is off the list" if number in found else f"{number} was not on the list"
        output.result({"number": number, "removed": number in gone}, said)
    return ExitCode.DONE if len(gone) == len(wanted) else ExitCode.UNDONE


async def list_numbers(
    *,
    number: Annotated[str | None, Parameter(metavar="NUMBER", help="Only this number.")] = None,
    country: CountryOption = None,
    limit: LimitOption = 100,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """List the suppressed numbers, with times and reasons. With --json, one number per line.

    Examples:
        voiceflow suppress list
        voiceflow suppress list --number +6587654321
        voiceflow suppress list --limit 0 --json | jq -r .number
    """
    from voiceflow_worker.core.numbers.suppression import SuppressionList

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
        str | None, Parameter(metavar="NAME", help="The column with the numbers. [destination, phone, number, …]")
    ] = None,
    reason: ReasonOption = "",
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    skip_bad: Annotated[bool, Flag] = False,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Put the numbers of a file on the suppression list. Importing the file again changes nothing.

    If some lines are not numbers, nothing is imported, these lines are printed, and the exit code is 2.

    Args:
        skip_bad: Import the numbers even if other lines are bad, and exit 0.

    Examples:
        voiceflow suppress import opt-outs.csv --reason "imported from the CRM"
        voiceflow suppress import do-not-call.txt --country SG --skip-bad
    """
    from voiceflow_worker.campaigns.files.number_file import read_number_file
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    output = common.output()
    found = await run_sync(partial(read_number_file, file, column=column, country=country))
    refused = bool(found.findings) and not skip_bad
    told = typed([*found.findings, *found.warnings])
    known = added = 0
    if not refused:
        async with common.opened(makes=True) as calls:
            listed = SuppressionList(calls.store)
            end = _end(until, for_, now=calls.store.clock.now())
            known = len(await listed.find(*found.numbers))
            await listed.add(*found.numbers, reason=_reason(reason, as_), until=end)
            added = len(found.numbers) - known
    output.document(
        {
            "rows": found.rows,
            "added": added,
            "known": known,
            "rejected": len(found.findings),
            "findings": [each.as_json() for each in told],
        }
    )
    if not output.as_json:
        tell_findings(output, told)
    if found.warnings:
        output.note("warning: some numbers may have been misread")
    bad = len(found.findings)
    if refused:
        them = "it" if bad == 1 else "them"
        output.say(f"{file}: {found.bad_in_words}; nothing is imported. Correct {them} or give --skip-bad")
        return ExitCode.BAD_INPUT
    output.say(f"{file}: {count_of(added, 'number')} added, {known} already on the list, {bad} bad")
    return ExitCode.DONE


def _reason(text: str, who: str | None) -> str:
    return text if who is None else by_person(who, text, "put on the list")


def _end(until: datetime | None, duration: timedelta | None, *, now: datetime) -> datetime | None:
    if until is not None and duration is not None:
        raise InvalidInputError("--until and --for exclude each other: give one of them")
    return now + duration if duration is not None else until


def _end_of(entry: Suppression) -> str:
    return in_words(entry.until) if entry.until else "for good"


def _in_words(entry: Suppression) -> str:
    end = f"until {in_words(entry.until)}" if entry.until else "any more"
    return f"{entry.number} will not be called {end}" + (f": {entry.reason}" if entry.reason else "")
