"""The doctor, on surroundings that are well, and on each kind that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Ended, Program, Spawned
from tests.cli.stored import empty, enqueued, in_doubt, url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.postgres import PostgresServer
from tests.support.stores import SERVERS
from voiceflow_worker.core.gates import hold_until_left, order_gate
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.rollback import HELD
from voiceflow_worker.finding import Diagnosis, Level, ok
from voiceflow_worker.gateway.account import Webhook
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox import account as account_routes
from voiceflow_worker.sandbox.account import WebhookTarget
from voiceflow_worker.service import doctor
from voiceflow_worker.service.doctor import Account, CheckContext, open_context
from voiceflow_worker.settings import load_settings

SECRET = "Bearer of-news-of-calls-1"
MENU = """from voiceflow_worker import Menu

main = Menu("shop", prompt="Press one.", voice_profile="en-US-JennyNeural")
main.on("1", goto="Thank you.")
"""


@pytest.fixture(autouse=True)
def _on_a_local_disk_with_room(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever these tests run."""
    monkeypatch.setenv("VOICEFLOW_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setattr("voiceflow_worker.backends.health.LITTLE", 0)
    monkeypatch.setattr("voiceflow_worker.backends.health.TOO_LITTLE", 0)


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[EightByEight]:
    """A sandbox with one key, one number and one voice, and settings that suit it."""
    sandbox = Sandbox(api_key="key-1", sub_accounts=["acme"], numbers=["+6531234567"], voices=["en-US-JennyNeural"])
    with running(sandbox) as found:
        found.settings(
            monkeypatch,
            STORE=url_of(folder),
            OUTCOMES="webhook",
            SOURCE="+6531234567",
            VOICE_PROFILE="en-US-JennyNeural",
            WEBHOOK_SECRET=SECRET,
        )
        yield found


def lines(ended: Ended) -> dict[str, dict[str, Any]]:
    assert all(set(line) == {"check", "level", "message", "remedy"} for line in ended.lines)
    assert all((line["level"] == "ok") == (line["remedy"] is None) for line in ended.lines)
    found = {line["check"]: line for line in ended.lines}
    assert len(found) == len(ended.lines)
    return found


def found_by(check: Callable[[CheckContext], Awaitable[Diagnosis | None]]) -> Diagnosis:
    """What one check finds in the surroundings that the settings describe."""

    async def look() -> Diagnosis:
        async with open_context(load_settings()) as looked:
            found = await check(looked)
            assert found is not None
            return found

    return asyncio.run(look())


def register(eight: EightByEight, url: str, *, secret: str | None = SECRET, enabled: bool = True) -> None:
    hooks = eight.sandbox._account.hooks("acme")
    hooks["VSS"] = WebhookTarget(url=url, authorization=secret, enabled=enabled)


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_nothing_is_said_against_what_is_well(voiceflow: Program, eight: EightByEight) -> None:
    with Spawned(["serve", "--port", "0"], voiceflow.folder) as serve:
        register(eight, serve.wait_for("ready on").partition("ready on ")[2].partition(",")[0])
        ended = voiceflow("doctor", "--json")
        assert serve.stop().code == 0
    assert {check: line["level"] for check, line in lines(ended).items() if line["level"] != "ok"} == {}
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.lines) == 12
    assert list(eight.sandbox.ledger) == []  # nobody was called


def test_a_secret_is_never_told(voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch) -> None:
    empty(voiceflow.folder)
    for key in ("key-1", "key-2"):
        monkeypatch.setenv("VOICEFLOW_API_KEY", key)
        for options in ([], ["--json"]):
            ended = voiceflow("doctor", *options)
            assert key not in ended.out + ended.err
            assert "of-news" not in ended.out + ended.err


# -- settings ----------------------------------------------------------------------------------------------------------


