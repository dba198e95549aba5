"""Prometheus metrics of menus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from voiceflow_worker.ivr.answer import Result

_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)


class MenuMetrics:
    """Answers to call action events, and the time of their handlers. Labels have few values, whatever is pressed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "voiceflow_ivr_answers", "Answers of menus to call action events, by what came of them.", ["result"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "voiceflow_ivr_handler_seconds", "How long handlers took.", buckets=_BUCKETS, registry=registry
        )
        for result in Result:
            self._answers.labels(result.value)

    def answered(self, result: Result, *, seconds: float | None = None) -> None:
        """One event was answered; `seconds` if a handler ran."""
        self._answers.labels(result.value).inc()
        if seconds is not None:
            self._seconds.observe(seconds)
