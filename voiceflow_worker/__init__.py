"""Phone people through the 8x8 Voice API, from a queue, at a set rate: never twice, never lost, never late.

This is the only door: what is named here is public, and is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.backends.registry import open_store as open_store
    from voiceflow_worker.core.drain import DrainResult as DrainResult
    from voiceflow_worker.core.heartbeat import Heartbeats as Heartbeats
    from voiceflow_worker.core.options import WorkerOptions as WorkerOptions
    from voiceflow_worker.core.ports import Enqueued as Enqueued
    from voiceflow_worker.core.ports import Store as Store
    from voiceflow_worker.core.queue import CallQueue as CallQueue
    from voiceflow_worker.core.queue import CallRequest as CallRequest
    from voiceflow_worker.core.settle import Settler as Settler
    from voiceflow_worker.core.settle import SummaryResult as SummaryResult
    from voiceflow_worker.core.status import QueueStatus as QueueStatus
    from voiceflow_worker.core.worker import Worker as Worker
    from voiceflow_worker.errors import CallFlowError as CallFlowError
    from voiceflow_worker.errors import CallInDoubtError as CallInDoubtError
    from voiceflow_worker.errors import CallLogError as CallLogError
    from voiceflow_worker.errors import CallLogUnavailableError as CallLogUnavailableError
    from voiceflow_worker.errors import CallNotSentError as CallNotSentError
    from voiceflow_worker.errors import CallRefusedError as CallRefusedError
    from voiceflow_worker.errors import CampaignFileError as CampaignFileError
    from voiceflow_worker.errors import IllegalMoveError as IllegalMoveError
    from voiceflow_worker.errors import InvalidInputError as InvalidInputError
    from voiceflow_worker.errors import JobError as JobError
    from voiceflow_worker.errors import JobNotFoundError as JobNotFoundError
    from voiceflow_worker.errors import KeyConflictError as KeyConflictError
    from voiceflow_worker.errors import PhoneNumberError as PhoneNumberError
    from voiceflow_worker.errors import RedisForgetsError as RedisForgetsError
    from voiceflow_worker.errors import RequestFailedError as RequestFailedError
    from voiceflow_worker.errors import SettingsError as SettingsError
    from voiceflow_worker.errors import StaleJobError as StaleJobError
    from voiceflow_worker.errors import StoreCorruptError as StoreCorruptError
    from voiceflow_worker.errors import StoreError as StoreError
    from voiceflow_worker.errors import StoreReadOnlyError as StoreReadOnlyError
    from voiceflow_worker.errors import StoreUnavailableError as StoreUnavailableError
    from voiceflow_worker.errors import StoreVersionError as StoreVersionError
    from voiceflow_worker.errors import TooEarlyError as TooEarlyError
    from voiceflow_worker.errors import TooLateError as TooLateError
    from voiceflow_worker.errors import UnknownBackendError as UnknownBackendError
    from voiceflow_worker.errors import VoiceError as VoiceError
    from voiceflow_worker.errors import VoiceflowError as VoiceflowError
    from voiceflow_worker.errors import VoiceUnavailableError as VoiceUnavailableError
    from voiceflow_worker.errors import WebhookEventError as WebhookEventError
    from voiceflow_worker.gateway.account import OwnedNumber as OwnedNumber
    from voiceflow_worker.gateway.account import Recording as Recording
    from voiceflow_worker.gateway.account import SpeechProfile as SpeechProfile
    from voiceflow_worker.gateway.account import Webhook as Webhook
    from voiceflow_worker.gateway.account import WebhookType as WebhookType
    from voiceflow_worker.gateway.client import PlacedCall as PlacedCall
    from voiceflow_worker.gateway.client import VoiceClient as VoiceClient
    from voiceflow_worker.model.call_json import call_as_json as call_as_json
    from voiceflow_worker.model.callflow import CallFlow as CallFlow
    from voiceflow_worker.model.finding import Finding as Finding
    from voiceflow_worker.model.finding import Severity as Severity
    from voiceflow_worker.model.job import Job as Job
    from voiceflow_worker.model.job import JobState as JobState
    from voiceflow_worker.model.job import KeyPress as KeyPress
    from voiceflow_worker.model.job import Post as Post
    from voiceflow_worker.model.job import PostVerdict as PostVerdict
    from voiceflow_worker.model.job import RedialPolicy as RedialPolicy
    from voiceflow_worker.model.outcome import CallLeg as CallLeg
    from voiceflow_worker.model.outcome import Outcome as Outcome
    from voiceflow_worker.model.policy import CallPolicy as CallPolicy
    from voiceflow_worker.model.policy import Outcomes as Outcomes
    from voiceflow_worker.model.status import SessionStatus as SessionStatus
    from voiceflow_worker.model.verdict import Verdict as Verdict
    from voiceflow_worker.model.verdict import VerdictKind as VerdictKind
    from voiceflow_worker.pacing.process import ProcessRate as ProcessRate
    from voiceflow_worker.sandbox import Sandbox as Sandbox
    from voiceflow_worker.settings import Settings as Settings
    from voiceflow_worker.settings import load_settings as load_settings
    from voiceflow_worker.webhooks import present as present
    from voiceflow_worker.webhooks import webhook_app as webhook_app

_HOMES = {
    "CallFlow": "model.callflow",
    "CallLeg": "model.outcome",
    "CallFlowError": "errors",
    "CallInDoubtError": "errors",
    "CallLogError": "errors",
    "CallLogUnavailableError": "errors",
    "CallNotSentError": "errors",
    "CallPolicy": "model.policy",
    "CallQueue": "core.queue",
    "CallRefusedError": "errors",
    "CallRequest": "core.queue",
    "CampaignFileError": "errors",
    "DrainResult": "core.drain",
    "Enqueued": "core.ports",
    "Finding": "model.finding",
    "Heartbeats": "core.heartbeat",
    "IllegalMoveError": "errors",
    "InvalidInputError": "errors",
    "Job": "model.job",
    "JobError": "errors",
    "JobNotFoundError": "errors",
    "JobState": "model.job",
    "KeyPress": "model.job",
    "KeyConflictError": "errors",
    "Outcome": "model.outcome",
    "Outcomes": "model.policy",
    "OwnedNumber": "gateway.account",
    "PhoneNumberError": "errors",
    "PlacedCall": "gateway.client",
    "Post": "model.job",
    "PostVerdict": "model.job",
    "ProcessRate": "pacing.process",
    "QueueStatus": "core.status",
    "Recording": "gateway.account",
    "RedialPolicy": "model.job",
    "RedisForgetsError": "errors",
    "RequestFailedError": "errors",
    "Sandbox": "sandbox",
    "SessionStatus": "model.status",
    "Settings": "settings",
    "SettingsError": "errors",
    "Settler": "core.settle",
    "Severity": "model.finding",
    "SpeechProfile": "gateway.account",
    "StaleJobError": "errors",
    "Store": "core.ports",
    "StoreCorruptError": "errors",
    "StoreError": "errors",
    "StoreReadOnlyError": "errors",
    "StoreUnavailableError": "errors",
    "StoreVersionError": "errors",
    "SummaryResult": "core.settle",
    "TooEarlyError": "errors",
    "TooLateError": "errors",
    "UnknownBackendError": "errors",
    "Verdict": "model.verdict",
    "VerdictKind": "model.verdict",
    "VoiceClient": "gateway.client",
    "VoiceError": "errors",
    "VoiceUnavailableError": "errors",
    "VoiceflowError": "errors",
    "Webhook": "gateway.account",
    "WebhookEventError": "errors",
    "WebhookType": "gateway.account",
    "Worker": "core.worker",
    "WorkerOptions": "core.options",
    "call_as_json": "model.call_json",
    "load_settings": "settings",
    "open_store": "backends.registry",
    "present": "webhooks",
    "webhook_app": "webhooks",
}

__all__ = [
    "CallFlow",
    "CallFlowError",
    "CallInDoubtError",
    "CallLeg",
    "CallLogError",
    "CallLogUnavailableError",
    "CallNotSentError",
    "CallPolicy",
    "CallQueue",
    "CallRefusedError",
    "CallRequest",
    "CampaignFileError",
    "DrainResult",
    "Enqueued",
    "Finding",
    "Heartbeats",
    "IllegalMoveError",
    "InvalidInputError",
    "Job",
    "JobError",
    "JobNotFoundError",
    "JobState",
    "KeyConflictError",
    "KeyPress",
    "Outcome",
    "Outcomes",
    "OwnedNumber",
    "PhoneNumberError",
    "PlacedCall",
    "Post",
    "PostVerdict",
    "ProcessRate",
    "QueueStatus",
    "Recording",
    "RedialPolicy",
    "RedisForgetsError",
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
    "StoreUnavailableError",
    "StoreVersionError",
    "SummaryResult",
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
    "call_as_json",
    "load_settings",
    "open_store",
    "present",
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
