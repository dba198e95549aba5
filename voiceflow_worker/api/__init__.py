"""The HTTP API below `/v1`, for programs in every language."""

from __future__ import annotations

from voiceflow_worker.errors import require_extra

require_extra("api", "fastapi", what="the HTTP API needs")
