"""Phone people through the 8x8 Voice API, from a queue, at a set rate: never twice, never lost, never late.

This is the only door: what is named here is public, and is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.backends.registry import open_store as open_store
    from voiceflow_worker.core.drain import DrainResult as DrainResult
    from voiceflow_worker.core.queue import CallQueue as CallQueue
    from voiceflow_worker.core.queue import CallRequest as CallRequest
    from voiceflow_worker.core.worker import Worker as Worker
    from voiceflow_worker.core.worker import WorkerOptions as WorkerOptions
    from voiceflow_worker.errors import VoiceflowError as VoiceflowError
    from voiceflow_worker.gateway.client import VoiceClient as VoiceClient
    from voiceflow_worker.model.callflow import CallFlow as CallFlow
    from voiceflow_worker.model.finding import Finding as Finding
    from voiceflow_worker.model.job import Job as Job
    from voiceflow_worker.model.job import JobState as JobState
    from voiceflow_worker.model.job import Outcome as Outcome
    from voiceflow_worker.model.policy import CallPolicy as CallPolicy

_HOMES = {
    "CallFlow": "model.callflow",
    "CallPolicy": "model.policy",
    "CallQueue": "core.queue",
    "CallRequest": "core.queue",
    "DrainResult": "core.drain",
    "Finding": "model.finding",
    "Job": "model.job",
    "JobState": "model.job",
    "Outcome": "model.job",
    "VoiceClient": "gateway.client",
    "VoiceflowError": "errors",
    "Worker": "core.worker",
    "WorkerOptions": "core.worker",
    "open_store": "backends.registry",
}

__all__ = [
    "CallFlow",
    "CallPolicy",
    "CallQueue",
    "CallRequest",
    "DrainResult",
    "Finding",
    "Job",
    "JobState",
    "Outcome",
    "VoiceClient",
    "VoiceflowError",
    "Worker",
    "WorkerOptions",
    "open_store",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
