"""The actions on the suppression list: add numbers, import a file of numbers, and remove a number."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from anyio.to_thread import run_sync

from voiceflow_worker.acts import Act, ImportNumbers, Operator, Suppress, Unsuppress
from voiceflow_worker.campaigns.files.number_file import NumberFile, read_number_file
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.webhooks.pages.actions.action import (
    ActionDone,
    FormField,
    PageAction,
    duration_in,
    reason_field,
    reason_in,
)
from voiceflow_worker.webhooks.pages.sign_in.sessions import PageForm

PAGE = "suppression"
MOST_AT_ONCE = 1000


class ListAction(PageAction):
    """The addition of numbers to the list."""

    hidden: ClassVar[tuple[str, ...]] = ()
    room = PAGE

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        country = "Such as SG, or international for digits that begin with their country code."
        return (
            reason_field("Reason", form),
            FormField(name="for", label="For how long", value=form.one("for"), help="Such as 30d. Empty: for good."),
            FormField(name="country", label="Country of national numbers", value=form.one("country"), help=country),
        )


class SuppressAction(ListAction):
    """The addition of numbers to the list."""

    name: ClassVar[str] = "suppress"
    words: ClassVar[str] = "suppress add NUMBER"
    options: ClassVar[str] = "--reason …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Suppress(
            operator=operator,
            numbers=_numbers(form),
            country=_country(form),
            reason=reason_in(form),
            lasts=duration_in(form, label="for"),
        )

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        """The fields; that of the numbers is filled in if the form names a call."""
        text, label = form.one("numbers"), "Numbers, one on each line"
        if job_id := form.one("call"):
            text = (await self._operator.call(job_id))[1].destination
        numbers = FormField(name="numbers", label=label, kind="lines", value=text, required=True)
        return (numbers, *await ListAction.fields(self, form))

    async def act(self, form: PageForm, *, who: str) -> ActionDone:
        if not 0 < len(_numbers(form)) <= MOST_AT_ONCE:
            raise InvalidInputError(f"give 1 to {MOST_AT_ONCE} numbers, one on each line; for more, import a file")
        return await ListAction.act(self, form, who=who)


class UnsuppressAction(PageAction):
    """The removal of a number from the list."""

    name: ClassVar[str] = "unsuppress"
    words: ClassVar[str] = "suppress remove"
    argument: ClassVar[str] = "number"
    hidden: ClassVar[tuple[str, ...]] = ("number",)
    room: ClassVar[str] = PAGE

    async def made(self, form: PageForm, operator: Operator) -> Act:
        return Unsuppress(operator=operator, numbers=[form.one("number")])


class ImportNumbersAction(ListAction):
    """The addition of the numbers in a file to the list."""

    name: ClassVar[str] = "import-numbers"
    words: ClassVar[str] = "suppress import FILE"
    options: ClassVar[str] = "--reason …"

    async def made(self, form: PageForm, operator: Operator) -> Act:
        """The act. The file is not read before it is sent."""
        read = partial(_numbers_in, form.file or b"", column=form.one("column") or None, country=_country(form))
        found = await run_sync(read) if form.file else None
        return ImportNumbers(
            operator=operator,
            found=found,
            skips_bad=form.one("skip") == "yes",
            reason=reason_in(form),
            lasts=duration_in(form, label="for"),
        )

    async def fields(self, form: PageForm) -> tuple[FormField, ...]:
        file = "A CSV with a column of numbers, or one number on each line"
        skip = "Skip lines that are not numbers"
        return (
            FormField(name="file", label=file, kind="file", required=True),
            FormField(name="column", label="Name of the column, if it is unusual", value=form.one("column")),
            *await ListAction.fields(self, form),
            FormField(name="skip", label=skip, kind="tick", value=form.one("skip")),
        )


def _numbers(form: PageForm) -> list[str]:
    return [line.strip() for line in form.one("numbers").splitlines() if line.strip()]


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
