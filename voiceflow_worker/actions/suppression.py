"""Actions on the suppression list: numbers are put on it, one by one or from a file, and taken off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from voiceflow_worker.actions import (
    LONGEST_NAMED,
    ActionRefusedError,
    ActionResult,
    Operator,
    OperatorAction,
    Question,
    changed_since,
)
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import Suppression, numbers_of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import by_person, count_of, in_words

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.number_file import NumberFile


_GOES_ON = "Calls that were already sent. They are not stopped."
_SHOWN = 5
"""The most bad lines of a file that a result tells."""
_ENDS = "Waiting calls to these numbers, in every queue. They are cancelled without being sent."


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAction(OperatorAction):
    """An action on the suppression list. Numbers stay on it for good, `until` a time, or as long as it `lasts`."""

    operator: Operator
    numbers: Sequence[str] = ()
    country: str | None = None
    note: str | None = None
    until: datetime | None = None
    lasts: timedelta | None = None

    def about_numbers(self) -> Sequence[str]:
        return numbers_of(self.numbers, self.country)

    @property
    def listed(self) -> SuppressionList:
        """The list."""
        return SuppressionList(self.operator.store, policy=self.operator.policy, by=self.operator.actor)

    @property
    def label(self) -> str:
        return f"{', '.join(self.numbers)[:LONGEST_NAMED]} on the suppression list"

    async def state(self) -> str:
        """The state of the numbers on the list."""
        return await self.listed.state(*self.numbers, country=self.country)

    def check(self, expected: str | None) -> Callable[[str], None] | None:
        """The check that the state of the numbers is still the expected one."""

        def require_expected(state: str) -> None:
            if state != expected:
                now = "not on it" if not state else "put on it by somebody else, or in a call"
                raise changed_since(self.label, now=now)

        return None if expected is None else require_expected

    async def add(
        self, numbers: Iterable[str], *, file: NumberFile | None = None, state: str | None = None
    ) -> Mapping[str, Suppression]:
        """Put numbers on the list, with the note, the name of the operator, if it is known, and that of their file."""
        if self.until is not None and self.lasts is not None:
            raise InvalidInputError("a time and a duration exclude each other: give one of them")
        who = self.operator.name
        until = self.until if self.lasts is None else self.operator.ordered_at + self.lasts
        reason = self.note or "" if who is None else by_person(who, self.note, "put on the list")
        if file is not None:
            reason = f"{reason}, from {file.name}" if reason else f"from {file.name}"
        return await self.listed.add(
            *numbers,
            reason=reason,
            until=until,
            country=self.country,
            file=None if file is None else file.digest,
            check=self.check(state),
        )


class Suppress(ListAction):
    """The addition of numbers to the list. Nothing is changed if one of them is not a telephone number."""

    name_of_action: ClassVar[str] = "suppress"

    async def question(self) -> Question:
        state = await self.state()
        return Question(
            title="Stop calling these numbers?",
            will_be_called=(_GOES_ON,),
            will_not_be_called=(_ENDS, "New calls to these numbers. They are refused."),
            button="Put the numbers on the list",
            version=self.version_of(state),
            state=state,
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        standing = await self.add(self.numbers, state=state)
        return ActionResult(
            message=f"{count_of(len(standing), 'number')} on the list",
            documents=tuple(entry.as_json() for entry in standing.values()),
            lines=tuple(_entry(entry) for entry in standing.values()),
        )

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The entry of the one number of a request, as it is now. Raises ActionRefusedError if it was removed since."""
        found = await self.listed.find(*self.numbers, country=self.country)
        if not found:
            raise ActionRefusedError(f"{self.label} was added before, and taken off since; nothing was done")
        if answer is None:
            await self.listed.enforce(found)
        return next(iter(found.values())).as_json()

    def kept_answer(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}


