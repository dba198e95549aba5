"""The actions on the suppression list: add numbers, import a file of numbers, and remove a number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from anyio.to_thread import run_sync

from voiceflow_worker.campaigns.files.number_file import NumberFile, read_number_file
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.model.numbers.phone import parse_number
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.who import by_person
from voiceflow_worker.webhooks.pages.actions.action import (
    ActionDone,
    Confirmation,
    FieldKind,
    FormField,
    PageAction,
    call_page,
    command,
    end_in,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.sign_in.forms import PageForm

PAGE = "suppression"
MOST_AT_ONCE = 1000
_SHOWN_FINDINGS = 5
_GOES_ON = "Calls that were already sent. They are not stopped."
_ENDS = "Waiting calls to these numbers, in every queue. They end unsent when their turn comes."


class SuppressAction(PageAction):
    """The addition of numbers to the list."""

    name = "suppress"

    def command(self, subject: PageForm) -> str:
        return command("suppress", "add", subject.one("numbers") or "NUMBER", reason="…")

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action, with a field for numbers, filled in if the form names a call."""
        numbers = subject.one("numbers")
        if job_id := subject.one("call"):
            numbers = (await self._acting.call(job_id))[1].destination
        return Confirmation(
            title="Stop calling these numbers?",
            rings=(_GOES_ON,),
            silent=(_ENDS, "New calls to these numbers. They are refused."),
            button="Put the numbers on the list",
            fields=(
                FormField(
                    name="numbers",
                    label="Numbers, one on each line",
                    kind=FieldKind.LINES,
                    value=numbers,
                    required=True,
                ),
                *_common_fields(subject),
            ),
            back=call_page(job_id) if job_id else PAGE,
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Add the numbers to the list. Nothing is changed if one of them is not a telephone number."""
        numbers = [line.strip() for line in form.one("numbers").splitlines() if line.strip()]
        if not 0 < len(numbers) <= MOST_AT_ONCE:
            raise InvalidInputError(f"give 1 to {MOST_AT_ONCE} numbers, one on each line; for more, import a file")
        country = _country(form)
        listed = await SuppressionList(self._acting.store).add(
            *numbers,
            reason=by_person(who, reason_in(form), "put on the list"),
            until=end_in(form, self._acting.store, label="for"),
            country=country,
        )
        done = f"{count_of(len(listed), 'number')} on the list"
        doubted = [message for number in numbers for message in parse_number(number, country=country).messages]
        return ActionDone(done + _doubts(doubted), PAGE)


class UnsuppressAction(PageAction):
    """The removal of a number from the list."""

    name = "unsuppress"

    def command(self, subject: PageForm) -> str:
        return command("suppress", "remove", subject.one("number"))

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action. Raises InvalidInputError for a number that is not on the list."""
        number = subject.one("number")
        entries = await SuppressionList(self._acting.store).find(number)
        if not entries:
            raise InvalidInputError(f"{number[:100]} is not on the suppression list")
        (entry,) = entries.values()
        return Confirmation(
            title=f"Take {entry.number} off the suppression list?",
            rings=("Waiting calls to this number, and calls that are enqueued from now on.",),
            silent=("Calls that have ended because of the list.", "Calls that 8x8 stops by its own block list."),
            button="Take the number off the list",
            subject=(("number", entry.number),),
            back=PAGE,
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:  # noqa: ARG002 - no entry is left to name them
        number = form.one("number")
        gone = await SuppressionList(self._acting.store).remove(number)
        return ActionDone(f"{number} is off the list" if gone else f"{number} was not on the list", PAGE)


class ImportNumbersAction(PageAction):
    """The addition of the numbers in a file to the list."""

    name = "import-numbers"

    def command(self, subject: PageForm) -> str:  # noqa: ARG002 - the command is always the same
        return command("suppress", "import", "FILE", reason="…")

    async def confirmation(self, subject: PageForm) -> Confirmation:
        """The question before the action, with a field for the file."""
        skip = "Skip lines that are not numbers"
        return Confirmation(
            title="Stop calling the numbers in a file?",
            rings=(_GOES_ON,),
            silent=(_ENDS, "Nothing is imported if a line is not a number. Tick the box below to skip such lines."),
            button="Import",
            fields=(
                FormField(
                    name="file",
                    label="A CSV with a column of numbers, or one number on each line",
                    kind=FieldKind.FILE,
                    required=True,
                ),
                FormField(name="column", label="Name of the column, if it is unusual", value=subject.one("column")),
                *_common_fields(subject),
                FormField(name="skip", label=skip, kind=FieldKind.TICK, value=subject.one("skip")),
            ),
            back=PAGE,
        )

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        """Add the numbers in the file. One bad line prevents all, unless the form says to skip bad lines."""
        if not form.file:
            raise InvalidInputError("choose a file with numbers")
        column = form.one("column") or None
        found = await run_sync(partial(_numbers_in, form.file, column=column, country=_country(form)))
        if found.findings and form.one("skip") != "yes":
            lines = [f"line {each.row}: {each.message}" for each in found.findings[:_SHOWN_FINDINGS]]
            raise InvalidInputError("; ".join([f"nothing was imported, because {found.bad_in_words}", *lines]))
        listed = SuppressionList(self._acting.store)
        known = len(await listed.find(*found.numbers))
        reason, until = (
            by_person(who, reason_in(form), "put on the list"),
            end_in(form, self._acting.store, label="for"),
        )
        await listed.add(*found.numbers, reason=reason, until=until)
        added = count_of(len(found.numbers) - known, "number")
        skipped = count_of(len(found.findings), "line")
        done = f"{added} added, {known} already on the list, {skipped} skipped"
        return ActionDone(done + _doubts([f"line {each.row}: {each.message}" for each in found.warnings]), PAGE)


def _doubts(doubted: Sequence[str]) -> str:
    """A sentence about numbers that may have been misread, for the end of a result; empty without such numbers."""
    if not doubted:
        return ""
    several = count_of(len(doubted), "number")
    return f". {several} may have been misread, such as {doubted[0]}"


def _common_fields(form: PageForm) -> tuple[FormField, ...]:
    return (
        reason_field("Reason", form),
        FormField(name="for", label="For how long", value=form.one("for"), help="Such as 30d. Empty: for good."),
        FormField(
            name="country",
            label="Country of national numbers",
            value=form.one("country"),
            help="Such as SG, or international for digits that begin with their country code.",
        ),
    )


def _country(form: PageForm) -> str | None:
    return form.one("country").upper() or None


def _numbers_in(content: bytes, *, column: str | None, country: str | None) -> NumberFile:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.csv"
        path.write_bytes(content)
        try:
            return read_number_file(path, column=column, country=country)
        except CampaignFileError as error:
            raise InvalidInputError(str(error).replace(str(path), "the file")) from None
