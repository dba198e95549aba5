from __future__ import annotations

import pytest

from voiceflow_worker.cli.checks.webhook import health_url


@pytest.mark.parametrize(
    ("url", "health"),
    [
        ("https://calls.example.com/webhooks/8x8", "https://calls.example.com/healthz"),
        ("https://example.com/calls/webhooks/8x8?x=1", "https://example.com/calls/healthz"),
        ("http://127.0.0.1:8080/elsewhere", "http://127.0.0.1:8080/healthz"),
    ],
)
def test_a_receiver_tells_that_it_runs_beside_its_webhook(url: str, health: str) -> None:
    assert health_url(url) == health