def test_an_empty_directory_is_told_what_is_missing(voiceflow: Program) -> None:
    ended = voiceflow("doctor", "--json")
    found = lines(ended)
    assert ended.code == 1
    assert [check for check, line in found.items() if line["level"] == "failure"] == ["account"]
    assert "VOICEFLOW_API_KEY_FILE" in found["account"]["remedy"]
    assert "VOICEFLOW_SUB_ACCOUNT" in found["account"]["remedy"]
    assert found["credentials"]["remedy"] == "correct `account` first"
    assert found["store"]["level"] == "warning"
    assert found["queue"]["message"].startswith("skipped")
    assert list(voiceflow.folder.iterdir()) == []


def test_settings_that_cannot_be_read_are_a_failure_and_not_the_end(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_RATE", "fast")
    found = lines(voiceflow("doctor", "--json"))
    assert list(found) == ["unknown settings", "settings"]
    assert "VOICEFLOW_RATE is 'fast' (the environment)" in found["settings"]["message"]


def test_slips_of_the_pen_are_reported(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_RATTE", "5")
    (voiceflow.folder / ".env").write_text("VOICEFLOW_QUEUE=mine\nVOICEFLOW_XYZZY=1\n")
    found = lines(voiceflow("doctor", "--json"))
    assert found["unknown settings"]["level"] == "warning"
    assert found["unknown settings"]["message"] == (
        "VOICEFLOW_RATTE (the environment) is not a setting of this version; did you mean VOICEFLOW_RATE?; "
        "VOICEFLOW_XYZZY (.env) is not a setting of this version"
    )


@pytest.mark.parametrize(
    ("setting", "check", "level", "told"),
    [
        ("STORE=memory://", "store", "warning", "memory://"),
        ("STORE=sqlite:///letter.db", "store", "failure", "is not a voiceflow store"),
        ("SOURCE=+6599999999", "source", "warning", "is not a number of the account"),
        ("SOURCE=SG=+6531234567,*=+6599999999", "source", "warning", "+6599999999 is not a number of the account"),
        ("SOURCE=XX=+6531234567", "source", "failure", "'XX' is not a country"),
        ("VOICE_PROFILE=en-us-JennyNeurl", "voice", "failure", "the nearest: en-US-JennyNeural"),
        ("VOICE_PROFILE=Anna", "voice", "failure", "; the nearest: en-US-JennyNeural"),
    ],
)
def test_a_setting_that_does_not_work_is_reported(
    voiceflow: Program,
    eight: EightByEight,
    monkeypatch: pytest.MonkeyPatch,
    *,
    setting: str,
    check: str,
    level: str,
    told: str,
) -> None:
    (voiceflow.folder / "letter.db").write_text("this is a letter, not a store\n" * 100)
    monkeypatch.setenv(*f"VOICEFLOW_{setting}".split("=", 1))
    ended = voiceflow("doctor", "--json")
    line = lines(ended)[check]
    assert (line["level"], told in line["message"]) == (level, True), line
    assert ended.code == 1 or level == "warning"


# -- the store ---------------------------------------------------------------------------------------------------------


def test_a_missing_store_is_not_made(voiceflow: Program) -> None:
    empty(voiceflow.folder)
    line = lines(voiceflow("doctor", "--json", "--store", "sqlite:///cals.db"))["store"]
    assert line["level"] == "warning"
    assert not (voiceflow.folder / "cals.db").exists()


@pytest.mark.parametrize("backend", SERVERS)
def test_a_missing_store_on_a_server_is_not_made(
    voiceflow: Program, backend: str, fresh_url: Callable[[str], str]
) -> None:
    url = fresh_url(backend).replace("schema=", "schema=no_")  # that of an earlier test has a store
    for _ in range(2):  # the first has not made it
        line = lines(voiceflow("doctor", "--json", "--store", url))["store"]
        assert (line["level"], "there is no store in the" in line["message"]) == ("warning", True)
        assert "`voiceflow doctor --make` makes a new store" in line["message"]


def test_a_store_that_is_read_and_takes_no_write_is_a_failure(
    voiceflow: Program, postgres_server: PostgresServer
) -> None:
    postgres_server.ask("CREATE ROLE looked_at LOGIN")
    postgres_server.ask("CREATE SCHEMA looked_at AUTHORIZATION looked_at")
    store = ("--store", postgres_server.url(user="looked_at", schema="looked_at"))
    assert voiceflow("doctor", "--make", *store).code == 0
    assert lines(voiceflow("doctor", "--json", *store))["store"]["level"] == "ok"
    postgres_server.ask("ALTER ROLE looked_at SET default_transaction_read_only = on")
    assert voiceflow("status", *store).code == 0, "it is read"
    found = lines(voiceflow("doctor", "--json", *store))["store"]  # one line, though nobody is heard
    assert (found["level"], "accepts no writes" in found["message"]) == ("failure", True), found


@pytest.mark.parametrize(
    ("of", "value", "check", "level"),
    [
        ("LITTLE", 2**60, "disk space", "warning"),
        ("TOO_LITTLE", 2**60, "disk space", "failure"),
    ],
)
def test_a_disk_that_fills_up_is_reported(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, *, of: str, value: object, check: str, level: str
) -> None:
    monkeypatch.setattr(f"voiceflow_worker.backends.health.{of}", value)
    assert lines(voiceflow("doctor", "--json"))[check]["level"] == level


# -- 8x8 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("VOICEFLOW_API_KEY=key-2", "answered 401"),
        ("VOICEFLOW_SUB_ACCOUNT=other", "answered 404"),
        ("VOICEFLOW_BASE_URL=http://127.0.0.1:9", "cannot be reached"),
    ],
)
def test_credentials_that_do_not_work_are_distinguished(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch, setting: str, told: str
) -> None:
    empty(voiceflow.folder)
    variable, _, value = setting.partition("=")
    monkeypatch.setenv(variable, value)
    found = lines(voiceflow("doctor", "--json"))
    assert found["credentials"]["level"] == "failure"
    assert told in found["credentials"]["message"]
    assert variable in found["credentials"]["remedy"]
    assert {found[check]["remedy"] for check in ("source", "webhook")} == {"correct `credentials` first"}
    assert found["queue"]["level"] == "ok"
    # A refusal has a Date too.
    assert found["clock"]["level"] == ("warning" if variable == "VOICEFLOW_BASE_URL" else "ok")


