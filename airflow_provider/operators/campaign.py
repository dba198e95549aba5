"""The operator that calls a list of people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider.calls.campaign_calls import EnqueuedRows, TaskRows, checked_rows, enqueue_rows, rows_of
from airflow_provider.calls.event_loop import run
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on, doubt
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import cancel_unsent, count_cancelled
from airflow_provider.calls.sent_posts import SentPosts
from airflow_provider.calls.task_record import recorded_batches
from airflow_provider.calls.waiting.status import Goal, WaitedCalls
from airflow_provider.calls.waiting.task_calls import TaskCalls
from airflow_provider.links.voice import VoiceBatchLink
from airflow_provider.operators.voice_task import CallingTask
from voiceflow_worker import CallQueue, InvalidInputError, JobState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import CampaignOptions, Job, RedialPolicy
    from voiceflow_worker.types import Report


class VoiceCampaignOperator(CallingTask):
    """An operator that calls a list of people, each row once per task instance.

    Give `rows` (a list of mappings, such as the output of an upstream task) or `file` (a campaign file, such as a CSV
    with a header, or a JSON array). `say` is a text with placeholders such as `{{ name }}`, and `flow` is an 8x8 body
    with such placeholders, or the path of its file. The library fills in the placeholders for each row; Airflow does
    not render them. Without `say` and `flow`, each row is itself a body. Rows may have the columns of campaign files
    (`destination`, `source`, `not_before`, `priority`, …).

    A row is identified by its own `unique_key`, or else by its number and its place among the rows with that number. If
    an earlier try already called for a row, the row is not called again, even with a different text. A waiting call is
    replaced if its text was changed, and cancelled if its row was removed. One bad row prevents all calls, unless
    `skip_bad` is set.

    `not_before`, `window`, `send`, `wait_for`, `deferrable`, `wait_timeout`, `doubt_patience` and `cancel_on_kill` work
    as in `VoiceCallOperator`. The task fails if more than `fail_ratio` of the calls have outcomes in `fail_on`.

    The result is the report of the batch, as `voiceflow report --json` prints it, with the counts of rows. The
    link *Calls of the batch* leads to the page of the batch.
    """

    operator_extra_links = (VoiceBatchLink(),)

    template_fields: Sequence[str] = (
        "rows",
        "file",
        "source",
        "voice_profile",
        "batch_id",
        "not_before",
        "time_zone",
        "voiceflow_conn_id",
    )
    template_fields_renderers = {"rows": "json"}  # noqa: RUF012 (Airflow declares it so)

    def __init__(
        self,
        *,
        rows: Any = None,
        file: str | None = None,
        say: str | None = None,
        flow: Mapping[str, object] | str | None = None,
        country: str | None = None,
        batch_id: str | None = None,
        priority: int = 0,
        redial: RedialPolicy | None = None,
        skip_bad: bool = False,
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        fail_ratio: float = 0.5,
        wait_timeout: timedelta | None = timedelta(hours=24),
        poll_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.file = file
        self.say = say
        self.flow = flow
        self.country = country
        self.batch_id = batch_id
        self.call_priority = priority
        self.redial = redial
        self.skip_bad = skip_bad
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        self.fail_ratio = fail_ratio
        self.wait_timeout = wait_timeout
        self.poll_interval = poll_interval
        self._options = replace(self._options, goal=Goal.named(wait_for))

    def execute(self, context: Context) -> Any:
        """Enqueue the rows that have no call yet, then send and wait."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            self._begin_wait(self.wait_timeout)
            calls = self._calls(context)
            batch_id = str(calls.calls.batch_id)
            counts = asdict(self._enqueue(context, batch_id))
            self.log.info(
                "batch %s: %s calls enqueued; rows that repeat another or had a call: %s; bad rows left out: %s",
                batch_id,
                *counts.values(),
            )
            self._go_on(context, batch_id=batch_id, queue=self.hook.settings().queue)
            if self._options.goal is not Goal.NOTHING and not self.deferrable:
                run(calls.send_and_wait)
            elif not run(calls.send).has_ended and self._options.goal is not Goal.NOTHING:
                self._wait(context, batch_id, counts)
            return self._done(batch_id, counts)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look at the batch after the trigger fired, send calls that are due, and defer again if some are open."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            self._begin_wait(self.wait_timeout, event)
            self.hook.settings()
            if event["status"] == "error":
                raise AirflowException(f"the wait for batch {event.get('batch_id')} failed: {event['error']}")
            calls = self._calls(context)
            run(calls.look)
            if not run(calls.send).has_ended:
                self._wait(context, str(calls.calls.batch_id), event["rows"])
            return self._done(str(calls.calls.batch_id), event["rows"])

    def _calls(self, context: Context) -> TaskCalls:
        identity = TaskIdentity.of(context)
        batch_id = self.batch_id or identity.batch_id()
        self._cancelling = f"batch {batch_id}", partial(_cancel, identity=identity, batch_id=batch_id)
        waited = WaitedCalls(self._options, batch_id=batch_id)
        return self._task_calls(context, waited, every=self.poll_interval)

    def _enqueue(self, context: Context, batch_id: str) -> EnqueuedRows:
        state = self._checked_state(context)
        if (self.rows is None) == (self.file is None):
            raise InvalidInputError("give the operator either rows=… or file=…")
        options, saved = self._campaign_options(batch_id), state.load()
        given = (
            rows_of(Path(self.file), options, now=datetime.now(UTC))
            if self.file is not None
            else TaskRows(rows=checked_rows(self.rows))
        )

        async def enqueued() -> EnqueuedRows:
            async with self.hook.opened_queue() as queue:
                await SentPosts(context).require_known(queue, retention=self.hook.settings().retention)
                return await enqueue_rows(
                    queue,
                    given,
                    options,
                    TaskIdentity.of(context),
                    skip_bad=self.skip_bad,
                    saved=saved,
                )

        counts = run(enqueued)
        if given.rows:
            state.save({"batch_id": batch_id, "store": self.hook.store_url()})
        return counts

    def _campaign_options(self, batch_id: str) -> CampaignOptions:
        from voiceflow_worker import CampaignOptions, FlowTemplate

        settings = self.hook.settings()
        template = None
        if self.say is not None:
            template = FlowTemplate.speaking(self.say)
        elif isinstance(self.flow, str):
            template = FlowTemplate.load(Path(self.flow))
        elif self.flow is not None:
            template = FlowTemplate.parse(self.flow, name="flow")
        return CampaignOptions(
            template=template,
            voice_profile=self.voice_profile or settings.voice_profile,
            source=self.source or settings.source,
            country=self.country,
            batch_id=batch_id,
            valid_for=self.valid_for,
            time_zone=self.time_zone,
            not_before=self._earliest(),
            window=self.window,
            priority=self.call_priority,
            redial=self.redial,
        )

    def _wait(self, context: Context, batch_id: str, rows: Mapping[str, Any]) -> None:
        self._defer(
            batch_id=batch_id,
            every=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
            owner=TaskIdentity.of(context).as_json(),
            rows=dict(rows),
        )

    def _done(self, batch_id: str, rows: Mapping[str, Any]) -> Any:
        report, doubts, cancelled = run(partial(self._report, batch_id))
        self.log.info("%s", report)
        if self._options.goal is not Goal.NOTHING:
            store = self.hook.store_url()
            bad, requested = _count(report, self.fail_on), report.total - cancelled
            if bad and bad > requested * self.fail_ratio:
                raise AirflowFailException(
                    f"batch {batch_id}: {bad} of {requested} calls ended as {', '.join(self.fail_on)}, more than the "
                    f"{self.fail_ratio:.0%} that fail_ratio allows. `voiceflow calls list --batch {batch_id} --store "
                    f"{store}` lists the calls of the batch"
                )
            if doubts:
                more = f" (Calls in doubt in batch {batch_id}: {len(doubts)}. This is the first.)"
                raise AirflowException(doubt(doubts[0], store=store) + more)
        return {**report.as_json(), "rows": rows}

    async def _report(self, batch_id: str) -> tuple[Report, Sequence[Job], int]:
        """Return the report of the batch, its calls in doubt, and the number of calls that tasks cancelled."""
        async with self.hook.opened_queue() as queue:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
            report = await queue.report(batch_id)
            cancelled = await count_cancelled(queue, batch_id) if report.states.get(JobState.CANCELLED) else 0
            return report, doubts, cancelled


async def _cancel(queue: CallQueue, *, identity: TaskIdentity, batch_id: str) -> None:
    """Cancel the unsent calls of a task instance, in this batch and in the batches of earlier tries."""
    await cancel_unsent(queue, {batch_id, *await recorded_batches(queue, identity)}, identity)


def _count(report: Report, fail_on: Iterable[str]) -> int:
    """Count the calls that ended in one of these states or session statuses."""
    names = {name.casefold() for name in fail_on}
    states = {state.value: count for state, count in report.states.items()}
    # A COMPLETED call is also in the state completed, and a FAILED call in the state failed. It counts once.
    outcomes = {name.casefold(): count for name, count in report.outcomes.items()}
    counted = {name: count for name, count in outcomes.items() if name not in states}
    if "failed" in names:
        counted.pop("error", None)
    return sum(count for each in (states, counted) for name, count in each.items() if name in names)
