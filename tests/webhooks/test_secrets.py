"""Secrets: two values while one is changed, what can be guessed, and the rights of programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from voiceflow_worker import Store, load_settings
from voiceflow_worker.api.secrets import read_programs
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.webhooks.app import app
from voiceflow_worker.webhooks.receiver import Receiver, check_receiver

pytestmark = pytest.mark.anyio
OLD, NEW = "an-old-secret-of-ours", "a-new-secret-of-ours"
EVENT = {"namespace": "VOICE", "eventType": "CALL_STATUS", "payload": {"sessionId": "s"}}


def client_of(store: Store, **given: Any) -> httpx.AsyncClient:
    settings = load_settings(**given)
    transport = httpx.ASGITransport(Receiver(settings, store).app, client=("192.0.2.7", 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://calls")


Ask = Callable[[httpx.AsyncClient, str], Any]


async def event(client: httpx.AsyncClient, secret: str) -> int:
    return (await client.post("/webhooks/8x8", json=EVENT, headers={"Authorization": f"Bearer {secret}"})).status_code


async def request(client: httpx.AsyncClient, secret: str) -> int:
    return (await client.get("/v1/queues/default", headers={"Authorization": f"Bearer {secret}"})).status_code


async def sign_in(client: httpx.AsyncClient, secret: str) -> int:
    """Sign in and look at a page."""
    client.cookies.clear()
    form = {"name": "Mary", "secret": secret, "way": ""}
    await client.post("/ui/sign-in", data=form, headers={"Origin": "http://calls"})
    return (await client.get("/ui")).status_code


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("webhook_secret", event), ("ui_secret", sign_in), ("ui_operator_secret", sign_in), ("api_secret", request),
        ("api_secrets", request),
    ],
)  # fmt: skip
async def test_both_values_of_a_secret_count_until_a_restart_with_the_new_one(
    memory: Store, tmp_path: Path, name: str, ask: Ask
) -> None:
    async def answers(*values: str) -> list[int]:
        """What receivers with these values answer to the new and to the old one."""
        given: dict[str, Any] = {"ui_secret": "that-of-the-readers"} if name == "ui_operator_secret" else {}
        given[name] = ",".join(values)
        if name == "api_secrets":
            given[name] = tmp_path / "programs"
            given[name].write_text("".join(f"crm {each} read\n" for each in values))
        else:
            given[name] = ",".join(f"Bearer {each}" if name == "webhook_secret" else each for each in values)
        async with client_of(memory, **given) as client:
            return [await ask(client, each) for each in (NEW, OLD)]

    assert await answers(OLD) == [401, 200]
    assert await answers(NEW, OLD) == [200, 200]
    assert await answers(NEW) == [200, 401]


async def test_a_program_does_what_its_rights_say_and_is_known_by_its_name(memory: Store, tmp_path: Path) -> None:
    path = tmp_path / "programs"
    path.write_text(
        "# name secret rights\n"
        "dashboard 1111111111111111 read\n"
        "crm,2222222222222222,read call\n"
        "pager 3333333333333333 steer\n"
    )
    reads = ("GET", "/v1/queues/default", None)
    calls = ("POST", "/v1/calls", {"to": "+6587654321", "say": "Hi", "source": "+6531234567", "voice_profile": "x"})
    steers = ("POST", "/v1/queues/default/hold", {"note": "why"})
    async with client_of(memory, api_secrets=path) as client:
        for secret, rights in {"1" * 16: (1, 0, 0), "2" * 16: (1, 1, 0), "3" * 16: (0, 0, 1)}.items():
            for place, (method, url, body) in enumerate((reads, calls, steers)):
                headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": f"{secret}{place}"}
                answer = await client.request(method, url, json=body, headers=headers)
                assert (answer.status_code == 403) is not bool(rights[place]), answer.text
                assert rights[place] == (answer.status_code < 300), answer.text
            url = "/v1/batches/oncall-1/cancel"  # which lets no phone ring
            answer = await client.post(url, json={}, headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == (404 if rights[2] else 403), answer.text
    found = [(entry.action, entry.on, entry.by) for entry in await entries_on(memory)]
    assert found == [("hold", "api", "pager"), ("call", "api", "crm")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no secret"),
        ("crm short read", "line 1 of .* has a secret that has 5 of at least 16 characters"),
        ("crm 2222222222222222", "line 1 of .* it has no rights; the rights are read, call, steer"),
        ("crm 2222222222222222 write", "'write' is no right"),
        ("a 2222222222222222 read\nb 2222222222222222 read", "line 2 of .* has a secret that something else has too"),
        ("é 2222222222222222 read", "begins with no name"),
    ],
)
def test_a_wrong_line_of_the_programs_is_named_without_its_secret(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "programs"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=said) as raised:
        read_programs(path)
    assert "2222" not in str(raised.value)


def test_a_file_of_a_secret_has_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_SECRET_FILE", str(path))
    path.write_text(f"{NEW}, {OLD}\n")
    assert load_settings().secret_values("webhook_secret") == (NEW, OLD)
    for wrong in ("", "hunter2", "a-secret-with-é-inside", "a-secret-with-\x07-inside", f"{NEW}\n{OLD}"):
        path.write_text(wrong)
        with pytest.raises(SettingsError):
            load_settings().secret_values("webhook_secret")


@pytest.mark.parametrize("name", ["webhook_secret", "ui_secret", "ui_operator_secret", "api_secret"])
@pytest.mark.parametrize("secret", ["hunter2", "Bearer hunter2-hunter2", "0123456789abcdef, hunter2-"])
async def test_no_receiver_takes_a_secret_that_can_be_guessed(
    memory: Store, monkeypatch: pytest.MonkeyPatch, name: str, secret: str
) -> None:
    given = {"ui_secret": "of-readers-0123456789", name: secret}
    settings = load_settings(**given)
    for key, value in given.items():
        monkeypatch.setenv(f"VOICEFLOW_{key.upper()}", value)
    for assemble in (lambda: check_receiver(settings), lambda: Receiver(settings, memory), app):
        with pytest.raises(SettingsError, match="openssl rand -hex 32") as raised:
            assemble()
        assert f"VOICEFLOW_{name.upper()} has " in str(raised.value)
        assert "hunter" not in str(raised.value)


async def test_a_wrong_webhook_secret_is_logged_and_counted_and_health_says_nothing_of_it(memory: Store) -> None:
    receiver = Receiver(load_settings(webhook_secret=f"Bearer {NEW}"), memory)
    transport = httpx.ASGITransport(receiver.app, client=("192.0.2.7", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://calls") as client:
        with capture_logs() as logs:
            assert [await event(client, OLD) for _ in range(3)] == [401] * 3
        (line,) = [each for each in logs if each["event"] == "an event was refused"]
        assert (line["sender"], line["reason"], line["log_level"]) == ("192.0.2.7", "secret", "warning")
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert 'refusals_total{reason="secret"} 3.0' in (await client.get("/metrics")).text
