"""Recordings of sessions. They come from orders and from scripted calls, because the sandbox has no sound to record."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import Field

from voiceflow_worker.sandbox.orders.orders import StrictModel


class RecordingOrder(StrictModel):
    """An order for a recording of the session `session_id`, with the `url` of its file and its length in `seconds`."""

    session_id: str = Field(min_length=1)
    recording_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "UPLOAD_COMPLETED"
    url: str | None = None
    seconds: float = Field(default=0.0, ge=0)
    started_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Recordings:
    """All recordings that were ordered."""

    def __init__(self) -> None:
        self._orders: list[RecordingOrder] = []

    def add(self, order: RecordingOrder) -> None:
        """Add a recording."""
        self._orders.append(order)

    def of_session(self, session_id: str, *, sub_account: str) -> list[Mapping[str, object]]:
        """Return the recordings of a session, in the format of 8x8 (recordings reference)."""
        return [
            {
                "recordingId": order.recording_id,
                "sessionid": order.session_id,  # the spelling of the service
                "subAccountId": sub_account,
                "status": order.status,
                "externalFileUrl": order.url,
                "duration": order.seconds,
                "startRecordingTime": order.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for order in self._orders
            if order.session_id == session_id
        ]

    def clear(self) -> None:
        """Delete all recordings."""
        self._orders.clear()
