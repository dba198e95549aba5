from __future__ import annotations

import pytest

from voiceflow_worker.model.text.web_address import is_this_machine, why_not_from_outside


@pytest.mark.parametrize(
    "url",
    [
        "https://calls.example.com/webhooks/8x8",
        "https://calls.example.com:8443/webhooks/8x8",
        "https://8.8.8.8/webhooks/8x8",
        "https://[2001:4860:4860::8888]/webhooks/8x8",
        "HTTPS://Calls.Example.Com./",
    ],
)
def test_a_public_https_address_can_be_reached_from_outside(url: str) -> None:
    assert why_not_from_outside(url) is None


def test_what_keeps_others_from_reaching_an_address_is_reported() -> None:
    for url, why in [
        ("http://calls.example.com/webhooks/8x8", "it is http"),
        ("http://127.0.0.1:8080/webhooks/8x8", "127.0.0.1 is this machine"),
        ("https://localhost/webhooks/8x8", "localhost is this machine"),
        ("https://[::1]/", "::1 is this machine"),
        ("https://[::ffff:127.0.0.1]/", "this machine"),
        ("https://10.1.2.3/", "10.1.2.3 is not a public address"),
        ("https://100.64.0.1/", "100.64.0.1 is not a public address"),
        ("https://[fd00::1]/", "fd00::1 is not a public address"),
        ("https://[::ffff:10.0.0.1]/", "is not a public address"),
        ("https://receiver/webhooks/8x8", "receiver is not a public host name"),
        ("https://calls.internal/", "calls.internal is not a public host name"),
        ("https://calls.test/", "calls.test is not a public host name"),
    ]:
        assert why in (why_not_from_outside(url) or "")


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8088", True),
        ("http://localhost:8088", True),
        ("https://voice.8x8.com", False),
        ("http://10.0.0.7:8088", False),
    ],
)
def test_a_sandbox_on_this_machine_is_known_by_its_address(url: str, is_here: bool) -> None:
    assert is_this_machine(url) is is_here
