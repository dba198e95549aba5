"""The background parts of a process, such as a sweep or a heartbeat: one that fails is told, and begins again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import VoiceflowError

_log = structlog.get_logger("voiceflow.parts")

LONGEST_PAUSE = 30.0
"""The longest pause, in seconds, before a part that fails again and again begins again. It grows from 1 s."""
SHOWN = 60.0
"""Seconds for which the failure of a part is shown that has begun again and gives no other sign of its health."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: str
    shown_until: float


class Parts:
    """Runs background parts, and knows which of them fail. No error of a part reaches the others.

    A part is named by what has not happened when it fails, such as `the heartbeat was not stored`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._failures: dict[str, _Failure] = {}
        self.count: Counter[str] = Counter()
        """The number of failures of each part."""

    @property
    def failing(self) -> Mapping[str, str]:
        """The parts that fail now, each with its last error."""
        now = self._clock.monotonic()
        return {part: failure.error for part, failure in self._failures.items() if now < failure.shown_until}

    async def repeat(self, part: str, step: Callable[[], Awaitable[object]], *, every: float) -> None:
        """Take a step, pause for `every` seconds, and begin again, for ever. The pause is longer after failures."""
        failures = 0
        with self._runs(part):
            while True:
                pause = every
                try:
                    await step()
                except Exception as error:  # noqa: BLE001 - no part ends the process
                    failures += 1
                    pause = max(every, self.failed(part, error, failures=failures))
                else:
                    failures = 0
                    self._failures.pop(part, None)
                await self._clock.sleep(pause)

    async def keep(self, part: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do some work to its end, and begin it again when it fails."""
        failures = 0
        with self._runs(part):
            while True:
                began = self._clock.monotonic()
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - no part ends the process
                    failures = 1 if self._clock.monotonic() - began > SHOWN else failures + 1
                    pause = max(1.0, self.failed(part, error, failures=failures, shown_for=SHOWN))
                    await self._clock.sleep(pause)
                else:
                    return

    def failed(self, part: str, error: Exception, *, failures: int = 1, shown_for: float = float("inf")) -> float:
        """Note a failure, and log it; returns the seconds to wait after so many failures in a row."""
        is_known = isinstance(error, VoiceflowError)
        self.count[part] += 1
        self._failures[part] = _Failure(
            str(error) if is_known else f"{type(error).__name__}: {error}", self._clock.monotonic() + shown_for
        )
        _log.warning(f"{part}; trying again later", error=str(error), failures=failures, exc_info=not is_known)
        return 0.0 if is_known else min(2.0 ** min(failures - 1, 10), LONGEST_PAUSE)

    def well(self, part: str) -> None:
        """Note that a part works again."""
        self._failures.pop(part, None)

    @contextmanager
    def _runs(self, part: str) -> Generator[None]:
        self._running[part] += 1
        _RUNNING.add(self)
        try:
            yield
        finally:
            self._running[part] -= 1
            if not +self._running:
                _RUNNING.discard(self)


_RUNNING: set[Parts] = set()


def failing_here() -> dict[str, str]:
    """The parts of this process that fail now, each with its last error."""
    return {part: error for parts in _RUNNING for part, error in parts.failing.items()}


def health(failing: Mapping[str, str]) -> dict[str, object]:
    """The document of /healthz, which is served with 200 even if parts fail: a restart would cut POSTs."""
    if not failing:
        return {"status": "ok"}
    return {"status": "failing", "failing": [{"part": part, "error": error} for part, error in failing.items()]}
