"""The webhook receiver: an ASGI app that authenticates the events of 8x8, and stores and answers them."""

from __future__ import annotations

import voiceflow_worker.asgi as _  # noqa: F401 - first, because it says what a server needs
from voiceflow_worker.gateway.account import PATH as PATH
from voiceflow_worker.webhooks.assembly import Receiver as Receiver
from voiceflow_worker.webhooks.assembly import check_receiver as check_receiver
from voiceflow_worker.webhooks.readiness import present as present
from voiceflow_worker.webhooks.reading import EventAnswer as EventAnswer
from voiceflow_worker.webhooks.reading import SettlesSummaries as SettlesSummaries
from voiceflow_worker.webhooks.serving import receiver_app as receiver_app
from voiceflow_worker.webhooks.serving import webhook_app as webhook_app
