"""Several actions on calls, of one kind, one after the other, with one question for commands and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voiceflow_worker.actions import ActionRefusedError, ActionResult, OperatorAction, Question, changed_since
from voiceflow_worker.errors import ChangedSinceError, JobError
from voiceflow_worker.model.text.wording import count_of

_LEFT_OUT = "-"
"""In place of the token of what was left out when the question was asked."""


class Many:
    """One or more actions of one kind. Each is done as it was shown, or left as it is."""

    def __init__(self, acts: Sequence[OperatorAction]) -> None:
        self._acts = acts
        self._words = acts[0].several
        self.is_irreversible: bool = acts[0].is_irreversible or (len(acts) > 1 and self._words.asks)

    async def question(self) -> Question:
        """Make one question about all that allow it. Raises the error of the first one if none does."""
        if len(self._acts) == 1:
            return await self._acts[0].question()
        asked, errors, tokens = list[Question](), list[Exception](), list[str]()
        for act in self._acts:
            try:
                asked.append(await act.question())
                tokens.append(asked[-1].token)
            except (ActionRefusedError, JobError) as error:
                errors.append(error)
                tokens.append(_LEFT_OUT)
        if not asked:
            raise errors[0]
        return Question(
            title=self._words.title.format(count_of(len(asked), "call")),
            will_be_called=(
                f"You decide about {', '.join(each.subject for each in asked)}.",
                *_lines(asked, lambda each: each.will_be_called),
            ),
            will_not_be_called=(
                *_lines(asked, lambda each: each.will_not_be_called), *(f"Left out: {error}." for error in errors)
            ),
            facts=_lines(asked, lambda each: each.facts),
            button=asked[0].button.replace("the call", "the calls"),
            token=";".join(tokens),
        )  # fmt: skip

    async def do(self, token: str | None = None) -> ActionResult:
        """Carry out each whose question still holds. `refused` says why others were left as they are.

        Raises StoreError and InvalidInputError, and what a single one raises.
        """
        if len(self._acts) == 1:
            return await self._acts[0].do(token)
        tokens = [None] * len(self._acts) if token is None else token.split(";")
        if len(tokens) != len(self._acts):
            raise changed_since("what this is about")
        done, refused = list[ActionResult](), list[str]()
        for act, seen in zip(self._acts, tokens, strict=True):
            try:
                if seen == _LEFT_OUT:
                    raise ActionRefusedError(f"{act.label} was left out")
                result = await act.do(seen)
            except (ActionRefusedError, ChangedSinceError, JobError) as error:
                refused.append(str(error))
            else:
                done.append(result)
        if not done:
            return ActionResult(message="; ".join(refused), not_done=True)
        counted = f"{count_of(len(done), 'call')} {self._words.done.format(self._acts[0])}"
        return ActionResult(
            message=done[0].message if len(done) == 1 else counted,
            documents=tuple(document for each in done for document in each.documents),
            lines=tuple(line for each in done for line in each.lines or (each.message,)),
            notes=tuple(note for each in done for note in each.notes),
            refused=tuple(refused),
        )


def _lines(asked: Sequence[Question], of: Callable[[Question], tuple[str, ...]]) -> tuple[str, ...]:
    """Return the lines of these questions, each with its subject unless all say the same."""
    if len({of(each) for each in asked}) == 1:
        return of(asked[0])
    return tuple(f"{each.subject}: {line}" for each in asked for line in of(each))
