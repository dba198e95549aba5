"""Phone people through the 8x8 Voice API, from a queue, at a set rate: never twice, never lost, never late.

This is the only door: what is named here is public, and is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.backends.registry import open_store as open_store
    from voiceflow_worker.campaigns.calls.options import CampaignOptions as CampaignOptions
    from voiceflow_worker.campaigns.calls.template import FlowTemplate as FlowTemplate
    from voiceflow_worker.campaigns.campaign import open_campaign as open_campaign
    from voiceflow_worker.campaigns.enqueue import enqueue_file as enqueue_file
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport as EnqueueReport
    from voiceflow_worker.campaigns.reports.report import Report as Report
    from voiceflow_worker.campaigns.reports.report import build_report as build_report
    from voiceflow_worker.core.events.progress import CallProgress as CallProgress
    from voiceflow_worker.core.numbers.suppression import Suppression as Suppression
    from voiceflow_worker.core.numbers.suppression import SuppressionList as SuppressionList
    from voiceflow_worker.core.options import WorkerOptions as WorkerOptions
    from voiceflow_worker.core.outcomes.hook import HookCounts as HookCounts
    from voiceflow_worker.core.outcomes.hook import HookOptions as HookOptions
    from voiceflow_worker.core.outcomes.hooks import OutcomeHooks as OutcomeHooks
    from voiceflow_worker.core.outcomes.hooks import ParkedOutcome as ParkedOutcome
    from voiceflow_worker.core.outcomes.stream import OutcomeStream as OutcomeStream
    from voiceflow_worker.core.overview.drain import DrainResult as DrainResult
    from voiceflow_worker.core.overview.heartbeat import Heartbeats as Heartbeats
    from voiceflow_worker.core.overview.status import QueueStatus as QueueStatus
    from voiceflow_worker.core.ports import Enqueued as Enqueued
    from voiceflow_worker.core.ports import Store as Store
    from voiceflow_worker.core.queue import CallQueue as CallQueue
    from voiceflow_worker.core.queue import CallRequest as CallRequest
    from voiceflow_worker.core.settling.settle import Settler as Settler
    from voiceflow_worker.core.settling.settle import SummaryResult as SummaryResult
    from voiceflow_worker.core.sweep import Sweeper as Sweeper
    from voiceflow_worker.core.worker import Worker as Worker
    from voiceflow_worker.errors import CallFlowError as CallFlowError
    from voiceflow_worker.errors import CallInDoubtError as CallInDoubtError
    from voiceflow_worker.errors import CallLogError as CallLogError
    from voiceflow_worker.errors import CallLogUnavailableError as CallLogUnavailableError
    from voiceflow_worker.errors import CallNotSentError as CallNotSentError
    from voiceflow_worker.errors import CallRefusedError as CallRefusedError
    from voiceflow_worker.errors import CampaignFileError as CampaignFileError
    from voiceflow_worker.errors import HookError as HookError
    from voiceflow_worker.errors import HookGoneError as HookGoneError
    from voiceflow_worker.errors import IllegalMoveError as IllegalMoveError
    from voiceflow_worker.errors import InvalidInputError as InvalidInputError
    from voiceflow_worker.errors import JobError as JobError
    from voiceflow_worker.errors import JobNotFoundError as JobNotFoundError
    from voiceflow_worker.errors import KeyConflictError as KeyConflictError
    from voiceflow_worker.errors import NotificationError as NotificationError
    from voiceflow_worker.errors import OutcomeTimeoutError as OutcomeTimeoutError
    from voiceflow_worker.errors import PhoneNumberError as PhoneNumberError
    from voiceflow_worker.errors import RedisForgetsError as RedisForgetsError
    from voiceflow_worker.errors import RequestFailedError as RequestFailedError
    from voiceflow_worker.errors import SettingsError as SettingsError
    from voiceflow_worker.errors import StaleJobError as StaleJobError
    from voiceflow_worker.errors import StoreCorruptError as StoreCorruptError
    from voiceflow_worker.errors import StoreError as StoreError
    from voiceflow_worker.errors import StoreReadOnlyError as StoreReadOnlyError
    from voiceflow_worker.errors import StoreReplacedError as StoreReplacedError
    from voiceflow_worker.errors import StoreUnavailableError as StoreUnavailableError
    from voiceflow_worker.errors import StoreVersionError as StoreVersionError
    from voiceflow_worker.errors import SuppressedNumberError as SuppressedNumberError
    from voiceflow_worker.errors import TellAgainError as TellAgainError
    from voiceflow_worker.errors import TooEarlyError as TooEarlyError
    from voiceflow_worker.errors import TooLateError as TooLateError
    from voiceflow_worker.errors import UnknownBackendError as UnknownBackendError
    from voiceflow_worker.errors import VoiceError as VoiceError
    from voiceflow_worker.errors import VoiceflowError as VoiceflowError
    from voiceflow_worker.errors import VoiceUnavailableError as VoiceUnavailableError
    from voiceflow_worker.errors import WebhookEventError as WebhookEventError
    from voiceflow_worker.finding import Finding as Finding
    from voiceflow_worker.finding import Severity as Severity
    from voiceflow_worker.gateway.account.resources import OwnedNumber as OwnedNumber
    from voiceflow_worker.gateway.account.resources import Recording as Recording
    from voiceflow_worker.gateway.account.resources import RecordingPush as RecordingPush
    from voiceflow_worker.gateway.account.resources import SpeechProfile as SpeechProfile
    from voiceflow_worker.gateway.account.resources import Webhook as Webhook
    from voiceflow_worker.gateway.account.resources import WebhookType as WebhookType
    from voiceflow_worker.gateway.client import PlacedCall as PlacedCall
    from voiceflow_worker.gateway.client import VoiceClient as VoiceClient
    from voiceflow_worker.ivr.approval import approval_call as approval_call
    from voiceflow_worker.ivr.approval import approval_data as approval_data
    from voiceflow_worker.ivr.approval import choice_of as choice_of
    from voiceflow_worker.ivr.bridging import AfterBridge as AfterBridge
    from voiceflow_worker.ivr.bridging import BridgeResult as BridgeResult
    from voiceflow_worker.ivr.caller import Caller as Caller
    from voiceflow_worker.ivr.menu import Menu as Menu
    from voiceflow_worker.ivr.opening_hours import OpeningHours as OpeningHours
    from voiceflow_worker.ivr.rehearsal import Rehearsal as Rehearsal
    from voiceflow_worker.ivr.steps import BACK as BACK
    from voiceflow_worker.ivr.steps import END as END
    from voiceflow_worker.ivr.steps import Again as Again
    from voiceflow_worker.ivr.steps import End as End
    from voiceflow_worker.model.flows.callflow import CallFlow as CallFlow
    from voiceflow_worker.model.hours.window import CallWindow as CallWindow
    from voiceflow_worker.model.jobs.job import Job as Job
    from voiceflow_worker.model.jobs.job import JobState as JobState
    from voiceflow_worker.model.jobs.job import KeyPress as KeyPress
    from voiceflow_worker.model.jobs.job import Post as Post
    from voiceflow_worker.model.jobs.job import PostVerdict as PostVerdict
    from voiceflow_worker.model.jobs.job import RedialPolicy as RedialPolicy
    from voiceflow_worker.model.jobs.policy import CallPolicy as CallPolicy
    from voiceflow_worker.model.jobs.policy import Outcomes as Outcomes
    from voiceflow_worker.model.numbers.phone import usual_form as usual_form
    from voiceflow_worker.model.records.call_json import call_as_json as call_as_json
    from voiceflow_worker.model.records.call_outcome import CallOutcome as CallOutcome
    from voiceflow_worker.model.records.call_outcome import OutcomeKind as OutcomeKind
    from voiceflow_worker.model.reports.outcome import CallLeg as CallLeg
    from voiceflow_worker.model.reports.outcome import Outcome as Outcome
    from voiceflow_worker.model.reports.status import SessionStatus as SessionStatus
    from voiceflow_worker.model.reports.verdict import Verdict as Verdict
    from voiceflow_worker.model.reports.verdict import VerdictKind as VerdictKind
    from voiceflow_worker.notify.signature import verify_notification as verify_notification
    from voiceflow_worker.notify.webhook import OutcomeWebhook as OutcomeWebhook
    from voiceflow_worker.pacing.process import ProcessRate as ProcessRate
    from voiceflow_worker.sandbox import Sandbox as Sandbox
    from voiceflow_worker.settings import Settings as Settings
    from voiceflow_worker.settings import load_settings as load_settings
    from voiceflow_worker.webhooks import present as present
    from voiceflow_worker.webhooks import webhook_app as webhook_app
    from voiceflow_worker.webhooks.app import receiver_app as receiver_app
    from voiceflow_worker.webhooks.menus.menu_events import MenuEvents as MenuEvents
    from voiceflow_worker.webhooks.quarantine import KeptEvents as KeptEvents

_HOMES = {
    "AfterBridge": "ivr.bridging",
    "Again": "ivr.steps",
    "BACK": "ivr.steps",
    "BridgeResult": "ivr.bridging",
    "CallFlow": "model.flows.callflow",
    "CallFlowError": "errors",
    "CallInDoubtError": "errors",
    "CallLeg": "model.reports.outcome",
    "CallLogError": "errors",
    "CallLogUnavailableError": "errors",
    "CallNotSentError": "errors",
    "CallOutcome": "model.records.call_outcome",
    "CallPolicy": "model.jobs.policy",
    "CallProgress": "core.events.progress",
    "CallQueue": "core.queue",
    "CallRefusedError": "errors",
    "CallRequest": "core.queue",
    "CallWindow": "model.hours.window",
    "Caller": "ivr.caller",
    "CampaignFileError": "errors",
    "CampaignOptions": "campaigns.calls.options",
    "DrainResult": "core.overview.drain",
    "END": "ivr.steps",
    "End": "ivr.steps",
    "EnqueueReport": "campaigns.enqueue_report",
    "Enqueued": "core.ports",
    "Finding": "finding",
    "FlowTemplate": "campaigns.calls.template",
    "Heartbeats": "core.overview.heartbeat",
    "HookCounts": "core.outcomes.hook",
    "HookError": "errors",
    "HookGoneError": "errors",
    "HookOptions": "core.outcomes.hook",
    "IllegalMoveError": "errors",
    "InvalidInputError": "errors",
    "Job": "model.jobs.job",
    "JobError": "errors",
    "JobNotFoundError": "errors",
    "JobState": "model.jobs.job",
    "KeptEvents": "webhooks.quarantine",
    "KeyConflictError": "errors",
    "KeyPress": "model.jobs.job",
    "Menu": "ivr.menu",
    "MenuEvents": "webhooks.menus.menu_events",
    "NotificationError": "errors",
    "OpeningHours": "ivr.opening_hours",
    "Outcome": "model.reports.outcome",
    "OutcomeHooks": "core.outcomes.hooks",
    "OutcomeKind": "model.records.call_outcome",
    "OutcomeStream": "core.outcomes.stream",
    "OutcomeTimeoutError": "errors",
    "OutcomeWebhook": "notify.webhook",
    "Outcomes": "model.jobs.policy",
    "OwnedNumber": "gateway.account.resources",
    "ParkedOutcome": "core.outcomes.hooks",
    "PhoneNumberError": "errors",
    "PlacedCall": "gateway.client",
    "Post": "model.jobs.job",
    "PostVerdict": "model.jobs.job",
    "ProcessRate": "pacing.process",
    "QueueStatus": "core.overview.status",
    "Recording": "gateway.account.resources",
    "RecordingPush": "gateway.account.resources",
    "RedialPolicy": "model.jobs.job",
    "RedisForgetsError": "errors",
    "Rehearsal": "ivr.rehearsal",
    "Report": "campaigns.reports.report",
    "RequestFailedError": "errors",
    "Sandbox": "sandbox",
    "SessionStatus": "model.reports.status",
    "Settings": "settings",
    "SettingsError": "errors",
    "Settler": "core.settling.settle",
    "Severity": "finding",
    "SpeechProfile": "gateway.account.resources",
    "StaleJobError": "errors",
    "Store": "core.ports",
    "StoreCorruptError": "errors",
    "StoreError": "errors",
    "StoreReadOnlyError": "errors",
    "StoreReplacedError": "errors",
    "StoreUnavailableError": "errors",
    "StoreVersionError": "errors",
    "SummaryResult": "core.settling.settle",
    "SuppressedNumberError": "errors",
    "Suppression": "core.numbers.suppression",
    "SuppressionList": "core.numbers.suppression",
    "Sweeper": "core.sweep",
    "TellAgainError": "errors",
    "TooEarlyError": "errors",
    "TooLateError": "errors",
    "UnknownBackendError": "errors",
    "Verdict": "model.reports.verdict",
    "VerdictKind": "model.reports.verdict",
    "VoiceClient": "gateway.client",
    "VoiceError": "errors",
    "VoiceUnavailableError": "errors",
    "VoiceflowError": "errors",
    "Webhook": "gateway.account.resources",
    "WebhookEventError": "errors",
    "WebhookType": "gateway.account.resources",
    "Worker": "core.worker",
    "WorkerOptions": "core.options",
    "approval_call": "ivr.approval",
    "approval_data": "ivr.approval",
    "build_report": "campaigns.reports.report",
    "call_as_json": "model.records.call_json",
    "choice_of": "ivr.approval",
    "enqueue_file": "campaigns.enqueue",
    "load_settings": "settings",
    "open_campaign": "campaigns.campaign",
    "open_store": "backends.registry",
    "present": "webhooks",
    "receiver_app": "webhooks.app",
    "usual_form": "model.numbers.phone",
    "verify_notification": "notify.signature",
    "webhook_app": "webhooks",
}

__all__ = [  # noqa: RUF022 - by the alphabet of the machine, as dir() and sorted() have it
    "AfterBridge",
    "Again",
    "BACK",
    "BridgeResult",
    "CallFlow",
    "CallFlowError",
    "CallInDoubtError",
    "CallLeg",
    "CallLogError",
    "CallLogUnavailableError",
    "CallNotSentError",
    "CallOutcome",
    "CallPolicy",
    "CallProgress",
    "CallQueue",
    "CallRefusedError",
    "CallRequest",
    "CallWindow",
    "Caller",
    "CampaignFileError",
    "CampaignOptions",
    "DrainResult",
    "END",
    "End",
    "EnqueueReport",
    "Enqueued",
    "Finding",
    "FlowTemplate",
    "Heartbeats",
    "HookCounts",
    "HookError",
    "HookGoneError",
    "HookOptions",
    "IllegalMoveError",
    "InvalidInputError",
    "Job",
    "JobError",
    "JobNotFoundError",
    "JobState",
    "KeptEvents",
    "KeyConflictError",
    "KeyPress",
    "Menu",
    "MenuEvents",
    "NotificationError",
    "OpeningHours",
    "Outcome",
    "OutcomeHooks",
    "OutcomeKind",
    "OutcomeStream",
    "OutcomeTimeoutError",
    "OutcomeWebhook",
    "Outcomes",
    "OwnedNumber",
    "ParkedOutcome",
    "PhoneNumberError",
    "PlacedCall",
    "Post",
    "PostVerdict",
    "ProcessRate",
    "QueueStatus",
    "Recording",
    "RecordingPush",
    "RedialPolicy",
    "RedisForgetsError",
    "Rehearsal",
    "Report",
    "RequestFailedError",
    "Sandbox",
    "SessionStatus",
    "Settings",
    "SettingsError",
    "Settler",
    "Severity",
    "SpeechProfile",
    "StaleJobError",
    "Store",
    "StoreCorruptError",
    "StoreError",
    "StoreReadOnlyError",
    "StoreReplacedError",
    "StoreUnavailableError",
    "StoreVersionError",
    "SummaryResult",
    "SuppressedNumberError",
    "Suppression",
    "SuppressionList",
    "Sweeper",
    "TellAgainError",
    "TooEarlyError",
    "TooLateError",
    "UnknownBackendError",
    "Verdict",
    "VerdictKind",
    "VoiceClient",
    "VoiceError",
    "VoiceUnavailableError",
    "VoiceflowError",
    "Webhook",
    "WebhookEventError",
    "WebhookType",
    "Worker",
    "WorkerOptions",
    "approval_call",
    "approval_data",
    "build_report",
    "call_as_json",
    "choice_of",
    "enqueue_file",
    "load_settings",
    "open_campaign",
    "open_store",
    "present",
    "receiver_app",
    "usual_form",
    "verify_notification",
    "webhook_app",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
