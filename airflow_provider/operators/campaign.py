"""The operator that calls a list of people."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider.calls.arguments import taking
from airflow_provider.calls.enqueueing import enqueue_campaign
from airflow_provider.calls.failures import doubt
from airflow_provider.calls.made_calls import calls_of_batch, was_cancelled_by_task
from airflow_provider.calls.waiting import Goal, WaitStatus, run
from airflow_provider.operators.voice_task import CallingTask
from voiceflow_worker import CallQueue, InvalidInputError, JobState
from voiceflow_worker.campaigns.files.rows import NO_ROLES, ColumnRoles, row_name
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Context

    from voiceflow_worker.types import Report


log = logging.getLogger(__name__)

DESTINATION = "destination"
CHUNK = 1000
"""The number of rows that are fetched from a database together."""


class HiddenRows:
    """Rendered rows. Airflow stores and shows what `serialize` returns: their number and the first phone number.

    `column` is that of the numbers.
    """

    def __init__(self, rows: Any, *, column: str = DESTINATION) -> None:
        self.rows = rows
        self._column = column

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def serialize(self) -> str:
        """Return the text for Airflow's page *Rendered Templates*."""
        given: object = self.rows
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            return f"({type(given).__name__}, not shown)"
        rows = cast("Sequence[object]", given)
        first = cast("Mapping[str, object]", rows[0]).get(self._column) if rows and _is_row(rows[0]) else None
        return f"{len(rows)} rows{'' if first is None else f', the first to {first}'} (not shown)"

    __repr__ = __str__ = serialize


def _is_row(row: object) -> bool:
    return isinstance(row, Mapping)


def rows_of_query(sql: str, *, conn_id: str, parameters: object = None) -> list[Mapping[str, Any]]:
    """Return the rows that a query of a database finds. They are fetched in chunks, in this process.

    `conn_id` is a connection of Airflow with a hook of the common SQL provider. Raises InvalidInputError if there is no
    such hook, or the statement gives no rows with names; and the errors of the database.
    """
    rows: list[Mapping[str, Any]] = []

    def fetch(cursor: Any) -> None:
        if cursor.description is None:
            raise InvalidInputError("sql returns no rows: give one SELECT statement")
        names = [str(column[0]) for column in cursor.description]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise InvalidInputError(
                f"sql returns several columns named {', '.join(twice)}: give each a name of its own"
            )
        while part := cursor.fetchmany(CHUNK):
            rows.extend(dict(row) if _is_row(row) else dict(zip(names, row, strict=True)) for row in part)

    # The handler returns nothing, because some hooks convert what a handler returns.
    _sql_hook(conn_id).run(sql, parameters=parameters, handler=fetch)
    log.info("the query found %s rows", len(rows))
    return rows


def _sql_hook(conn_id: str) -> DbApiHook:
    try:
        from airflow.providers.common.sql.hooks import sql
    except ImportError as error:
        raise InvalidInputError(
            f"sql needs a package that is not installed ({error}). Install apache-airflow-providers-common-sql and the "
            "Airflow provider of the database, such as apache-airflow-providers-postgres, where tasks run"
        ) from None
    kind = BaseHook.get_connection(conn_id).conn_type
    try:
        hook = BaseHook.get_hook(conn_id)
    except (AirflowException, ImportError) as error:
        raise InvalidInputError(
            f"there is no hook for connection {conn_id} of type {kind!r} ({error}). Install its Airflow provider, such "
            f"as apache-airflow-providers-{kind}, where tasks run"
        ) from None
    if not isinstance(hook, sql.DbApiHook):
        raise InvalidInputError(f"connection {conn_id} is of type {kind!r}, which is no database that sql can query")
    return hook


