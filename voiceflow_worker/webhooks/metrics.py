"""Prometheus metrics of the receiver."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The metrics of the receiver. Their labels have few values, so a sender cannot create many series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        counter = partial(Counter, registry=registry)
        self.answers: Counter = counter("voiceflow_webhook_answers", "Answers given to webhook requests.", ["status"])
        self.events: Counter = counter("voiceflow_webhook_events", "Events received, by their kind.", ["kind"])
        self.summaries: Counter = counter(
            "voiceflow_webhook_summaries", "Session summaries, by their effect.", ["result"]
        )
        self.refusals: Counter = counter("voiceflow_webhook_refusals", "Requests refused, by the reason.", ["reason"])
        self.odd: Counter = counter(
            "voiceflow_webhook_odd",
            "Events that could not be understood, by the reason.",
            ["reason"],
        )
        self.store_failures: Counter = counter(
            "voiceflow_webhook_store_failures", "Events answered 503 because they could not be stored."
        )
        self.store_timeouts: Counter = counter(
            "voiceflow_webhook_store_timeouts", "Events answered 503 because handling them took longer than the limit."
        )
        self.in_store: Gauge = Gauge(
            "voiceflow_webhook_in_store", "Events that the store or on_event is handling now.", registry=registry
        )
        self.seconds: Histogram = Histogram(
            "voiceflow_webhook_seconds",
            "Time from the arrival of a request to its answer.",
            buckets=_BUCKETS,
            registry=registry,
        )
