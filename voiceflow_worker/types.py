"""What calls of the library take and return, for annotations: the results, reports and options of its classes."""

from __future__ import annotations

from voiceflow_worker.campaigns.enqueue import EnqueueOptions, StartOptions
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError
from voiceflow_worker.campaigns.preview import Preview, PreviewOptions
from voiceflow_worker.core.admission import CallOptions, Enqueued
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.drain import DrainResult
from voiceflow_worker.core.outcomes.batch_ends import BatchOutcome
from voiceflow_worker.core.outcomes.outbox import OutcomeStream
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.core.suppression import Suppression
from voiceflow_worker.finding import Severity
from voiceflow_worker.gateway.account import OwnedNumber, SpeechProfile, Webhook, WebhookType
from voiceflow_worker.gateway.client import PlacedCall
from voiceflow_worker.model.jobs.call_json import CallOutcome, OutcomeKind
from voiceflow_worker.model.jobs.job import KeyPress, Post
from voiceflow_worker.model.jobs.policy import Outcomes
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.reporting.batches import BatchProgress
from voiceflow_worker.reporting.report import Report
from voiceflow_worker.reporting.status import QueueStatus

__all__ = [
    "Actor",
    "BatchOutcome",
    "BatchProgress",
    "CallLeg",
    "CallOptions",
    "CallOutcome",
    "CallProgress",
    "DrainResult",
    "EnqueueOptions",
    "EnqueueReport",
    "Enqueued",
    "KeyPress",
    "Outcome",
    "OutcomeKind",
    "OutcomeStream",
    "Outcomes",
    "OwnedNumber",
    "PlacedCall",
    "Post",
    "Preview",
    "PreviewOptions",
    "QueueStatus",
    "Report",
    "RowsRefusedError",
    "Severity",
    "SpeechProfile",
    "StartOptions",
    "SummaryResult",
    "Suppression",
    "Verdict",
    "VerdictKind",
    "Webhook",
    "WebhookType",
]