class VoiceCampaignOperator(CallingTask):
    """An operator that calls a list of people, each row once per task instance.

    The people come from one of: `file` (a campaign file, such as a CSV with a header), `rows` (a list of mappings, such
    as the output of an upstream task), or `sql` (a query with `parameters` for the database of the connection
    `conn_id`; this task reads its rows, and Airflow stores none of them). Rows may have the columns of campaign files
    (`destination`, `source`, `not_before`, `priority`, …).

    All other fields of a campaign have the names and the meaning of the options of `voiceflow enqueue`. `say` is a text
    with placeholders such as `{{ name }}`, and `template` is an 8x8 body with such placeholders, or the path of its
    file; the library fills them in for each row, Airflow does not render them. Without `say`, `template` and `ivr`,
    each row is itself a body. `campaign` is a TOML file of such fields, as the command takes it; arguments go before
    it. What neither says comes from the connection and the settings. A `window` is needed, such as "09:00-20:00" or
    "any".

    A row is identified by its own `unique_key`, or else by its number and its words; if these have changed, by its
    place among the rows with that number. What a first try has stored stands: a later try adds the calls of new rows,
    and changes and cancels nothing. One bad row prevents all calls, unless `skip_bad` is set.

    `not_before`, `valid_until`, `again`, `once_per`, `window`, `days`, `holidays`, `window_time_zone`, `send`,
    `wait_for`, `deferrable`, `wait_timeout`, `doubt_timeout` and `cancel_on_kill` work as in `VoiceCallOperator`. The
    task fails if more than `fail_ratio` of the calls have outcomes in `fail_on`, or are in doubt for longer than
    `doubt_timeout`.

    The result is the report of the batch, as `voiceflow report --json` prints it, with the counts of rows.
    """

    template_fields: Sequence[str] = (
        *CallingTask.template_fields, "rows", "file", "sql", "parameters", "conn_id", "campaign", "batch",
    )  # fmt: skip
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012 (Airflow declares it so)

    columns: Any

    @taking(Of.CAMPAIGN, without=("again", "rejects"))
    def __init__(
        self,
        *,
        sql: str | None = None,
        conn_id: str | None = None,
        parameters: Any = None,
        fail_ratio: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fail_ratio = fail_ratio
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
        self._rows = HiddenRows(rows, column=self._numbers()[0]) if is_rendered else rows

    def _started(self, context: Context) -> Mapping[str, Any]:
        batch_id = self.batch or self._identity.batch_id()
        self._waited = replace(self._waited, batch_id=batch_id)  # a stop in the middle of what follows knows it
        rows, self._imports = self._enqueued(
            context,
            partial(self._order, batch_id),
            lambda found: {"batch_id": batch_id} if found[0]["enqueued"] else None,
        )
        self._go_on()
        return rows

    def _rendered(self, context: Context) -> Iterator[tuple[str, object]]:
        yield from super()._rendered(context)
        if getattr(context.get("dag"), "render_template_as_native_obj", False):
            read = {row_name(name) for name in (*self._numbers(), "source")}
            rows = cast("object", self.rows)
            for place, row in enumerate(cast("Iterable[object]", rows) if isinstance(rows, Iterable) else ()):
                for column, value in cast("Mapping[object, object]", row).items() if isinstance(row, Mapping) else ():
                    if row_name(str(column)) in read:
                        yield f"rows[{place}].{column}", value

    def _numbers(self) -> Sequence[str]:
        """The columns of the numbers to call. Columns that cannot be read are told when the campaign is."""
        try:
            return ColumnRoles.of(self.columns or {}).named_numbers
        except InvalidInputError:
            return NO_ROLES.named_numbers

    def _order(self, batch_id: str) -> Callable[..., Coroutine[Any, Any, tuple[dict[str, int], list[str]]]]:
        """Return what enqueues the campaign with its people. Raises InvalidInputError and CampaignFileError."""
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
                # A late task shows the calls that it made in time.
                "valid_until": None if is_late else until or self.valid_until,
            },
            settings=self.hook.settings(),
        )
        if campaign.options.batch_pattern is not None:
            raise InvalidInputError("batch has {date}: leave it out, because a task has a batch of its own in each run")
        if (rows is None) + (self.sql is None) + (campaign.file is None) != 2:
            raise InvalidInputError("give the operator the people as one of rows=…, file=… and sql=… (with conn_id=…)")
        if self.sql is not None:
            rows = rows_of_query(self.sql, conn_id=str(self.conn_id), parameters=self.parameters)
            campaign = replace(campaign, rows=rows)
        return partial(enqueue_campaign, campaign=campaign, again=self.again, late=until if is_late else None)

    def _lost(self, status: WaitStatus) -> bool:
        states = {state for state in (JobState.CANCELLED, JobState.UNREACHED) if status.states[state]}

        async def found() -> bool:
            async with self.hook.opened_queue() as queue:
                async for job in calls_of_batch(queue, str(self._waited.batch_id), states):
                    if self._identity.owns(job.data) and self._was_stopped(job):
                        return True
            return False

        return bool(states) and run(found)

    def _done(self, status: WaitStatus, rows: Mapping[str, Any] | None) -> Any:
        report, requested, ended, bad = run(self._report)
        batch_id, doubts = report.batch_id, status.doubts
        self.log.info("%s", report)
        if self._waited.goal is not Goal.NOTHING:
            store = self.hook.store_url()
            if bad and bad > requested * self.fail_ratio:
                raise AirflowFailException(
                    f"batch {batch_id}: {bad} of {requested} calls ended as {', '.join(ended)}, more than the "
                    f"{self.fail_ratio:.0%} that fail_ratio allows. `voiceflow calls list --batch {batch_id} --store "
                    f"{store}` lists the calls of the batch"
                )
            if doubts:
                more = f" (Calls in doubt in batch {batch_id}: {len(doubts)}. This is the first.)"
                said = doubt(doubts[0], store=store) + more
                if bad + len(doubts) > requested * self.fail_ratio:
                    raise AirflowException(said)
                self.log.warning("%s", said)
        return {**report.as_json(), "rows": rows}

    async def _report(self) -> tuple[Report, int, Sequence[str], int]:
        """Return the report of the batch, and the number of calls that were requested: tasks have not cancelled them.

        The ends that count as failed follow, and the number of calls with them. A call that was cancelled while this
        task waited for it, by a person, has failed.
        """
        began, by_tasks, lost, ends = self._ends.get("began"), 0, 0, self.fail_on
        async with self.hook.opened_queue() as queue:
            report = await queue.report(self._waited.batch_id)
            async for job in calls_of_batch(queue, str(report.batch_id), {JobState.CANCELLED}):
                if job.successor is not None or was_cancelled_by_task(job):
                    by_tasks += not job.is_moved  # which the report does not count
                elif began is not None and job.touched_at > began:
                    lost += 1
            bad = await _count(queue, report, self.fail_on)
        if lost and JobState.CANCELLED not in ends:
            bad, ends = bad + lost, (*ends, f"{JobState.CANCELLED} while this task waited")
        return report, report.total - by_tasks, ends, bad


async def _count(queue: CallQueue, report: Report, fail_on: Iterable[str]) -> int:
    """Count the calls that ended in one of these states or session statuses. A call in both counts once."""
    names = {name.casefold() for name in fail_on}
    states = {state for state in report.states if state.value in names}
    others = [state for state, count in report.states.items() if count and state.is_final and state not in states]
    outcomes = [name for name in report.outcomes if name.casefold() in names]
    found = await queue.find(states=others, batch_id=report.batch_id, outcomes=outcomes, limit=None) if outcomes else ()
    return sum(report.states[state] for state in states) + len(found)
