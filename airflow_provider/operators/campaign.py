"""The operator that calls a list of people: a file, rows, or the output of an upstream task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator, conf

from airflow_provider.calls.campaigns.rows import checked_rows, rows_of
from airflow_provider.calls.campaigns.task_campaign import TaskCampaign
from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.event_loop import run, run_in_thread
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on, doubt
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.store_check import require_lasting_store
from airflow_provider.calls.task_state import AirflowTaskState
from airflow_provider.calls.waiting.polling import StopFlag
from airflow_provider.calls.waiting.status import Goal, WaitOptions
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.links.voice import VoiceCallLink, store_link
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import InvalidInputError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import CampaignOptions, RedialPolicy, Report


class VoiceCampaignOperator(BaseOperator):
    """An operator that calls a list of people, each row once per task instance.

    `rows` (a list of mappings, such as the output of an upstream task) or `file` (a CSV with a header, or JSON lines).
    `say` is a text with `{{ column }}` in it, `flow` an 8x8 body with such placeholders, or its path; without either,
    each row is a body itself. The library fills these two for each row, not Airflow's templates. Rows may have the
    columns of campaign files (`destination`, `source`, `not_before`, `priority`, …). A row is identified by its own
    `unique_key`, else by its number (and its place among the rows with that number): a person whom an earlier try
    called is not called again, even with another text. A waiting call is replaced if its text was changed, and
    cancelled if its row was removed. A bad row keeps all rows out, unless `skip_bad`.

    `send`, `wait_for`, `deferrable`, `wait_timeout`, `doubt_patience`, `cancel_on_kill` as in `VoiceCallOperator`. The
    task fails if more than `fail_ratio` of the calls have outcomes in `fail_on`.

    The result is small: the batch id, counts of rows, states, outcomes and keys, and the answer rate.
    """

    template_fields: Sequence[str] = ("rows", "file", "source", "voice_profile", "batch_id", "voiceflow_conn_id")
    template_fields_renderers = {"rows": "json"}  # noqa: RUF012 (Airflow declares it so)
    operator_extra_links = (VoiceCallLink(),)
    ui_color = "#e8f3ee"

    def __init__(
        self,
        *,
        rows: Any = None,
        file: str | None = None,
        say: str | None = None,
        flow: Mapping[str, object] | str | None = None,
        voice_profile: str | None = None,
        source: str | None = None,
        country: str | None = None,
        batch_id: str | None = None,
        valid_for: timedelta | None = None,
        time_zone: str | None = None,
        priority: int = 0,
        redial: RedialPolicy | None = None,
        skip_bad: bool = False,
        send: str = "here",
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        fail_ratio: float = 0.5,
        wait_timeout: timedelta | None = timedelta(hours=24),
        doubt_patience: timedelta = timedelta(minutes=15),
        poll_interval: float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        cancel_on_kill: bool = True,
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.file = file
        self.say = say
        self.flow = flow
        self.voice_profile = voice_profile
        self.source = source
        self.country = country
        self.batch_id = batch_id
        self.valid_for = valid_for
        self.time_zone = time_zone
        self.call_priority = priority
        self.redial = redial
        self.skip_bad = skip_bad
        self.send = send
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        self.fail_ratio = fail_ratio
        self.wait_timeout = wait_timeout
        self.doubt_patience = doubt_patience
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.voiceflow_conn_id = voiceflow_conn_id
        self._options = WaitOptions.of(wait_for=wait_for, send=send, patience=doubt_patience)
        self._stop = StopFlag()
        self._identity: TaskIdentity | None = None

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """The connection."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    def execute(self, context: Context) -> Any:
        """Enqueue the rows that have no call yet, then send and wait."""
        identity = TaskIdentity.of(context)
        with as_airflow_errors(f"task {identity}"):
            campaign = self._campaign(identity)
            counts = self._enqueue(context, campaign)
            self.log.info(
                "batch %s: %s calls enqueued, %s existed before, %s bad rows left out",
                campaign.batch_id,
                *counts.values(),
            )
            if self._stop.is_set:  # while the rows were enqueued, and some could not be cancelled yet
                self.on_kill()
            self._stop.check()
            store_link(context, ui_url=self.hook.ui_url(), batch_id=campaign.batch_id, queue=self.hook.settings().queue)
            rows = {"rows": counts}
            if self._options.goal is not Goal.NOTHING and not self.deferrable:
                run(campaign.send_and_wait)
            elif not run(campaign.send).has_ended and self._options.goal is not Goal.NOTHING:
                self._defer(campaign, rows)
            return self._done(campaign, rows)

    def execute_complete(self, context: Context, event: Mapping[str, Any], told: Mapping[str, Any]) -> Any:
        """Look again after the trigger fired, send calls that are due, and defer again if the batch has not ended."""
        identity = TaskIdentity.of(context)
        with as_airflow_errors(f"task {identity}"):
            self.hook.settings()
            if event["status"] == "error":
                raise AirflowException(f"waiting for batch {event.get('batch_id')}: {event['error']}")
            campaign = self._campaign(identity)
            run(campaign.look)
            if not run(campaign.send).has_ended:
                self._defer(campaign, told)
            return self._done(campaign, told)

    def on_kill(self) -> None:
        """Cancel the unsent calls; calls in flight are finished."""
        self._stop.set()
        if self.cancel_on_kill and self._identity is not None:
            campaign = self._campaign(self._identity)
            try:
                run_in_thread(campaign.cancel, seconds=15)
            except Exception:
                self.log.exception("batch %s could not be cancelled; its calls may still be made", campaign.batch_id)

    def _campaign(self, identity: TaskIdentity) -> TaskCampaign:
        self._identity = identity
        return TaskCampaign(
            hook=self.hook,
            identity=identity,
            batch_id=self.batch_id or identity.batch_id(),
            options=self._options,
            every=self.poll_interval,
            limit=self.wait_timeout,
            stop=self._stop,
        )

    def _enqueue(self, context: Context, campaign: TaskCampaign) -> dict[str, int]:
        self.hook.settings()
        require_lasting_store(self.hook, executor=getattr(self, "executor", None))
        if self._options.sends:
            self.hook.get_client()
        if (self.rows is None) == (self.file is None):
            raise InvalidInputError("give the operator rows=… or file=…, one of them")
        rows = rows_of(Path(self.file)) if self.file is not None else checked_rows(self.rows)
        state = AirflowTaskState(context)
        enqueued = run(
            partial(
                campaign.enqueue,
                rows,
                self._campaign_options(campaign.batch_id),
                skip_bad=self.skip_bad,
                saved=state.load(),
                expansion=Expansion.of(context),
            )
        )
        if rows:
            state.save({"batch_id": campaign.batch_id, "store": self.hook.store_url()})
        return asdict(enqueued)

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
            priority=self.call_priority,
            redial=self.redial,
        )

    def _defer(self, campaign: TaskCampaign, rows: Mapping[str, Any]) -> None:
        self.defer(
            trigger=VoiceOutcomeTrigger(
                voiceflow_conn_id=self.voiceflow_conn_id,
                batch_id=campaign.batch_id,
                wait_for=self.wait_for or "accepted",
                sends=self._options.sends,
                doubt_patience=self.doubt_patience.total_seconds(),
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
                owner=campaign.identity.as_json(),
            ),
            method_name="execute_complete",
            kwargs={"told": dict(rows)},  # the name is stored with deferred tasks
            timeout=self.wait_timeout,
        )

    def _done(self, campaign: TaskCampaign, rows: Mapping[str, Any]) -> Any:
        report, doubts, cancelled = run(campaign.report)
        if self._options.goal is not Goal.NOTHING:
            batch, store = campaign.batch_id, self.hook.store_url()
            bad, requested = _count(report, self.fail_on), report.total - cancelled
            if bad and bad > requested * self.fail_ratio:
                raise AirflowFailException(
                    f"batch {batch}: {bad} of {requested} calls ended as {', '.join(self.fail_on)}, more than the "
                    f"{self.fail_ratio:.0%} that fail_ratio allows. `voiceflow calls list --batch {batch} --store "
                    f"{store}` lists them"
                )
            if doubts:
                more = f" ({len(doubts)} calls of batch {batch} are in doubt; this is the first)"
                raise AirflowException(doubt(doubts[0], store=store) + more)
        return {**report.as_json(), **rows}


def _count(report: Report, fail_on: Iterable[str]) -> int:
    """The number of calls that ended in one of these states or session statuses."""
    names = {name.casefold() for name in fail_on}
    states = {state.value: count for state, count in report.states.items()}
    # A COMPLETED call is in the state completed, a FAILED one in the state failed: it counts once.
    outcomes = {name.casefold(): count for name, count in report.outcomes.items()}
    counted = {name: count for name, count in outcomes.items() if name not in states}
    if "failed" in names:
        counted.pop("error", None)
    return sum(count for each in (states, counted) for name, count in each.items() if name in names)