def test_a_source_that_the_list_leaves_out_is_a_warning(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.sandbox.account.SandboxAccount.numbers", ())
    line = lines(voiceflow("doctor", "--json"))["source"]
    assert line["level"] == "warning"
    assert "is not a number of the account" in line["message"]


@pytest.mark.parametrize(("status", "level"), [("Expiring", "warning"), ("Inactive", "failure")])
def test_a_source_that_is_not_active_is_reported(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch, status: str, level: str
) -> None:
    listed = account_routes._number
    monkeypatch.setattr(account_routes, "_number", lambda number: {**listed(number), "operationalStatus": status})
    line = lines(voiceflow("doctor", "--json"))["source"]
    assert line["level"] == level
    assert status.lower() in line["message"].lower()


# -- how outcomes come back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "enabled", "check", "level"),
    [
        ("http://127.0.0.1:9/webhooks/8x8", True, "webhook address", "failure"),
        ("http://nowhere.invalid/webhooks/8x8", True, "webhook address", "failure"),
        ("{sandbox}/webhooks/8x8", True, "webhook address", "warning"),
        ("http://127.0.0.1:9/webhooks/8x8", False, "webhook", "failure"),
    ],
    ids=["nobody answers", "no such name", "somebody else answers", "off"],
)
def test_a_webhook_that_brings_no_summaries_is_reported(
    voiceflow: Program, eight: EightByEight, url: str, *, enabled: bool, check: str, level: str
) -> None:
    register(eight, url.format(sandbox=eight.url), enabled=enabled)
    assert lines(voiceflow("doctor", "--json"))[check]["level"] == level


