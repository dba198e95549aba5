"""Actions on the suppression list: numbers are put on it, one by one or from a file, and taken off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from voiceflow_worker.actions import (
    LONGEST_NAMED,
    ActionRefusedError,
    ActionResult,
    OperatorAction,
    Question,
    changed_since,
)
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import Suppression, numbers_of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.text.wording import by_person, count_of, in_words, rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.number_file import NumberFile


_GOES_ON = "Calls that were already sent. They are not stopped."
_SHOWN = 5
"""The most bad lines of a file that a result names."""
_ENDS = "Waiting calls to these numbers, in every queue. They are cancelled without being sent."


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAction(OperatorAction):
    """An action on the suppression list. Numbers stay on it for good, `until` a time, or as long as it `lasts`."""

    numbers: Sequence[str] = ()
    country: str | None = None
    until: datetime | None = None
    lasts: timedelta | None = None

    def about(self) -> Mapping[str, Any]:
        return {"numbers": numbers_of(self.numbers, self.country)}

    @property
    def listed(self) -> SuppressionList:
        """Suppression list of the store."""
        return SuppressionList(self.operator.store, policy=self.operator.policy, by=self.operator.actor)

    @property
    def label(self) -> str:
        return f"{', '.join(self.numbers)[:LONGEST_NAMED]} on the suppression list"

    async def add(self, numbers: Iterable[str], *, file: NumberFile | None = None) -> Mapping[str, Suppression]:
        """Put numbers on the list, with the note, the name of the operator, if it is known, and that of their file."""
        if self.until is not None and self.lasts is not None:
            raise InvalidInputError("a time and a duration exclude each other: give one of them")
        who = self.operator.name
        until = self.until if self.lasts is None else self.operator.store.clock.now() + self.lasts
        reason = self.note or "" if who is None else by_person(who, self.note, "put on the list")
        if file is not None:
            reason = f"{reason}, from {file.name}" if reason else f"from {file.name}"
        digest = None if file is None else file.digest
        return await self.listed.add(*numbers, reason=reason, until=until, country=self.country, file=digest)


class Suppress(ListAction):
    """The addition of numbers to the list. Nothing is changed if one of them is not a telephone number."""

    name_of_action: ClassVar[str] = "suppress"

    async def question(self) -> Question:
        return Question(
            title="Stop calling these numbers?",
            will_be_called=(_GOES_ON,),
            will_not_be_called=(_ENDS, "New calls to these numbers. They are refused."),
            button="Put the numbers on the list",
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        standing = await self.add(self.numbers)
        return ActionResult(
            message=f"{count_of(len(standing), 'number')} on the list",
            documents=tuple(entry.as_json() for entry in standing.values()),
            lines=tuple(_entry(entry) for entry in standing.values()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsuppress(ListAction):
    """The removal of numbers from the list; with `since`, only if their newest entry is of that time."""

    name_of_action: ClassVar[str] = "unsuppress"

    since: datetime | None = None

    async def question(self) -> Question:
        """Make the question. Raises ActionRefusedError if no number is on the list."""
        token = await self.listed.state(*self.numbers, country=self.country)
        found = await self.listed.find(*self.numbers, country=self.country)
        if not found:
            raise ActionRefusedError(f"{', '.join(self.numbers)[:LONGEST_NAMED]} is not on the suppression list")
        return Question(
            title=f"Take {', '.join(found)} off the suppression list?",
            will_be_called=(
                *(f"{number} again, which is on the list: {entry.in_words()}." for number, entry in found.items()),
                "Waiting calls to this number, and calls that are enqueued from now on.",
            ),
            will_not_be_called=(
                "Calls that have ended because of the list.",
                "Calls that 8x8 stops by its own block list.",
            ),
            button="Take the number off the list",
            token=token,
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        if self.since is not None:
            token = await self.listed.state(*self.numbers, country=self.country)
        found = await self.listed.find(*self.numbers, country=self.country)
        for entry in found.values():
            if self.since is not None and rfc3339(entry.since) != rfc3339(self.since):
                raise changed_since(self.label, now=f"since {rfc3339(entry.since)}: {entry.reason}")
        check = None if token is None else partial(self._require, token)
        gone = await self.listed.remove(*self.numbers, country=self.country, check=check)
        wanted = numbers_of(self.numbers, self.country)
        lines = [f"{each} is off the list" if each in found else f"{each} was not on the list" for each in wanted]
        return ActionResult(
            message="; ".join(lines),
            documents=tuple({"number": each, "removed": each in gone} for each in wanted),
            lines=tuple(lines),
            not_done=len(gone) < len(wanted),
        )

    def _require(self, token: str, state: str) -> None:
        if state != token:
            now = "not on it" if not state else "put on it by somebody else, or in a call"
            raise changed_since(self.label, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportNumbers(ListAction):
    """The addition of all numbers of a file. Lines that give none do not prevent it, and the result names them."""

    name_of_action: ClassVar[str] = "suppress"

    found: NumberFile | None = None

    async def question(self) -> Question:
        return Question(
            title="Stop calling the numbers in a file?",
            will_be_called=(_GOES_ON,),
            will_not_be_called=(_ENDS, "The other lines of the file do not prevent it if a line gives no number."),
            button="Import",
        )

    async def carry_out(self, token: str | None) -> ActionResult:
        if self.found is None:
            raise InvalidInputError("choose a file with numbers")
        numbers = self.found.numbers
        known = len(await self.listed.find(*numbers))
        await self.add(numbers, file=self.found)
        return _imported(self.found, added=len(numbers) - known, known=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBackFile(ListAction):
    """The removal of what a file alone has put on the list: all of it, or nothing if a line is not one number."""

    name_of_action: ClassVar[str] = "unsuppress"

    found: NumberFile | None = None

    async def carry_out(self, token: str | None) -> ActionResult:
        if self.found is None:
            raise InvalidInputError("choose a file with numbers")
        if wrong := [each for each in (*self.found.findings, *self.found.warnings) if each.row is not None]:
            said = f"{count_of(len(wrong), 'line')} of {self.found.name} cannot be read as one number, so nothing is"
            message = f"{said} taken off the list: {_lines_named(wrong)}. Take the numbers off one by one"
            return ActionResult(message=message, not_done=True)
        numbers = self.found.numbers
        gone = await self.listed.take_back(numbers, file=self.found.digest)
        kept = await self.listed.find(*numbers)
        absent = len(numbers) - len(gone) - len(kept)
        notes = [f"{number} stays on the list: {entry.in_words()}" for number, entry in kept.items()]
        said = f"{count_of(len(gone), 'number')} taken off the list, {len(kept)} left on it, {absent} not on it"
        if kept:
            said += "; those left were put on it by something else than this very file"
        return ActionResult(
            message=said,
            documents=({"rows": self.found.rows, "removed": len(gone), "kept": list(kept), "absent": absent},),
            notes=tuple(notes[:_SHOWN]),
            not_done=not gone,
        )


def shown_import(found: NumberFile) -> ActionResult:
    """Return the result of an import that only shows what the file holds."""
    done = _imported(found, added=0, known=0)
    return replace(done, message=f"{found.in_words}; {len(found.findings)} bad. Nothing is stored")


def _imported(found: NumberFile, *, added: int, known: int) -> ActionResult:
    bad, doubts = len(found.findings), count_of(len(found.warnings), "finding")
    return ActionResult(
        message=f"{count_of(added, 'number')} added, {known} already on the list, {bad} bad",
        documents=({"rows": found.rows, "added": added, "known": known, "rejected": bad},),
        refused=(f"{found.bad_in_words}: {_lines_named(found.findings)}",) if bad else (),
        notes=(f"warning: {doubts} about what was read: {_lines_named(found.warnings)}",) if found.warnings else (),
    )


def _lines_named(findings: Sequence[Finding]) -> str:
    """Return all lines of findings, the first with the reasons."""
    named = [f"line {each.row}: {each.message}" if each.row else each.message for each in findings[:_SHOWN]]
    others = [str(each.row) for each in findings[_SHOWN:]]
    return "; ".join([*named, *([f"and lines {', '.join(others)}"] if others else [])])


def _entry(entry: Suppression) -> str:
    end = f"until {in_words(entry.until)}" if entry.until else "any more"
    return f"{entry.number} will not be called {end}" + (f": {entry.reason}" if entry.reason else "")
