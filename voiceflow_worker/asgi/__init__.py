"""An ASGI server that runs inside this process. The sandbox, the webhook receiver and metrics use it."""

from __future__ import annotations

from voiceflow_worker.errors import require_extra

require_extra(
    "server", "starlette", "uvicorn", "prometheus_client", what="a receiver, sandbox or port of metrics needs"
)

from voiceflow_worker.asgi.server import serving  # noqa: E402 - it would not say what is missing

__all__ = ["serving"]
