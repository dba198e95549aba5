"""The webhook receiver: an ASGI app that authenticates the events of 8x8, and stores and answers them."""

from __future__ import annotations

import voiceflow_worker.asgi as _  # noqa: F401 - first, because it says what a server needs
from voiceflow_worker.gateway.account import PATH as PATH
from voiceflow_worker.webhooks.receiver import Receiver as Receiver
