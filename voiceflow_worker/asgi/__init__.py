"""An ASGI server that runs inside this process. The sandbox, the webhook receiver and metrics use it."""

from __future__ import annotations

from voiceflow_worker.asgi.server import serving

__all__ = ["serving"]
