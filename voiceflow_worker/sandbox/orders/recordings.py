"""Recordings of sessions. They are ordered, because the sandbox places no calls that it could record."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import Field

from voiceflow_worker.sandbox.orders.orders import StrictModel


class RecordingOrder(StrictModel):
    """A recording of the session `session_id`: the `url` it was uploaded to, and its length in `seconds`."""

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
        """The recordings of a session, in the service's words (8x8 recordings reference)."""
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
        """Forget all recordings."""
        self._orders.clear()