class Unsuppress(ListAction):
    """The removal of numbers from the list."""

    name_of_action: ClassVar[str] = "unsuppress"

    async def question(self) -> Question:
        """The question. Raises ActionRefusedError if no number is on the list."""
        state = await self.state()
        found = await self.listed.find(*self.numbers, country=self.country)
        if not found:
            raise ActionRefusedError(f"{', '.join(self.numbers)[:LONGEST_NAMED]} is not on the suppression list")
        entries = (f"{entry.number} again. {_standing(entry)}." for entry in found.values())
        return Question(
            title=f"Take {', '.join(found)} off the suppression list?",
            will_be_called=(
                *entries,
                "Waiting calls to this number, and calls that are enqueued from now on.",
            ),
            will_not_be_called=(
                "Calls that have ended because of the list.",
                "Calls that 8x8 stops by its own block list.",
            ),
            button="Take the number off the list",
            version=self.version_of(state),
            state=state,
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        found = await self.listed.find(*self.numbers, country=self.country)
        gone = await self.listed.remove(*self.numbers, country=self.country, check=self.check(state))
        wanted = numbers_of(self.numbers, self.country)
        lines = [f"{each} is off the list" if each in found else f"{each} was not on the list" for each in wanted]
        return ActionResult(
            message="; ".join(lines),
            documents=tuple({"number": each, "removed": each in gone} for each in wanted),
            lines=tuple(lines),
            not_done=len(gone) < len(wanted),
        )

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The removal of the one number of a request."""
        return {"number": numbers_of(self.numbers, self.country)[0], "removed": True, **(answer or {})}

    def kept_answer(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"removed": answer["removed"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportNumbers(ListAction):
    """The addition of all numbers of a file. Lines that give none do not prevent it, and the result names them."""

    name_of_action: ClassVar[str] = "suppress"

    found: NumberFile | None = None
    only_shows: bool = False
    """Whether the action only says what the file holds, and stores nothing."""

    async def question(self) -> Question:
        return Question(
            title="Stop calling the numbers in a file?",
            will_be_called=(_GOES_ON,),
            will_not_be_called=(_ENDS, "The other lines of the file do not prevent it if a line gives no number."),
            button="Import",
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        if self.found is None:
            raise InvalidInputError("choose a file with numbers")
        if self.only_shows:
            return shown_import(self.found)
        numbers = self.found.numbers
        known = len(await self.listed.find(*numbers))
        await self.add(numbers, file=self.found)
        return _imported(self.found, added=len(numbers) - known, known=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBackFile(ListAction):
    """The removal of what a file alone has put on the list: all of it, or nothing if a line is not one number."""

    name_of_action: ClassVar[str] = "unsuppress"

    found: NumberFile | None = None

    async def question(self) -> Question:
        return Question(
            title="Take the numbers of a file off the list?",
            will_be_called=("Waiting calls to these numbers, and calls that are enqueued from now on.",),
            will_not_be_called=(
                "Numbers that a call, a person or another file has put on the list too.",
                "Calls that have ended because of the list.",
            ),
            button="Take the numbers off the list",
        )

    async def carry_out(self, state: str | None) -> ActionResult:
        if self.found is None:
            raise InvalidInputError("choose a file with numbers")
        if any(each.row is not None for each in (*self.found.findings, *self.found.warnings)):
            return _refused_removal(self.found)
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
    """The result of an import that only shows what the file holds."""
    done = _imported(found, added=0, known=0)
    return replace(done, message=f"{found.in_words}; {len(found.findings)} bad. Nothing is stored")


def _refused_removal(found: NumberFile) -> ActionResult:
    """Return the result of a removal by a file in which a line is not one number for certain."""
    wrong = [each for each in (*found.findings, *found.warnings) if each.row is not None]
    lines = tuple(f"line {each.row}: {each.message}" for each in wrong[:_SHOWN])
    said = (
        f"{count_of(len(wrong), 'line')} of {found.name} cannot be read as one number, so nothing is taken off the list"
    )
    counts: dict[str, object] = {"rows": found.rows, "removed": 0, "kept": [], "absent": 0}
    message = f"{said}. Take the numbers off one by one"
    return ActionResult(message=message, documents=(counts,), lines=lines, not_done=True)


def _imported(found: NumberFile, *, added: int, known: int) -> ActionResult:
    bad, doubts = len(found.findings), found.warnings
    note, first = f"warning: {count_of(len(doubts), 'finding')} about what was read", next(iter(doubts), None)
    place = "" if first is None or first.row is None else f" line {first.row}"
    counts = {"rows": found.rows, "added": added, "known": known, "rejected": bad}
    return ActionResult(
        message=f"{count_of(added, 'number')} added, {known} already on the list, {bad} bad",
        documents=(counts,),
        refused=(f"{found.bad_in_words}: {_lines_named(found)}",) if found.findings else (),
        notes=(*((f"{note}, such as{place}: {first.message}",) if first else ()),),
    )


def _lines_named(found: NumberFile) -> str:
    """Return all lines that gave no number, the first with the reasons."""
    named = [f"line {each.row}: {each.message}" for each in found.findings[:_SHOWN]]
    others = [str(each.row) for each in found.findings[_SHOWN:]]
    return "; ".join([*named, *([f"and lines {', '.join(others)}"] if others else [])])


def _entry(entry: Suppression) -> str:
    end = f"until {in_words(entry.until)}" if entry.until else "any more"
    return f"{entry.number} will not be called {end}" + (f": {entry.reason}" if entry.reason else "")


def _standing(entry: Suppression) -> str:
    since = f"It has been on the list since {in_words(entry.since)}"
    return f"{since}: {entry.reason}" if entry.reason else since
