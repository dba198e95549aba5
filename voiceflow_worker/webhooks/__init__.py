"""The webhook receiver: an ASGI app that authenticates events of 8x8, hands them on, and answers quickly."""

from __future__ import annotations

from voiceflow_worker.webhooks.app import PATH, webhook_app
from voiceflow_worker.webhooks.ports import EventAnswer, SettlesSummaries, TellsPresence
from voiceflow_worker.webhooks.presence import present

__all__ = ["PATH", "EventAnswer", "SettlesSummaries", "TellsPresence", "present", "webhook_app"]