def test_events_from_everybody_are_a_warning(eight: EightByEight, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_by(doctor.secret).level is Level.OK
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_SECRET", "")
    assert found_by(doctor.secret).level is Level.WARNING
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_ALLOW", "10.0.0.0/8")
    assert found_by(doctor.secret).level is Level.OK


@dataclass
class Asked:
    """8x8, as far as the checks ask it for webhooks."""

    hooks: tuple[Webhook, ...]

    async def webhooks(self) -> tuple[Webhook, ...]:
        return self.hooks


def hook(url: str, kind: str = "VSS") -> Webhook:
    return Webhook(type=kind, url=url, enabled=True, has_auth_header=True)


def at_8x8(
    check: Callable[[CheckContext], Awaitable[Diagnosis | None]], *hooks: Webhook, **settings: object
) -> Diagnosis:
    """What a check finds when 8x8 itself is asked, and not a sandbox of this machine."""
    looked = CheckContext(
        settings=load_settings(options_place=None, **settings),
        opening=ok("it opens"),
        opened=None,
        of_store={},
        client=Account(Asked(hooks)),  # type: ignore[arg-type]
    )

    async def look() -> Diagnosis | None:
        return await check(looked)

    found = asyncio.run(look())
    assert found is not None
    return found


def test_summaries_that_are_sent_where_8x8_cannot_reach_are_a_failure(folder: Path) -> None:
    url = "https://10.0.0.7/webhooks/8x8"
    for base_url in (None, "https://voice.8x8.com"):
        found = at_8x8(doctor.registered, hook(url), base_url=base_url)
        assert (found.level, "10.0.0.7 is not a public address" in found.message) == (Level.FAILURE, True)
        assert "--register" in (found.remedy or "")
    assert at_8x8(doctor.registered, hook("https://calls.example.com/webhooks/8x8")).level is Level.OK
    assert at_8x8(doctor.registered, hook(url), base_url="http://127.0.0.1:8088").level is Level.OK
    assert at_8x8(doctor.registered, outcomes="none").level is Level.OK


def test_menus_of_a_receiver_need_a_webhook_for_call_actions(voiceflow: Program, eight: EightByEight) -> None:
    empty(voiceflow.folder)
    within(voiceflow.folder, lambda engine: Heartbeats(engine.store).receiver("without menus"))
    assert "call actions" not in lines(voiceflow("doctor", "--json"))
    within(voiceflow.folder, lambda engine: Heartbeats(engine.store, menus=["main", "other"]).receiver("with"))
    line = lines(voiceflow("doctor", "--json"))["call actions"]
    assert (line["level"], "key presses in main, other are not answered" in line["message"]) == ("failure", True)
    assert "voiceflow serve --ivr" in line["remedy"]
    hooks = eight.sandbox._account.hooks("acme")
    hooks["VCA"] = WebhookTarget(url="http://127.0.0.1:9/webhooks/8x8", enabled=False)
    assert "is off" in lines(voiceflow("doctor", "--json"))["call actions"]["message"]
    hooks["VCA"] = WebhookTarget(url="http://127.0.0.1:9/webhooks/8x8")
    assert lines(voiceflow("doctor", "--json"))["call actions"]["level"] == "ok"


def menu_line(voiceflow: Program) -> dict[str, Any] | None:
    return lines(voiceflow("doctor", "--json")).get("menus")


def test_waiting_calls_whose_menu_no_receiver_serves_are_a_failure(voiceflow: Program, eight: EightByEight) -> None:
    enqueued(voiceflow.folder, 3)
    assert menu_line(voiceflow) is None
    for place, menu in enumerate(["main", "desk", "people", "main"]):
        within(voiceflow.folder, lambda engine: engine.queue.enqueue(flow(number(10 + place)), menu=menu))  # noqa: B023
    within(voiceflow.folder, lambda engine: Heartbeats(engine.store).receiver("without menus"))
    within(voiceflow.folder, lambda engine: Heartbeats(engine.store, menus=["people"]).receiver("with another"))
    line = menu_line(voiceflow)
    assert line is not None
    assert (line["level"], "no running receiver serves desk, main:" in line["message"]) == ("failure", True)
    assert "`voiceflow serve --ivr MODULE:MENU`" in line["remedy"]
    assert line["message"] in voiceflow("status").out
    within(voiceflow.folder, lambda engine: Heartbeats(engine.store, menus=["main", "desk"]).receiver("with them"))
    assert menu_line(voiceflow) is None


@pytest.mark.slow
def test_every_running_receiver_serves_the_menus_that_its_own_lead_to(voiceflow: Program, eight: EightByEight) -> None:
    people = 'people = Menu("people", prompt="Press one.")\npeople.on("1", goto="Thanks.")\nmain.on("2", goto=people)\n'
    (voiceflow.folder / "shop.py").write_text(MENU + people)
    within(voiceflow.folder, lambda engine: engine.queue.enqueue(flow(number(2)), menu="people"))
    assert menu_line(voiceflow) is not None
    with Spawned(["serve", "--port", "0", "--ivr", "shop:main"], voiceflow.folder) as serve:
        serve.wait_for("ready on")
        assert menu_line(voiceflow) is None
        assert serve.stop().code == 0


# -- the queue ---------------------------------------------------------------------------------------------------------


CONDITIONS = {"workers", "faults", "outcomes", "holds", "imports", "records", "doubts"}


def test_what_stands_in_the_way_of_calls_is_told_by_the_doctor_and_by_status_alike(voiceflow: Program) -> None:
    """A doubt, calls without a worker, holds of all kinds; a cancelled batch is nothing to mend."""

    async def work(engine: Engine) -> None:
        now, kinds = engine.store.clock.now(), frozenset({GateKind.MAY_LACK})
        reason, until = "8x8 asks for a wait of 60 s (429)", now + timedelta(seconds=60)
        await engine.queue.hold(reason="lunch")
        await hold_until_left(engine.store, "default", batch_id="march", reason="a wrong date")
        await order_gate(engine.store, Gate.of("default", None, GateState.HELD, since=now, reason=HELD, kinds=kinds))
        await order_gate(engine.store, Gate.of("default", "may", GateState.HELD, since=now, reason=reason, until=until))
        await engine.queue.cancel_batch("april")

    in_doubt(voiceflow.folder)
    enqueued(voiceflow.folder, 1, batch="april")
    enqueued(voiceflow.folder, 3)
    within(voiceflow.folder, work)
    store = ("--store", url_of(voiceflow.folder))
    found = [line for line in voiceflow("doctor", "--json", *store).lines if line["check"] in CONDITIONS]
    told = [(line["check"], line["level"], line["message"], line["remedy"] or "") for line in found]
    expected = [
        ("workers", "warning", "no worker is running, but 3 calls are due, the oldest for", "`voiceflow worker`"),
        (
            "holds",
            "failure",
            "queue default is held until somebody resumes it: lunch",
            "do not resume yet: what the lines after this one say, then add opt-outs",
        ),
        ("holds", "warning", "queue default is also held: the store was rolled back to an older state", ""),
        ("holds", "warning", "batch march is held until somebody resumes it: a wrong date", "--batch march`"),
        ("holds", "warning", "batch may is held until", "wait: a hold with a time ends by itself"),
        ("doubts", "warning", "in doubt: 1 call may have been placed, and will not be sent", "`voiceflow reconcile`"),
    ]
    assert [each[:2] for each in told] == [each[:2] for each in expected], told
    for each, (_, _, message, remedy) in zip(told, expected, strict=True):
        assert message in each[2]
        assert remedy in each[3]
        assert "do not resume" not in each[3] or "resume the queue" not in each[2], "both"
    shown = voiceflow("status", *store).out
    assert all(message in shown for _, _, message, _ in told if not message.startswith("no worker"))
