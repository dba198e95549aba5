"""The operators: one phone call, and the calls of a list of people."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseHook, BaseOperator, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from anyio import to_thread

from airflow_provider.calls.arguments import with_fields
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on, described, judge, refuse_event
from airflow_provider.calls.keys import DEFAULT_KEY, TaskHold, TaskKey
from airflow_provider.calls.waiting import Wait, WaitedCalls, WaitStatus, run_in_thread
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import CallFlow, CallQueue, Campaign, InvalidInputError, JobState, call_as_json
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import KeyConflictError
from voiceflow_worker.ivr.menu_data import ask, written_menus
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.service.named_call import read_call

if TYPE_CHECKING:
    from airflow.sdk import Context

    from voiceflow_worker.core.admission import CheckedCall
    from voiceflow_worker.ivr.menu import Menu

STOP_SECONDS = 3.0
"""Seconds that the stop of a running task may take: Airflow ends the process 5 s after its signal."""
CHUNK = 1000
"""Rows that are fetched from a database together."""

Act = Callable[[CallQueue], Coroutine[Any, Any, Any]]


class CallTask(BaseOperator):
    """A task that makes calls in a batch of its own, may send them, waits for them, and fails by their ends.

    A retry and a clear find the batch by its `key`, and add no call. A stop holds the batch of the default key, and the
    next try opens that hold; no task holds the batch of another key. A run that is older than `max_lateness`, counted
    from its `run_after`, makes no calls.
    """

    template_fields: Sequence[str] = (
        "key", "source", "voice_profile", "valid_until", "not_before", "time_zone", "window_time_zone",
        "voiceflow_conn_id",
    )  # fmt: skip
    ui_color = "#e8f3ee"
    field_names: tuple[str, ...] = ()
    answers: Iterable[str] | None = None
    """Answers that the calls may have; None if they are not known."""
    _task: TaskKey
    _calls: WaitedCalls
    _hold: TaskHold | None = None
    _is_stopped = False

    def __init__(
        self,
        *,
        key: str = DEFAULT_KEY,
        send: str = "here",
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        max_lateness: timedelta | None = timedelta(hours=24),
        wait_timeout: timedelta = timedelta(hours=24),
        doubt_timeout: timedelta = timedelta(minutes=15),
        poll_interval: float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if send not in {"here", "worker"} or wait_for not in {"outcome", "accepted", None}:
            raise ValueError(
                f"send={send!r} is 'here' or 'worker', and wait_for={wait_for!r} 'outcome', 'accepted' or None"
            )
        self.key = key
        self._is_named = key != DEFAULT_KEY
        self.send = send
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on, answers=self.answers)
        self.max_lateness = max_lateness
        self.wait_timeout = wait_timeout
        self.doubt_timeout = doubt_timeout
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.voiceflow_conn_id = voiceflow_conn_id
        self._ends: Mapping[str, str] = {}

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """Hook for the connection of this task."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    def execute(self, context: Context) -> Any:
        """Enqueue the calls that no earlier try has enqueued, then send and wait."""
        late_at, now = self._begin(context), datetime.now(UTC)
        lasts = {"late": self.wait_timeout, "timeout": self.execution_timeout}
        self._ends = {name: (now + each).isoformat() for name, each in lasts.items() if each is not None}
        with as_airflow_errors(self._task.task):
            self.hook.require_lasting_store()
            if self.send == "here":
                self.hook.get_conn()
            is_late = late_at is not None and now >= late_at
            self._hold = None if is_late else self._hold  # which a late try neither opens nor orders
            self._calls = self._with_queue(partial(self._enqueue, is_late=is_late))
            if self._is_stopped:  # perhaps before there were calls to hold
                self.on_kill()
            return self._end_late(late_at) if is_late else self._go_on()

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger has fired: send what is due, and judge the calls or wait again."""
        self._begin(context)
        self._ends, self._calls = event["ends"], self._waited(**event["calls"])
        refuse_event(event, subject=self._calls, late=AirflowException)
        with as_airflow_errors(self._task.task):
            return self._go_on()

    def on_kill(self) -> None:
        """Hold the task's own batch. Calls in flight are finished."""
        self._is_stopped, hold = True, self._hold
        if hold is None:
            return self.log.info("the task was stopped. Its calls go on: a person gave the key of their batch")
        limit = None if isinstance(sys.exc_info()[1], AirflowTaskTimeout) else STOP_SECONDS
        try:
            run_in_thread(lambda: self._within_queue(hold.order), seconds=limit)
        except Exception:
            self.log.exception("the task was stopped, but batch %s could not be held", hold.batch_id)

    def _begin(self, context: Context) -> datetime | None:
        """Take the task's key from the context, and return from when on the run is late."""
        task = self._task = TaskKey.of(context, key=self.key if self._is_named else None)
        after: datetime = context["dag_run"].run_after
        late_at = None if self.max_lateness is None else after + self.max_lateness
        if not self._is_named:
            late, tried = None if late_at is None else late_at.isoformat(), context["ti"].try_number
            self._hold = TaskHold(batch_id=task.batch_id, task=task.task, try_number=tried, late_at=late)
        return late_at

    def _with_queue(self, act: Act) -> Any:
        self.hook.settings()  # reads the connection, which must not block the event loop
        return asyncio.run(self._within_queue(act))

    async def _within_queue(self, act: Act) -> Any:
        async with self.hook.opened_queue() as queue:
            return await act(queue)

    def _given(self, **more: Any) -> dict[str, Any]:
        """Return these fields and those that were given, by name. The connection completes an empty one."""
        given = {**{name: getattr(self, name) for name in self.field_names}, **more}
        return {name: value for name, value in given.items() if value is not None and value != ""}

    def _waited(self, **calls: Any) -> WaitedCalls:
        return WaitedCalls(wait_for=self.wait_for, doubt_timeout=self.doubt_timeout.total_seconds(), **calls)

    def _wait(self, is_done: Callable[[WaitStatus], str | None], *, sends: bool) -> str:
        self.hook.settings()
        wait = Wait(
            hook=self.hook, calls=self._calls, every=self.poll_interval, ends=self._ends, hold=self._hold, sends=sends,
            is_stopped=lambda: self._is_stopped,
        )  # fmt: skip
        how = asyncio.run(wait.until(is_done))
        refuse_event({"status": how}, subject=self._calls, late=AirflowException)
        return how

    def _go_on(self) -> Any:
        """Send and wait here; or send here what is due, and wait in the triggerer. Return the result."""
        waits_here, sends = not self.deferrable and self.wait_for is not None, self.send == "here"

        def is_done(status: WaitStatus) -> str | None:
            is_left = not waits_here and not (sends and status.has_work)
            return "over" if status.is_over else "left" if is_left else None

        if self._wait(is_done, sends=sends) == "left" and self.wait_for is not None:
            trigger = VoiceOutcomeTrigger(
                self._calls, self._ends, self.voiceflow_conn_id, sends=sends, every=self.poll_interval, hold=self._hold
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        return self._with_queue(self._result)

    def _end_late(self, late_at: datetime | None) -> Any:
        """Wait for what is on its way, and say that the run is late, unless all of its calls have ended."""
        how = self._wait(lambda each: None if each.is_on_its_way else "over" if each.is_over else "left", sends=False)
        if how == "over" and self._calls != self._waited():  # there are some
            return self._with_queue(self._result)
        raise AirflowFailException(
            f"{self._task.task} was wanted until {late_at:%Y-%m-%d %H:%M:%S} UTC (max_lateness {self.max_lateness} "
            "after run_after). Nobody is called for a run that is so late, such as one of a backfill. If it is still "
            "wanted, set a longer max_lateness, or None, and clear this task"
        )

    async def _enqueue(self, queue: CallQueue, *, is_late: bool) -> WaitedCalls:
        """Enqueue the calls that are missing, unless it `is_late`, and return all calls."""
        raise NotImplementedError

    async def _result(self, queue: CallQueue) -> Any:
        """Judge the calls, and return the result of the task."""
        raise NotImplementedError


class VoiceCallOperator(CallTask):
    """An operator that calls one number.

    Give `destination`, and one of `say` (a text), `flow` (an 8x8 body or a `CallFlow`), `ivr` (a menu) and `ask` (a
    question, with `keys` from keys to answers: `{"1": "approved"}`). A number, or a `unique_key` if there is one, is
    called once for each key of the task, in all instances of a mapped task together. The result is the call as JSON, as
    `voiceflow calls show --json` prints it.
    """

    template_fields: Sequence[str] = (
        *CallTask.template_fields, "destination", "unique_key", "country", "say", "flow", "ask", "keys", "data",
    )  # fmt: skip
    template_fields_renderers = {"flow": "json", "data": "json", "keys": "json"}  # noqa: RUF012 (Airflow declares it so)

    ivr: Any
    keys: Any
    menu: str | None

    @with_fields(Of.CALL, without=("to", "flow", "batch"))
    def __init__(
        self,
        *,
        destination: str | None = None,
        unique_key: str | None = None,
        flow: Any = None,
        ask: str | None = None,
        keys: Mapping[str, str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        if (ask is None) != (keys is None):
            raise ValueError('ask and keys go together: ask="Send them?", keys={"1": "approved", "2": "rejected"}')
        if [self.ivr, self.menu] == [None, None]:
            self.answers = keys.values() if isinstance(keys, Mapping) else () if keys is None else None
        super().__init__(**kwargs)
        self.destination = destination
        self.unique_key = unique_key
        self.flow = flow
        self.ask = ask
        self.keys = keys

    def _read(self, queue: CallQueue, menu: Menu | None) -> CheckedCall:
        """Return the call that this task asks for, under its unique key. Raises InvalidInputError."""
        flow = self.flow.to_body() if isinstance(self.flow, CallFlow) else self.flow
        call = read_call(
            self._given(to=self.destination, flow=flow, ivr=menu or self.ivr, batch=self._task.batch_id),
            key="-",
            settings=self.hook.settings(),
            now=queue.store.clock.now(),
            named=lambda name: "destination" if name == "to" else name,
        )
        called = f"number {phone_identity(call.destination)}" if self.unique_key is None else f"key {self.unique_key}"
        return call._replace(unique_key=self._task.call_key(called))

    async def _enqueue(self, queue: CallQueue, *, is_late: bool) -> WaitedCalls:
        voice = self._given().get("voice_profile") or self.hook.settings().voice_profile
        menu = None if self.ask is None else ask(self.ask, self.keys, voice_profile=voice)
        call = self._read(queue, menu)
        jobs = await queue.find(unique_key=call.unique_key)
        if not jobs and is_late:
            return self._waited()
        if not jobs:
            if menu is not None:
                await written_menus(queue.store).put({menu.name: menu})
            with suppress(KeyConflictError):  # another instance was quicker, with another text
                await queue.enqueue_many([call])
            jobs = await queue.find(unique_key=call.unique_key)
        if jobs[0].digest != call.digest:
            self.log.warning("call %s was made with another text, which it keeps", jobs[0].id)
        return self._waited(job_ids=[jobs[0].id])

    async def _result(self, queue: CallQueue) -> Any:
        job = await queue.get(self._calls.job_ids[0])
        self.log.info("%s", described(job))
        if self.wait_for is not None:
            judge([job], fail_on=self.fail_on, store=queue.store.url)
        return call_as_json(job)


def rows_of_query(sql: str, conn_id: str, parameters: object) -> list[Mapping[str, Any]]:
    """Return the rows that a query of the database of a connection finds. They are fetched in chunks.

    Raises InvalidInputError if the statement gives no rows with names, and the errors of Airflow and the database.
    """
    rows: list[Mapping[str, Any]] = []

    def fetch(cursor: Any) -> None:
        names = [str(column[0]) for column in cursor.description or ()]
        if not names or len(names) > len({*names}):
            twice = ", ".join(name for name, count in Counter(names).items() if count > 1)
            raise InvalidInputError(
                f"sql has {f'several columns named {twice}' if twice else 'no rows'}: give one SELECT"
            )
        while part := cursor.fetchmany(CHUNK):
            rows.extend(
                dict(cast("Mapping[str, object]", row))
                if isinstance(row, Mapping)
                else dict(zip(names, row, strict=True))
                for row in part
            )

    hook: Any = BaseHook.get_hook(conn_id)
    if not hasattr(hook, "get_records"):
        raise InvalidInputError(f"connection {conn_id} is no database that sql can query: its hook is {hook!r}")
    # The handler returns nothing, because some hooks convert what a handler returns.
    hook.run(sql, parameters=parameters, handler=fetch)
    return rows


class VoiceCampaignOperator(CallTask):
    """An operator that calls a list of people.

    They come from one of `file`, `rows` (a list of mappings, such as the output of another task), and `sql` (a query
    with `parameters` for the database of the connection `conn_id`, whose rows Airflow does not store). The other
    arguments are fields of a campaign, which go before those of the file `campaign`. Airflow does not render `say` and
    `template`: they have the columns of each row. A `window` is needed, such as "09:00-20:00" or "any", or the setting.

    A row is the call of its `unique_key`, or else of its number, in the batch of the task. A later try adds the calls
    of new rows. The task fails without a retry if more than `fail_ratio` of the calls ended in `fail_on`. The result is
    the report of the batch, as `voiceflow report --json` prints it.
    """

    template_fields: Sequence[str] = (
        *CallTask.template_fields, "rows", "file", "sql", "parameters", "conn_id", "campaign",
    )  # fmt: skip
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012 (Airflow declares it so)

    file: Any
    rows: Any

    @with_fields(Of.CAMPAIGN, without=("again", "rejects", "batch"))
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

    def _campaign(self) -> Campaign:
        """Return the campaign, with the rows of a query. Raises InvalidInputError."""
        if [self.rows, self.sql, self.file].count(None) != 2 or (self.sql is None) != (self.conn_id is None):
            raise InvalidInputError("give the operator the people as one of rows=…, file=…, and sql=… with conn_id=…")
        rows = self.rows if self.sql is None else rows_of_query(self.sql, str(self.conn_id), self.parameters)
        campaign = Campaign.of(self._given(rows=rows, batch=self._task.batch_id), settings=self.hook.settings())
        keeps = not (campaign.replace or campaign.remove_missing)
        return replace(campaign, options=replace(campaign.options, keys_in_batch=True), only_new=keeps)

    async def _enqueue(self, queue: CallQueue, *, is_late: bool) -> WaitedCalls:
        """Start the campaign, and go on with an import of an earlier try that was killed."""
        if is_late:
            return self._waited(batch_id=self._task.batch_id)
        from voiceflow_worker.types import Actor, RowsRefusedError  # not when DAGs are parsed

        # In a thread, because a query takes its time, and Airflow's connections must not be read on an event loop.
        campaign, by = await to_thread.run_sync(self._campaign), Actor(on="Airflow", login=self._task.task)
        try:
            report = await campaign.start(queue, by=by)
        except RowsRefusedError as error:
            if not any(found.told.kind == "import_cut" for found in error.findings):
                raise
            # This list is a newer one, and nobody was called for what the earlier one has stored of its rows.
            await queue.discard_staged(campaign.batch_id, reason="a later try of its Airflow task has another list")
            report = await campaign.start(queue, by=by)
        for found in report.findings:
            self.log.log(logging.ERROR if found.is_error else logging.WARNING, "%s", found)
        self.log.info("batch %s: %s new calls of %s rows", report.batch_id, report.enqueued, report.rows)
        return self._waited(batch_id=campaign.batch_id)

    async def _result(self, queue: CallQueue) -> Any:
        batch_id, store = self._task.batch_id, queue.store.url
        report = await queue.report(batch_id)
        self.log.info("%s", report)
        ends = [*((state.value, count) for state, count in report.states.items()), *report.answers.items()]
        bad, most = sum(count for end, count in ends if end in self.fail_on), report.total * self.fail_ratio
        if self.wait_for is not None and bad > most:
            raise AirflowFailException(
                f"batch {batch_id}: {bad} of {report.total} calls ended as {', '.join(self.fail_on)}, more than the "
                f"{self.fail_ratio:.0%} of fail_ratio. See `voiceflow calls list --batch {batch_id} --store {store}`"
            )
        doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
        if self.wait_for is not None and bad + len(doubts) > most:
            judge(doubts, fail_on=(), store=store)
        return report.as_json()
