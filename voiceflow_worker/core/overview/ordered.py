"""What people ordered, when, and on which interface: one record for each act, kept for a month."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.text.wording import in_words, rfc3339

ORDERED = "ordered"
"""Namespace of acts, by queue and time. Acts on the suppression list, which all queues share, have no queue."""
KEPT = timedelta(days=30)
LATEST = 10
_NO_QUEUE = "-"  # no queue has this name

_log = structlog.get_logger("voiceflow.acts")


class Interface(StrEnum):
    """Where somebody ordered something."""

    COMMAND = "command"
    PAGES = "pages"
    PYTHON = "Python"
    AIRFLOW = "Airflow"
    API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """One act of a person: which `act` they ordered, on which interface, and what came of it, as a sentence.

    `by` is their name, if it is known. `batch` or `call` say what it was about, if it was not the queue or the list.
    """

    at: datetime
    act: str
    said: str
    on: str
    by: str | None = None
    note: str | None = None
    batch: str | None = None
    call: str | None = None

    def in_words(self) -> str:
        """The act in one line."""
        note = f" ({self.note})" if self.note and self.note not in self.said else ""
        return f"{in_words(self.at)} {self.act} by {self.by or 'a person'}, {self.on}: {self.said}{note}"

    def as_json(self) -> dict[str, object]:
        """The act as JSON, for scripts."""
        return {**asdict(self), "at": rfc3339(self.at)}


async def remember(store: Store, queue: str | None, order: Ordered) -> None:
    """Keep an act that was carried out. If the store fails, this is logged: the act itself stands."""
    at = order.at.astimezone(UTC).isoformat(timespec="microseconds")
    try:
        await _records(store, queue).put({f"{at}.{new_revision()}": order})
    except StoreError as error:
        _log.warning("who ordered an act could not be stored", act=order.act, by=order.by, error=str(error))


async def ordered_on(
    store: Store, queue: str | None, *, batch_id: str | None = None, call: str | None = None, limit: int | None = LATEST
) -> list[Ordered]:
    """The last acts on a queue, on one batch or call of it, or, without a queue, on the suppression list.

    The newest come first, at most `limit`. Raises StoreError.
    """
    found = await _records(store, queue).values()
    wanted = [each for each in found if batch_id in {None, each.batch} and call in {None, each.call}]
    return wanted[::-1][:limit]


def _records(store: Store, queue: str | None) -> RecordSet[Ordered]:
    return json_records(store, ORDERED, Ordered, keep_for=KEPT).within(queue or _NO_QUEUE)
