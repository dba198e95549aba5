"""Prometheus metrics of the receiver."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The receiver's counters. Their labels have few values, whatever is sent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.answers = Counter(
            "voiceflow_webhook_answers", "Answers given to webhook requests.", ["status"], registry=registry
        )
        self.events = Counter("voiceflow_webhook_events", "Events taken, by their kind.", ["kind"], registry=registry)
        self.summaries = Counter(
            "voiceflow_webhook_summaries", "Session summaries, by what they did.", ["result"], registry=registry
        )
        self.refusals = Counter(
            "voiceflow_webhook_refusals", "Requests not taken, by the reason.", ["reason"], registry=registry
        )
        self.odd = Counter(
            "voiceflow_webhook_odd",
            "Events that could not be understood, by the reason, and whether they were kept for a look.",
            ["reason", "kept"],
            registry=registry,
        )
        self.store_failures = Counter(
            "voiceflow_webhook_store_failures", "Events answered 503: the store was away.", registry=registry
        )
        self.store_timeouts = Counter(
            "voiceflow_webhook_store_timeouts",
            "Of the store failures: the store took longer than the limit.",
            registry=registry,
        )
        self.in_store = Gauge(
            "voiceflow_webhook_in_store", "Events that are with the store, or with on_event, now.", registry=registry
        )
        self.seconds = Histogram(
            "voiceflow_webhook_seconds",
            "From the first look at a request to its answer.",
            buckets=_BUCKETS,
            registry=registry,
        )
