"""The operators: one phone call, and the calls of a list of people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from airflow.sdk import BaseHook, BaseOperator, Context, conf
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralTimeout
from anyio import to_thread

from airflow_provider.calls import tasks
from airflow_provider.calls.waiting import WaitedCalls, WaitStatus, wait_until
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import CallFlow, CallQueue, Campaign, InvalidInputError, JobState, call_as_json
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import KeyConflictError
from voiceflow_worker.ivr.menu_data import ask, written_menus
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.service.named_call import read_call

STOP_SECONDS = 3.0
"""Seconds that the stop of a running task may take: Airflow ends the process 5 s after its signal."""

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
    field_names: tuple[str, ...] = ()
    answers: Iterable[str] | None = None
    """Answers that the calls may have; None if they are not known."""
    hook: VoiceFlowHook
    _task: tasks.TaskKey
    _calls: WaitedCalls
    _started_at: datetime
    _is_late: bool
    _hold: tasks.TaskHold | None = None
    _is_stopped = False

    def __init__(
        self,
        *,
        key: str = tasks.DEFAULT_KEY,
        send: str = "here",
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        max_lateness: timedelta | None = timedelta(hours=24),
        poll_interval: float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if send not in {"here", "worker"} or wait_for not in {"outcome", None}:
            raise ValueError(f"send={send!r} is 'here' or 'worker', and wait_for={wait_for!r} 'outcome' or None")
        self.key = key
        self._is_named = key != tasks.DEFAULT_KEY
        self.send = send
        self.wait_for = wait_for
        self.fail_on = tasks.checked_fail_on(fail_on, answers=self.answers)
        self.max_lateness = max_lateness
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.voiceflow_conn_id = voiceflow_conn_id

    def execute(self, context: Context) -> Any:
        """Enqueue the calls that no earlier try has enqueued, then send and wait."""
        with tasks.as_airflow_errors(f"task {self.task_id}"):
            self._begin(context)
            self.hook.require_lasting_store()
            self._calls = self._with_queue(self._enqueue)
            if self._is_stopped:  # perhaps before there were calls to hold
                self.on_kill()
            return self._end_late() if self._is_late else self._go_on()

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger has fired: send what is due, and tasks.judge the calls or wait again."""
        with tasks.as_airflow_errors(f"task {self.task_id}"):
            self._begin(context)
            self._calls = WaitedCalls(**event)
            return self._go_on()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on as Airflow does, but hold the batch if the `execution_timeout` has passed in the triggerer."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            self._begin(context)
            self.on_kill()
            raise

    def on_kill(self) -> None:
        """Hold the task's own batch. Calls in flight are finished."""
        self._is_stopped = True
        if self._hold is None:
            return self.log.info("the task was stopped. Its calls go on: a person gave the key of their batch")
        try:
            # In a thread, because a signal may have interrupted a running event loop.
            ThreadPoolExecutor(1).submit(self._with_queue, self._hold.order).result(STOP_SECONDS)
        except Exception:
            self.log.exception("the task was stopped, but batch %s could not be held", self._hold.batch_id)

    def _begin(self, context: Context) -> None:
        """Read the connection, and take from the context the task's key, its start, and whether its run is late."""
        self.hook, ti, most = VoiceFlowHook(self.voiceflow_conn_id), context["ti"], self.max_lateness
        self.hook.settings()
        task = self._task = tasks.TaskKey.of(context, key=self.key if self._is_named else None)
        late_at = None if most is None else context["dag_run"].run_after + most
        self._is_late, self._started_at = late_at is not None and datetime.now(UTC) >= late_at, ti.start_date
        if not self._is_named:
            late = None if late_at is None else late_at.isoformat()
            self._hold = tasks.TaskHold(batch_id=task.batch_id, task=task.task, try_number=ti.try_number, late_at=late)

    def _with_queue(self, act: Act) -> Any:
        async def acted() -> Any:
            return await act(await self.hook.get_queue())

        return asyncio.run(acted())

    def _given(self, **more: Any) -> dict[str, Any]:
        """Return these fields and those that were given, by name. The connection completes an empty one."""
        given = {**{name: getattr(self, name) for name in self.field_names}, **more}
        return {name: value for name, value in given.items() if value is not None and value != ""}

    def _wait(self, is_done: Callable[[WaitStatus], bool], *, sends: bool) -> WaitStatus:
        waiting = wait_until(
            is_done, self._calls, self.hook, every=self.poll_interval, hold=self._hold, sends=sends,
            is_stopped=lambda: self._is_stopped,
        )  # fmt: skip
        return asyncio.run(waiting)

    def _go_on(self) -> Any:
        """Send and wait here; or send here what is due, and wait in the triggerer. Return the result."""
        waits_here, sends = not self.deferrable and self.wait_for is not None, self.send == "here"
        status = self._wait(lambda each: each.is_over or not (waits_here or (sends and each.has_work)), sends=sends)
        if not status.is_over and self.wait_for is not None:
            limit = self.execution_timeout
            self.defer(
                trigger=VoiceOutcomeTrigger(
                    self._calls, self.voiceflow_conn_id, sends=sends, every=self.poll_interval, hold=self._hold
                ),
                method_name="execute_complete",
                timeout=None if limit is None else self._started_at + limit - datetime.now(UTC),
            )
        return self._with_queue(self._result)

    def _end_late(self) -> Any:
        """Wait for what is on its way, and say that the run is late, unless all of its calls have ended."""
        if self._wait(lambda each: each.is_over or not each.is_on_its_way, sends=False).is_over:
            return self._with_queue(self._result)
        raise self._lateness()

    def _lateness(self) -> AirflowFailException:
        return AirflowFailException(
            f"{self._task.task} is later after its run_after than max_lateness, {self.max_lateness}, allows. Nobody is "
            "called for a run that is so late, such as one of a backfill. If it is still wanted, set a longer "
            "max_lateness, or None, and clear this task"
        )

    async def _enqueue(self, queue: CallQueue) -> WaitedCalls:
        """Enqueue the calls that are missing, unless the run is late, and return all calls."""
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

    ivr: Any
    keys: Any
    menu: str | None

    @tasks.with_fields(Of.CALL, without=("to", "flow", "batch"))
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

    async def _enqueue(self, queue: CallQueue) -> WaitedCalls:
        settings = self.hook.settings()
        voice = self._given().get("voice_profile") or settings.voice_profile
        menu = None if self.ask is None else ask(self.ask, self.keys, voice_profile=voice)
        flow = self.flow.to_body() if isinstance(self.flow, CallFlow) else self.flow
        call = read_call(
            self._given(to=self.destination, flow=flow, ivr=menu or self.ivr, batch=self._task.batch_id),
            key="-",
            settings=settings,
            now=queue.store.clock.now(),
            named=lambda name: "destination" if name == "to" else name,
        )
        called = f"number {phone_identity(call.destination)}" if self.unique_key is None else f"key {self.unique_key}"
        call = call._replace(unique_key=self._task.call_key(called))
        jobs = await queue.find(unique_key=call.unique_key)
        if not jobs and self._is_late:
            raise self._lateness()
        if not jobs:
            if menu is not None:
                await written_menus(queue.store).put({menu.name: menu})
            with suppress(KeyConflictError):  # another instance was quicker, with another text
                await queue.enqueue_many([call])
            jobs = await queue.find(unique_key=call.unique_key)
        if jobs[0].digest != call.digest:
            self.log.warning("call %s was made with another text, which it keeps", jobs[0].id)
        return WaitedCalls(job_ids=[jobs[0].id])

    async def _result(self, queue: CallQueue) -> Any:
        job = await queue.get(self._calls.job_ids[0])
        self.log.info("%s", tasks.described(job))
        if self.wait_for is not None:
            tasks.judge([job], fail_on=self.fail_on, store=queue.store.url)
        return call_as_json(job)


