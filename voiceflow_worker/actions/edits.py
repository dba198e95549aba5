"""The edit of a batch: another window, validity, priority or source for its waiting calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar

from voiceflow_worker.actions import ActionRefusedError, ActionResult, Question, active_holds
from voiceflow_worker.actions.queues import CountedAction
from voiceflow_worker.campaigns.campaign import read_edit
from voiceflow_worker.campaigns.course import CallPlan, Course
from voiceflow_worker.campaigns.fields import CHANGES
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.core.edits import BatchEdit, EditedCalls, edit_batch, edit_state
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.wording import by_person, count_of, in_words, rate_in_words, rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class EditPreview:
    """What the waiting calls of a batch would become at `at`: their `course` at the `rate` of the queue.

    `version` and `state` are those of the question.
    """

    batch_id: str
    at: datetime
    calls: EditedCalls
    course: Course
    rate: float | None
    message: str
    version: str
    state: str

    def in_words(self) -> str:
        """When the last of the waiting calls would be sent."""
        if self.course.last is None:
            return "Of the waiting calls of the batch, none would be sent."
        last = in_words(self.course.last)
        return (
            f"Of the waiting calls of the batch, the last would be sent at {last} (rate: {rate_in_words(self.rate)})."
        )

    def as_json(self) -> dict[str, object]:
        """The preview as JSON, for scripts. `too_late` calls would not be sent before their validity ends."""
        return {
            "batch_id": self.batch_id,
            "dry_run": True,
            "edited": self.calls.edited,
            "unchanged": self.calls.unchanged,
            "too_late": self.course.expired,
            "first_at": rfc3339(self.course.first),
            "last_at": rfc3339(self.course.last),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EditBatch(CountedAction):
    """The edit of the waiting calls of a batch. `changes` are fields as of a campaign, such as `window`."""

    name_of_action: ClassVar[str] = "edit"

    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    called: Callable[[str], str] = str
    """What the interface calls a field."""

    async def preview(self) -> EditPreview:
        """What the calls would become. This changes nothing. Raises ActionRefusedError if no call would change."""
        at = self.at or self.operator.store.clock.now()
        ordered, state = await self.ordered(), await edit_state(self.operator.store, self.queue, self.name)
        plan, never = CallPlan(), list[Job]()

        def look(job: Job) -> None:
            if job.opens(at=max(at, job.due_at)) is None:
                never.append(job)
            else:
                plan.add_waiting(job)

        found = await self._edited(at, dry_run=True, look=look)
        if not found.edited:
            why = "all have these values already" if found.unchanged else "none is waiting"
            raise ActionRefusedError(f"no call of batch {self.batch} would change: {why}")
        limits = await limits_of(self.operator.store, self.calls.name)
        rate = None if limits is None else limits.rate
        course = plan.simulated(at, rate=rate)
        late = course.expired + len(never)
        return EditPreview(
            batch_id=self.name,
            at=at,
            calls=found,
            course=replace(course, expired=late),
            rate=rate,
            message=self._new_values(),
            version=self.count_version(
                at, ordered, state, rate, await self.held(), most=(found.edited, found.unchanged, late)
            ),
            state=state,
        )

    async def question(self) -> Question:
        """The question, with what the calls would become. Raises ActionRefusedError if no call would change."""
        found = await self.preview()
        edited, unchanged = count_of(found.calls.edited, "waiting call"), found.calls.unchanged
        return Question(
            title=f"Edit {edited} of {self.label}?",
            will_be_called=(f"They get {found.message}.", found.in_words()),
            will_not_be_called=(
                *([f"{count_of(unchanged, 'call')} with these values already."] if unchanged else []),
                *([f"{count_of(found.course.expired, 'call')}: {_TOO_LATE}."] if found.course.expired else []),
                "Calls that were sent, unless they come back, and calls that are added later: they are not changed.",
                *await active_holds(self.operator.store, self.queue, self.batch),
            ),
            button=f"Edit {edited}",
            version=found.version,
            state=found.state,
        )

    async def answer_again(self, answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The answer. A request that was cut has ordered the edit: its calls take the edits of now."""
        return (await self._carried_out(None, goes_on=True)).documents[0] if answer is None else answer

    async def carry_out(self, state: str | None) -> ActionResult:
        """Edit the calls: those that were counted."""
        return await self._carried_out(state)

    async def _carried_out(self, state: str | None, *, goes_on: bool = False) -> ActionResult:
        now = self.operator.store.clock.now()
        late = set[str]()

        def look(job: Job) -> None:
            opens = job.opens(at=max(now, job.due_at))
            is_late = opens is None or (job.valid_until is not None and opens >= job.valid_until)
            (late.add if is_late else late.discard)(job.id)

        found = await self._edited(self.at or now, look=look, state=state, goes_on=goes_on)
        said = f"edited: {count_of(found.edited, 'call')} of batch {self.batch}, which get {self._new_values()}"
        notes = [
            f"{count_of(count, 'call')} {why}"
            for count, why in (
                (found.unchanged, "had these values already"),
                (found.later, "added after the question, and not changed"),
                (found.leaving, "on their way, and not changed unless they come back"),
                (len(late), f"not called now: {_TOO_LATE}"),
            )
            if count
        ]
        document = {
            "batch_id": self.name, "edited": found.edited, "unchanged": found.unchanged, "later": found.later,
            "leaving": found.leaving, "too_late": len(late),
        }  # fmt: skip
        return ActionResult(message=said, documents=(document,), notes=tuple(notes))

    async def _edited(
        self,
        at: datetime,
        *,
        dry_run: bool = False,
        look: Callable[[Job], None] | None = None,
        state: str | None = None,
        goes_on: bool = False,
    ) -> EditedCalls:
        name, _ = self.name, await self.counted()
        note = by_person(self.operator.name, self.note, self._new_values())
        edit = self._edit()
        return await edit_batch(
            self.operator.store, self.calls.name, name, edit, ordered_at=at, note=note, dry_run=dry_run, on_call=look,
            state=state, goes_on=goes_on,
        )  # fmt: skip

    def _edit(self) -> BatchEdit:
        return read_edit(self.changes, now=self.operator.store.clock.now(), named=self.called)

    def _new_values(self) -> str:
        given = {name: self.changes[name] for name in CHANGES if self.changes.get(name) is not None}
        return ", ".join(f"{self.called(name)} {value}" for name, value in given.items())


_TOO_LATE = "their validity ends before they can be sent, so nobody is called for them"
