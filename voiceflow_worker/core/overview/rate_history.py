"""The rate of each queue over the last hour: one record a minute, written by receivers that show pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import json_records

NAMESPACE = "rate-history"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SAMPLED_EVERY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteRates:
    """The mean rate of each queue in one minute, in calls per second."""

    rates: Mapping[str, float]


class RateHistory:
    """Samples the heartbeats of workers, and keeps the mean of each minute for an hour.

    All receivers see the same heartbeats, so only the first receiver that has the mean of a minute stores it.
    """

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._beats = Heartbeats(store)
        self._minutes = json_records(store, NAMESPACE, MinuteRates, keep_for=HOUR + MINUTE, durable=False)
        self._minute: datetime | None = None
        self._samples: list[Mapping[str, float]] = []

    async def sample(self) -> None:
        """Take a sample. When a new minute has begun, store the mean of the minute before. Raises StoreError."""
        minute = self._clock.now().replace(second=0, microsecond=0)
        if self._minute is not None and minute != self._minute and self._samples:
            await self._minutes.add({_key(self._minute): MinuteRates(rates=_mean(self._samples))})
        if minute != self._minute:
            self._minute, self._samples = minute, []
        self._samples.append(await self._beats.rates())

    async def last_hour(self) -> Sequence[tuple[datetime, Mapping[str, float]]]:
        """The mean rates of the queues in each recorded minute of the last hour, oldest first. Raises StoreError."""
        since = _key(self._clock.now() - HOUR)
        found = await self._minutes.page(after=since)
        return [(datetime.fromisoformat(key), value.rates) for key, value in found if value is not None]


def _key(minute: datetime) -> str:
    return minute.astimezone(UTC).isoformat(timespec="minutes")


def _mean(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for each in samples:
        total.update(each)
    return {queue: round(rate / len(samples), 3) for queue, rate in total.items()}
