"""Values of options that cannot be meant: a sentence and exit 2, before anything is opened."""

from __future__ import annotations

import pytest

from tests.cli.running import Program


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--port", "99999"], "99999 is not a port"),
        (["serve", "--port", "-1"], "-1 is not a port"),
        (["sandbox", "--port", "65536"], "65536 is not a port"),
        (["worker", "--metrics-port", "99999"], "99999 is not a port"),
        (["worker", "--metrics-port", "-1"], "-1 is not a port"),
        (["sandbox", "--speed", "0"], "0 is not a speed"),
        (["sandbox", "--speed", "nan"], "nan is not a speed"),
        (["sandbox", "--speed", "inf"], "inf is not a speed"),
        (["sandbox", "--webhook", "notaurl"], "give an http or https address"),
        (["sandbox", "--webhook", "http://"], "give an http or https address"),
        (["sandbox", "--webhook", "ftp://example.com/x"], "give an http or https address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_cannot_be_is_refused(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    ended = voiceflow(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert arguments[1] in ended.err
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert list(voiceflow.folder.iterdir()) == []
