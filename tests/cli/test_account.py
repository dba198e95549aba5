"""`voiceflow account` beside a sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program
from voiceflow_worker.sandbox import Sandbox


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    with running(Sandbox(api_key="key-1", sub_accounts=["acme"], numbers=["+6531234567"])) as found:
        yield found.settings(monkeypatch)


def test_voices_numbers_and_webhooks_are_listed(voiceflow: Program, eight: EightByEight) -> None:
    listed = voiceflow("account")
    assert listed.code == 0, listed.err
    assert "no webhook is registered" in listed.err
    lines = voiceflow("account", "--json").lines
    assert [each["number"] for each in lines if each["kind"] == "number"] == ["+6531234567"]
    assert "en-US-JennyNeural" in {each.get("code") for each in lines}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("VOICEFLOW_API_KEY", "key-2", (3, "401")),
        ("VOICEFLOW_SUB_ACCOUNT", "", (2, "VOICEFLOW_SUB_ACCOUNT")),
        ("VOICEFLOW_BASE_URL", "http://127.0.0.1:9", (3, "127.0.0.1 cannot be reached")),
    ],
)
def test_what_is_wrong_is_named(
    eight: EightByEight, voiceflow: Program, name: str, value: str, told: tuple[int, str]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(name, value)
        ended = voiceflow("account")
    assert (ended.code, told[1] in ended.err) == (told[0], True), ended.err
