"""A campaign as a task: a file, a list of rows, or what an upstream task returned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator, conf

from airflow_provider.calls.campaign import CampaignErrand
from airflow_provider.calls.desk import require_lasting_store
from airflow_provider.calls.errand import terms
from airflow_provider.calls.expansion import Expansion
from airflow_provider.calls.failures import checked_fail_on, doubt, told_to_airflow
from airflow_provider.calls.handing_in_rows import HandedIn
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.rows import checked_rows, rows_of
from airflow_provider.calls.running import run, run_aside
from airflow_provider.calls.standing import Goal
from airflow_provider.calls.waiting import StopFlag
from airflow_provider.calls.witness import Witness
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.links.voice import VoiceCallLink, store_link
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import InvalidInputError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import CampaignOptions, RedialPolicy, Report


class VoiceCampaignOperator(BaseOperator):
    """Calls everybody of a list, each row once per task instance.

    `rows` (a list of mappings, such as the output of an upstream task) or `file` (a CSV with a header, or JSON lines).
    `say` is a text with `{{ column }}` in it, `flow` an 8x8 body with such places, or the path of one; without either,
    each row is a body itself. These two are filled per row by the library: Airflow's own templates do not touch them.
    Rows may have the columns that campaign files have (`destination`, `source`, `not_before`, `priority`, …). A row is
    known by its own `unique_key`, else by its number (and its place among the rows of that number): what an earlier try
    called is not called again, whatever is said now. A call that waits is replaced by the text that is asked for now,
    and taken back when no row asks for it any more. A bad row keeps all rows out, unless `skip_bad`.

    `send`, `wait_for`, `deferrable`, `wait_timeout`, `doubt_patience`, `cancel_on_kill` as in `VoiceCallOperator`. The
    task fails when more than `fail_ratio` of the calls end as `fail_on` says.

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
        self._terms = terms(wait_for=wait_for, send=send, patience=doubt_patience)
        self._stop = StopFlag()
        self._identity: TaskIdentity | None = None

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """The connection."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    def execute(self, context: Context) -> Any:
        """Hand in the rows that are not there yet, and send and wait as asked."""
        identity = TaskIdentity.of(context)
        with told_to_airflow(f"task {identity}"):
            errand = self._errand(identity)
            handed_in = self._hand_in(context, errand)
            self.log.info(
                "batch %s: %s calls enqueued, %s were there before, %s bad rows left out",
                handed_in.batch_id,
                handed_in.enqueued,
                handed_in.duplicates,
                handed_in.rejected,
            )
            if self._stop.is_set:  # while the rows were handed in, and some were not there yet to be taken back
                self.on_kill()
            self._stop.check()
            store_link(
                context,
                ui_url=self.hook.ui_url(),
                batch_id=handed_in.batch_id,
                queue=self.hook.settings().queue,
            )
            told = {
                "rows": {
                    "enqueued": handed_in.enqueued,
                    "duplicates": handed_in.duplicates,
                    "rejected": handed_in.rejected,
                }
            }
            if self._terms.goal is Goal.NOTHING or self.deferrable:
                standing = run(errand.send)
                if self._terms.goal is not Goal.NOTHING and standing.ended < standing.total:
                    self._defer(errand, told)
                return self._done(errand, told)
            run(errand.send_and_wait)
            return self._done(errand, told)

    def execute_complete(self, context: Context, event: Mapping[str, Any], told: Mapping[str, Any]) -> Any:
        """Go on after the trigger fired: look again, send what fell due, defer again if it is not over."""
        identity = TaskIdentity.of(context)
        with told_to_airflow(f"task {identity}"):
            self.hook.settings()
            if event["status"] == "error":
                raise AirflowException(f"waiting for batch {event.get('batch_id')}: {event['error']}")
            errand = self._errand(identity)
            run(errand.look)
            standing = run(errand.send)
            if standing.ended < standing.total:
                self._defer(errand, told)
            return self._done(errand, told)

    def on_kill(self) -> None:
        """Take back the calls that have not been sent; what is in flight is finished."""
        self._stop.set()
        if self.cancel_on_kill and self._identity is not None:
            errand = self._errand(self._identity)
            try:
                run_aside(errand.take_back, seconds=15)
            except Exception:
                self.log.exception("batch %s could not be taken back; its calls may still be made", errand.batch_id)

    def _errand(self, identity: TaskIdentity) -> CampaignErrand:
        self._identity = identity
        return CampaignErrand(
            hook=self.hook,
            identity=identity,
            batch_id=self.batch_id or identity.batch_id(),
            terms=self._terms,
            every=self.poll_interval,
            limit=self.wait_timeout,
            stop=self._stop,
        )

    def _hand_in(self, context: Context, errand: CampaignErrand) -> HandedIn:
        self.hook.settings()
        require_lasting_store(self.hook, executor=getattr(self, "executor", None))
        if self._terms.sends:
            self.hook.get_client()
        if (self.rows is None) == (self.file is None):
            raise InvalidInputError("give the operator rows=… or file=…, one of them")
        rows = rows_of(Path(self.file)) if self.file is not None else checked_rows(self.rows)
        witness = Witness(context)
        handed_in = run(
            partial(
                errand.hand_in,
                rows,
                self._options(errand.batch_id),
                skip_bad=self.skip_bad,
                recalled=witness.recall(),
                expansion=Expansion.of(context),
            )
        )
        if rows:
            witness.remember({"batch_id": errand.batch_id, "store": self.hook.store_url()})
        return handed_in

    def _options(self, batch_id: str) -> CampaignOptions:
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

    def _defer(self, errand: CampaignErrand, told: Mapping[str, Any]) -> None:
        self.defer(
            trigger=VoiceOutcomeTrigger(
                voiceflow_conn_id=self.voiceflow_conn_id,
                batch_id=errand.batch_id,
                wait_for=self.wait_for or "accepted",
                sends=self._terms.sends,
                doubt_patience=self.doubt_patience.total_seconds(),
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
                owner=errand.identity.as_json(),
            ),
            method_name="execute_complete",
            kwargs={"told": dict(told)},
            timeout=self.wait_timeout,
        )

    def _done(self, errand: CampaignErrand, told: Mapping[str, Any]) -> Any:
        report, doubts, taken_back = run(errand.report)
        if self._terms.goal is not Goal.NOTHING:
            bad = _ended_so(report, self.fail_on)
            asked_for = report.total - taken_back
            if bad and bad > asked_for * self.fail_ratio:
                raise AirflowFailException(
                    f"batch {errand.batch_id}: {bad} of {asked_for} calls ended as {', '.join(self.fail_on)}, more "
                    f"than the {self.fail_ratio:.0%} that fail_ratio allows. `voiceflow calls list --batch "
                    f"{errand.batch_id} --store {self.hook.store_url()}` tells which"
                )
            if doubts:
                more = f" ({len(doubts)} calls of batch {errand.batch_id} are in doubt; this is the first)"
                raise AirflowException(doubt(doubts[0], store=self.hook.store_url()) + more)
        return {**report.as_json(), **told}


def _ended_so(report: Report, fail_on: Iterable[str]) -> int:
    """How many calls ended in one of these states or session statuses."""
    names = {name.casefold() for name in fail_on}
    by_state = sum(count for state, count in report.states.items() if state.value in names)
    # A call that is COMPLETED is in the state completed, one that FAILED in the state failed: it counts once.
    states = {state.value for state in report.states}
    outcomes = {name.casefold(): count for name, count in report.outcomes.items()}
    by_outcome = sum(
        count
        for name, count in outcomes.items()
        if name in names and name not in states and not (name == "error" and "failed" in names)
    )
    return by_state + by_outcome