def rows_of_query(sql: str, conn_id: str, parameters: object) -> list[Mapping[str, Any]]:
    """Return the rows that a query of the database of a connection finds. They are fetched in chunks.

    Raises InvalidInputError if the statement gives no rows with names, and the errors of Airflow and the database.
    """
    rows: list[Mapping[str, Any]] = []

    def fetch(cursor: Any) -> None:
        names = [str(column[0]) for column in cursor.description or ()]
        if not names or len(names) > len({*names}):
            raise InvalidInputError("sql gives no rows, or two columns of one name. Give one SELECT")
        while part := cursor.fetchmany(1000):
            rows.extend(
                cast("Any", row) if isinstance(row, Mapping) else dict(zip(names, row, strict=True)) for row in part
            )

    hook: Any = BaseHook.get_hook(conn_id)
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

    file: Any
    rows: Any

    @tasks.with_fields(Of.CAMPAIGN, without=("again", "rejects", "batch"))
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
        fields = self._given(rows=rows, batch=self._task.batch_id, again="elsewhere")  # as an earlier run may have
        campaign = Campaign.of(fields, settings=self.hook.settings())
        keeps = not (campaign.replace or campaign.remove_missing)
        return replace(campaign, only_new=keeps)

    async def _enqueue(self, queue: CallQueue) -> WaitedCalls:
        """Start the campaign, or go on with a killed import of this list. After a minute another takes it over."""
        if self._is_late:
            return WaitedCalls(batch_id=self._task.batch_id)
        from voiceflow_worker.types import Actor  # not when DAGs are parsed

        # In a thread, because a query takes its time, and Airflow's connections must not be read on an event loop.
        campaign = await to_thread.run_sync(self._campaign)
        report = await campaign.start(queue, by=Actor(on="Airflow", login=self._task.task))
        for found in report.findings:
            self.log.log(logging.ERROR if found.is_error else logging.WARNING, "%s", found)
        self.log.info("batch %s: %s new calls of %s rows", report.batch_id, report.enqueued, report.rows)
        return WaitedCalls(batch_id=report.batch_id)

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
            tasks.judge(doubts, fail_on=(), store=store)
        return report.as_json()
