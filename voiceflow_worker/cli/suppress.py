"""`voiceflow suppress`: the list of numbers that are not called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import opened_queue, settings_from
from voiceflow_worker.cli.options import DurationOption, Flag, JsonOption, LimitOption, MomentOption, WholeStoreOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.registering import add_command
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.moment import in_words

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.files.number_file import NumberFile
    from voiceflow_worker.core.numbers.suppression import Suppression, SuppressionList

PAGE = 1000

ADD_EXAMPLES = """Examples:
  voiceflow suppress add +6587654321 --reason "asked by mail"
  voiceflow suppress add "8765 4321" "8765 4322" --country SG --for 30d"""
REMOVE_EXAMPLES = """Example:
  voiceflow suppress remove +6587654321"""
LIST_EXAMPLES = """Examples:
  voiceflow suppress list
  voiceflow suppress list --number +6587654321
  voiceflow suppress list --limit 0 --json | jq -r .number"""
IMPORT_EXAMPLES = """Examples:
  voiceflow suppress import opt-outs.csv --reason "imported from the CRM"
  voiceflow suppress import do-not-call.txt --country SG --skip-bad"""

Numbers = Annotated[str, Parameter(name="NUMBER", help="Phone numbers, as people write them.")]
CountryOption = Annotated[str | None, Parameter(metavar="CC", help="Where national numbers belong, such as SG.")]
ReasonOption = Annotated[str, Parameter(metavar="TEXT", help="Why, for those who look at the list or at a call.")]
UntilOption = Annotated[MomentOption, Parameter(help="Until then, such as 2026-11-20T09:00:00+08:00. [for good]")]
ForOption = Annotated[DurationOption, Parameter(name="--for", help="For so long, such as 30d. [for good]")]


def suppress_group() -> App:
    """`suppress` with its commands."""
    group = App(name="suppress", help="Numbers that are not called, in any queue of the store.")
    add_command(group, add, examples=ADD_EXAMPLES, usage="[OPTIONS] NUMBER...")
    add_command(group, remove, examples=REMOVE_EXAMPLES, usage="[OPTIONS] NUMBER...")
    add_command(group, list_numbers, name="list", examples=LIST_EXAMPLES)
    add_command(group, import_file, name="import", examples=IMPORT_EXAMPLES)
    return group


async def add(
    *numbers: Numbers,
    reason: ReasonOption = "",
    until: UntilOption = None,
    for_: ForOption = None,
    country: CountryOption = None,
    json: JsonOption = False,
    where: WholeStoreOptions | None = None,
) -> ExitCode:
    """Put numbers on the list. Calls that wait for them, in any queue, end before they are sent.

    A number that is on the list stays as it is, unless this is for longer. A call that is on its way is not stopped.
    """
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    _require(numbers)
    output = Output(as_json=json)
    async with opened_queue(settings_from(where), makes=True) as calls:
        end = _end(until, for_, now=calls.store.clock.now())
        standing = await SuppressionList(calls.store).add(*numbers, reason=reason, until=end, country=country)
    for entry in standing.values():
        output.document(entry.as_json())
        output.answer(_in_words(entry))
    return ExitCode.DONE


async def remove(
    *numbers: Numbers,
    country: CountryOption = None,
    json: JsonOption = False,
    where: WholeStoreOptions | None = None,
) -> ExitCode:
    """Remove numbers from the list; exit code 1 if one was not on it.

    Calls that ended because of the list stay ended: enqueue them again. The block list of 8x8 is separate.
    """
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    _require(numbers)
    output = Output(as_json=json)
    async with opened_queue(settings_from(where)) as calls:
        listed = SuppressionList(calls.store)
        found = await listed.find(*numbers, country=country)
        gone = await listed.remove(*numbers, country=country)
    wanted = dict.fromkeys(_e164(numbers, country))
    for number in wanted:
        output.document({"number": number, "removed": number in gone})
        output.answer(f"{number} is off the list" if number in found else f"{number} was not on the list")
    return ExitCode.DONE if len(gone) == len(wanted) else ExitCode.UNDONE


async def list_numbers(
    *,
    number: Annotated[str | None, Parameter(metavar="NUMBER", help="Only this number.")] = None,
    country: CountryOption = None,
    limit: LimitOption = 100,
    json: JsonOption = False,
    where: WholeStoreOptions | None = None,
) -> ExitCode:
    """List the numbers that are not called, with when and why. With --json, one per line."""
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    output = Output(as_json=json)
    shown: list[Suppression] = []
    async with opened_queue(settings_from(where)) as calls:
        async for entry in _found(SuppressionList(calls.store), number, country=country, limit=limit or None):
            output.document(entry.as_json())
            if not json:
                shown.append(entry)
    if json:
        return ExitCode.DONE
    rows = [
        (
            each.number,
            in_words(each.since),
            in_words(each.until) if each.until else "for good",
            each.reason,
            each.job_id,
        )
        for each in shown
    ]
    output.table(("number", "since", "until", "reason", "by call"), rows)
    if number is None and len(shown) == limit:
        output.note(f"these are the first {limit}; --limit 0 lists all")
    return ExitCode.DONE


async def _found(
    listed: SuppressionList, number: str | None, *, country: str | None, limit: int | None
) -> AsyncIterator[Suppression]:
    if number is not None:
        for entry in (await listed.find(number, country=country)).values():
            yield entry
        return
    after, left = "", limit
    while left is None or left > 0:
        page = await listed.scan(after=after, limit=PAGE if left is None else min(PAGE, left))
        for entry in page:
            yield entry
        if not page:
            return
        after, left = page[-1].number, None if left is None else left - len(page)


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
    json: JsonOption = False,
    where: WholeStoreOptions | None = None,
) -> ExitCode:
    """Put the numbers of a file on the list. The same file again changes nothing.

    If a line is not a number, nothing is imported, every such line is printed, and the exit code is 2.

    Args:
        skip_bad: Import the numbers of a file that has bad lines, and exit 0.
    """
    from functools import partial

    from anyio.to_thread import run_sync

    from voiceflow_worker.campaigns.files.number_file import read_number_file
    from voiceflow_worker.cli.findings import tell_findings
    from voiceflow_worker.core.numbers.suppression import SuppressionList

    output = Output(as_json=json)
    found = await run_sync(partial(read_number_file, file, column=column, country=country))
    refused = bool(found.findings) and not skip_bad
    known = added = 0
    if not refused:
        async with opened_queue(settings_from(where), makes=True) as calls:
            listed = SuppressionList(calls.store)
            end = _end(until, for_, now=calls.store.clock.now())
            known = len(await listed.find(*found.numbers))
            await listed.add(*found.numbers, reason=reason, until=end)
            added = len(found.numbers) - known
    output.document(
        {
            "rows": found.rows,
            "added": added,
            "known": known,
            "rejected": len(found.findings),
            "findings": [each.as_json() for each in found.findings],
        }
    )
    if not json:
        tell_findings(output, found.findings)
    output.say(_imported(file, found, added=added, known=known, refused=refused))
    return ExitCode.BAD_INPUT if refused else ExitCode.DONE


def _imported(file: Path, found: NumberFile, *, added: int, known: int, refused: bool) -> str:
    bad = len(found.findings)
    if refused:
        return (
            f"{file}: {bad} of {found.rows} lines are not numbers; nothing is imported. Correct them or give --skip-bad"
        )
    return f"{file}: {count_of(added, 'number')} added, {known} on the list before, {bad} bad"


def _require(numbers: tuple[str, ...]) -> None:
    if not numbers:
        raise InvalidInputError("say which numbers: one or more, such as +6587654321")


def _e164(numbers: tuple[str, ...], country: str | None) -> list[str]:
    from voiceflow_worker.model.numbers.phone import parse_number

    return [parse_number(number, country=country).e164 for number in numbers]


def _end(until: datetime | None, duration: timedelta | None, *, now: datetime) -> datetime | None:
    if until is not None and duration is not None:
        raise InvalidInputError("--until and --for exclude each other: give one of them")
    return now + duration if duration is not None else until


def _in_words(entry: Suppression) -> str:
    end = f"until {in_words(entry.until)}" if entry.until else "for good"
    why = f": {entry.reason}" if entry.reason else ""
    return f"{entry.number} is not called, {end}{why}"
