"""Several acts of one kind are one: they have one question, one version and one result, for commands and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from voiceflow_worker.actions import ActionRefusedError, ActionResult, OperatorAction, Question, changed_since
from voiceflow_worker.core.audit import MOST_NAMED, audited
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.errors import ChangedSinceError, JobError
from voiceflow_worker.finding import Message, message_of
from voiceflow_worker.model.copying import replace

_LEFT_OUT = "-"
"""In place of the version of what was left out when the question was asked."""


class Many:
    """One or more acts of one kind. Each is done as it was shown, or left as it is.

    The version of their question has that of each question; whoever was left out of it stays so.
    """

    def __init__(self, acts: Sequence[OperatorAction]) -> None:
        self._acts = acts
        self._told = acts[0].several
        self.is_irreversible: bool = acts[0].is_irreversible or (len(acts) > 1 and self._told.asks)

    async def told_before(self) -> tuple[str, ...]:
        """What is said before they are carried out, where nobody is asked."""
        return tuple([told for act in self._acts for told in await act.told_before()])

    async def question(self) -> Question:
        """The question about all that allow it. Raises the error of the first one if none does."""
        found = await gather(*(partial(_asked, act) for act in self._acts))
        asked = [each for each in found if isinstance(each, Question)]
        errors = [each for each in found if not isinstance(each, Question)]
        if not asked:
            raise errors[0]
        question = asked[0] if len(asked) == 1 else self._of_several(asked)
        left_out = (f"Left out: {error}." for error in errors)
        return replace(
            question,
            will_not_be_called=(*question.will_not_be_called, *left_out),
            version=" ".join(each.version if isinstance(each, Question) else _LEFT_OUT for each in found),
        )

    def _of_several(self, asked: Sequence[Question]) -> Question:
        def lines(of: Callable[[Question], Sequence[str]]) -> tuple[str, ...]:
            said: dict[str, list[str]] = {}
            for each in asked:
                for line in of(each):
                    said.setdefault(line, []).append(each.subject)
            return tuple(
                line if self._told.in_each or len(named) == len(asked) else f"{', '.join(named)}: {line}"
                for line, named in said.items()
            )

        one, several = self._told.nouns
        return Question(
            title=self._told.title.format(self._counted(len(asked))),
            will_be_called=(
                f"You decide about {', '.join(each.subject for each in asked)}.",
                *lines(lambda each: each.will_be_called),
            ),
            will_not_be_called=lines(lambda each: each.will_not_be_called),
            facts=lines(lambda each: each.facts),
            button=asked[0].button.replace(f"the {one}", f"the {several}"),
        )

    def _counted(self, number: int) -> str:
        return f"{number} {self._told.nouns[number != 1]}"

    async def do(self, expected_version: str | None = None) -> ActionResult:
        """Carry out each whose question still stands. `refused` says why others were left as they are.

        Those on many calls have one entry in the audit log. Raises StoreError, InvalidInputError.
        """
        acts = self._acts
        seen = [None] * len(acts) if expected_version is None else expected_version.split(" ")
        if len(seen) != len(acts):
            raise changed_since("what this is about")
        shown = [(act, version) for act, version in zip(acts, seen, strict=True) if version != _LEFT_OUT]
        calls = [call for act, _ in shown if (call := act.about().get("call")) is not None]
        if len(calls) < 2:
            return await self._done(shown)
        first, queues = shown[0][0], {act.about().get("queue") for act, _ in shown}
        queue = queues.pop() if len(queues) == 1 else None
        entry = replace(first.entry(), queue=queue, call=None, calls=tuple(calls[:MOST_NAMED]))
        async with audited(first.operator.store, entry, first.operator.claim) as store:
            done = await self._done([(act.within(store.store), version) for act, version in shown])
            store.result = None if done.not_done else done.message
        return done

    async def _done(self, shown: Sequence[tuple[OperatorAction, str | None]]) -> ActionResult:
        acts = self._acts
        found = await gather(*(partial(_done, act, version) for act, version in shown))
        done = [(act, each) for (act, _), each in zip(shown, found, strict=True) if not each.not_done]
        left_out = [f"{len(acts) - len(shown)} left out"] if len(acts) > len(shown) else []
        refused = (*(each.message for each in found if each.not_done), *left_out)
        lost = dict.fromkeys(line for _, each in done for line in each.refused)
        if not done:
            return (
                found[0]
                if len(found) == 1
                else ActionResult(message=Message("; ".join(refused), *refused), not_done=True)
            )
        if len(acts) == 1:
            return found[0]
        only = done[0][1].message if len(done) == 1 else None
        return ActionResult(
            message=only or f"{self._counted(len(done))} {self._told.done.format(acts[0])}",
            documents=tuple(document for _, each in done for document in each.documents),
            lines=tuple(line for _, each in done for line in each.lines or (each.message,)),
            notes=tuple(f"{act.label}: {note}" for act, each in done for note in each.notes),
            refused=(*refused, *lost),
        )


async def _asked(act: OperatorAction) -> Question | ActionRefusedError | JobError:
    try:
        return await act.question()
    except (ActionRefusedError, JobError) as error:
        return error


async def _done(act: OperatorAction, version: str | None) -> ActionResult:
    try:
        return await act.do(version)
    except (ActionRefusedError, ChangedSinceError, JobError) as error:
        return ActionResult(message=message_of(error), not_done=True)
