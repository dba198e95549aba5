"""The operator that calls a list of people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider.calls.arguments import taking
from airflow_provider.calls.campaign_calls import NOBODY, EnqueuedRows, enqueue_campaign
from airflow_provider.calls.event_loop import run
from airflow_provider.calls.failures import as_airflow_errors, doubt
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import cancel_unsent, count_cancelled
from airflow_provider.calls.people import HiddenRows, rows_of_query
from airflow_provider.calls.task_record import recorded_batches
from airflow_provider.calls.waiting.status import Goal, WaitedCalls
from airflow_provider.calls.waiting.task_calls import TaskCalls
from airflow_provider.links.voice import VoiceBatchLink
from airflow_provider.operators.voice_task import WaitingTask
from voiceflow_worker import CallQueue, InvalidInputError, JobState
from voiceflow_worker.campaigns.files.rows import number_columns, row_name
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from voiceflow_worker import Campaign, Job
    from voiceflow_worker.types import Report


class VoiceCampaignOperator(WaitingTask):
    """An operator that calls a list of people, each row once per task instance.

    The people come from one of: `file` (a campaign file, such as a CSV with a header), `rows` (a list of mappings, such
    as the output of an upstream task), or `sql` (a query with `parameters` for the database of the connection
    `conn_id`; this task reads its rows, and Airflow stores none of them). Rows may have the columns of campaign files
    (`destination`, `source`, `not_before`, `priority`, …).

    All other fields of a campaign have the names and the meaning of the options of `voiceflow enqueue`. `say` is a text
    with placeholders such as `{{ name }}`, and `template` is an 8x8 body with such placeholders, or the path of its
    file; the library fills them in for each row, Airflow does not render them. Without `say`, `template` and `ivr`,
    each row is itself a body. `campaign` is a TOML file of such fields, as the command takes it; arguments go before
    it. What neither says comes from the connection and the settings.

    A row is identified by its own `unique_key`, or else by its number and its place among the rows with that number.
    What a first try has stored stands: a later try adds the calls of new rows, and changes and cancels nothing. One bad
    row prevents all calls, unless `skip_bad` is set.

    `not_before`, `valid_until`, `again`, `once_per`, `window`, `days`, `holidays`, `window_time_zone`, `send`,
    `wait_for`, `deferrable`, `wait_timeout`, `doubt_timeout` and `cancel_on_kill` work as in `VoiceCallOperator`. The
    task fails if more than `fail_ratio` of the calls have outcomes in `fail_on`, or are in doubt for longer than
    `doubt_timeout`.

    The result is the report of the batch, as `voiceflow report --json` prints it, with the counts of rows. The
    link *Calls of the batch* leads to the page of the batch.
    """

    operator_extra_links = (VoiceBatchLink(),)

    template_fields: Sequence[str] = (
        "rows",
        "file",
        "sql",
        "parameters",
        "conn_id",
        "campaign",
        "source",
        "voice_profile",
        "batch",
        "valid_until",
        "not_before",
        "time_zone",
        "window_time_zone",
        "voiceflow_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012 (Airflow declares it so)

    number_column: str | Sequence[str] | None

    @taking(Of.CAMPAIGN, without=("again", "rejects", "prices", "rate", "assume_seconds"))
    def __init__(
        self,
        *,
        sql: str | None = None,
        conn_id: str | None = None,
        parameters: Any = None,
        fail_ratio: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(fail_ratio=fail_ratio, **kwargs)
        self.sql = sql
        self.conn_id = conn_id
        self.parameters = parameters

    @property
    def rows(self) -> Any:
        """The rows as they were given; once Airflow has rendered them, they are hidden from its pages."""
        return self._rows

    @rows.setter
    def rows(self, rows: Any) -> None:
        # The first value is that of the DAG file, which may have templates. Airflow sets the rendered value after it.
        is_rendered = "_rows" in self.__dict__ and hasattr(rows, "__len__") and not isinstance(rows, HiddenRows)
        self._rows = HiddenRows(rows, number_column=self.number_column) if is_rendered else rows

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
            self._refuse_late(event)
            run(calls.look)
            if not run(calls.send).has_ended:
                self._wait(context, str(calls.calls.batch_id), event["rows"])
            return self._done(str(calls.calls.batch_id), event["rows"])

    def _rendered(self, context: Context) -> Iterator[tuple[str, object]]:
        yield from super()._rendered(context)
        if getattr(context.get("dag"), "render_template_as_native_obj", False):
            given = self.number_column
            named = number_columns(given) if given is None or isinstance(given, str) else given
            read = {row_name(name) for name in (*named, "source")}
            rows = cast("object", self.rows)
            for place, row in enumerate(cast("Iterable[object]", rows) if isinstance(rows, Iterable) else ()):
                for column, value in cast("Mapping[object, object]", row).items() if isinstance(row, Mapping) else ():
                    if row_name(str(column)) in read:
                        yield f"rows[{place}].{column}", value

    def _calls(self, context: Context) -> TaskCalls:
        identity = TaskIdentity.of(context)
        batch_id = self.batch or identity.batch_id()
        self._cancelling = f"batch {batch_id}", partial(_cancel, identity=identity, batch_id=batch_id)
        waited = WaitedCalls(self._options, batch_id=batch_id)
        return self._task_calls(context, waited, every=self.poll_interval)

    def _enqueue(self, context: Context, batch_id: str) -> EnqueuedRows:
        return self._enqueued(
            context,
            lambda: partial(enqueue_campaign, campaign=self._campaign(batch_id), again=self.again),
            lambda counts: None if counts == NOBODY else {"batch_id": batch_id},
        )

    def _campaign(self, batch_id: str) -> Campaign:
        """Return the campaign with its people. Raises InvalidInputError and CampaignFileError."""
        from voiceflow_worker import Campaign

        if (self.sql is None) != (self.conn_id is None):
            raise InvalidInputError("sql and conn_id go together: a query, and the connection of its database")
        rows = self.rows.rows if isinstance(self.rows, HiddenRows) else self.rows
        until, now = self._latest(), datetime.now(UTC)
        is_late = until is not None and until <= now
        campaign = Campaign.of(
            {
                **self._said(),
                "rows": [] if rows is None and self.sql is not None else rows,
                "batch": batch_id,
                "valid_until": None if is_late else until,  # a late task shows the calls that it made in time
            },
            settings=self.hook.settings(),
        )
        if (rows is None) + (self.sql is None) + (campaign.file is None) != 2:
            raise InvalidInputError("give the operator the people as one of rows=…, file=… and sql=… (with conn_id=…)")
        if self.sql is not None:
            rows = rows_of_query(self.sql, conn_id=str(self.conn_id), parameters=self.parameters)
            campaign = replace(campaign, rows=rows)
        return replace(campaign, options=replace(campaign.options, valid_until=until)) if is_late else campaign

    def _wait(self, context: Context, batch_id: str, rows: Mapping[str, Any]) -> None:
        self._defer(
            batch_id=batch_id,
            every=self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
            owner=TaskIdentity.of(context).as_json(),
            rows=dict(rows),
        )

    def _done(self, batch_id: str, rows: Mapping[str, Any]) -> Any:
        report, doubts, cancelled, bad = run(partial(self._report, batch_id))
        self.log.info("%s", report)
        if self._options.goal is not Goal.NOTHING:
            store = self.hook.store_url()
            requested = report.total - cancelled
            if bad and bad > requested * self.fail_ratio:
                raise AirflowFailException(
                    f"batch {batch_id}: {bad} of {requested} calls ended as {', '.join(self.fail_on)}, more than the "
                    f"{self.fail_ratio:.0%} that fail_ratio allows. `voiceflow calls list --batch {batch_id} --store "
                    f"{store}` lists the calls of the batch"
                )
            more = f" (Calls in doubt in batch {batch_id}: {len(doubts)}. This is the first.)"
            if doubts and bad + len(doubts) > requested * self.fail_ratio:
                raise AirflowException(doubt(doubts[0], store=store) + more)
            if doubts:
                self.log.warning("%s", doubt(doubts[0], store=store) + more)
        return {**report.as_json(), "rows": rows}

    async def _report(self, batch_id: str) -> tuple[Report, Sequence[Job], int, int]:
        """Return the report of the batch, its calls in doubt, and how many tasks cancelled and `fail_on` names."""
        async with self.hook.opened_queue() as queue:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
            report = await queue.report(batch_id)
            cancelled = await count_cancelled(queue, batch_id) if report.states.get(JobState.CANCELLED) else 0
            return report, doubts, cancelled, await _count(queue, report, self.fail_on)


async def _cancel(queue: CallQueue, *, identity: TaskIdentity, batch_id: str) -> int:
    """Cancel the unsent calls of a task instance, in this batch and in the batches of earlier tries."""
    return await cancel_unsent(queue, {batch_id, *await recorded_batches(queue, identity)}, identity)


async def _count(queue: CallQueue, report: Report, fail_on: Iterable[str]) -> int:
    """Count the calls that ended in one of these states or session statuses. A call in both counts once."""
    names = {name.casefold() for name in fail_on}
    states = {state for state in report.states if state.value in names}
    others = [state for state, count in report.states.items() if count and state.is_final and state not in states]
    outcomes = [name for name in report.outcomes if name.casefold() in names]
    found = await queue.find(states=others, batch_id=report.batch_id, outcomes=outcomes, limit=None) if outcomes else ()
    return sum(report.states[state] for state in states) + len(found)
