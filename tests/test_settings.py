from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
import traceback
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.deploy.proxies import DEPLOY
from tests.support.company_proxy import AUTHORITY
from tests.support.company_proxy import CERTIFICATE as COMPANY
from tests.support.wrong_settings import WRONG
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource, PersonLimit
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.web_address import Proxy, is_among, read_hosts
from voiceflow_worker.settings import load_settings, unknown_variables


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message_of(**options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(options_place=None, **options)
    return str(caught.value)


def test_an_option_beats_the_environment_beats_dotenv_and_what_is_empty_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(
        "VOICEFLOW_RATE=5\nVOICEFLOW_BURST=6\nVOICEFLOW_CONCURRENCY=7\nVOICEFLOW_SOURCE=+6531234567\nVOICEFLOW_QUEUE=\n"
    )
    for name, value in {"RATE": "8", "BURST": "9", "SOURCE": " ", "API_KEY": ""}.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    settings = load_settings(rate=10)
    assert (settings.rate, settings.burst, settings.concurrency, settings.max_active) == (10, 9, 7, None)
    assert (settings.source, settings.api_key, settings.queue) == ("+6531234567", None, "default")
    places = {each.variable: each.place for each in settings.shown()}
    assert [places[f"VOICEFLOW_{name}"] for name in ("RATE", "BURST", "CONCURRENCY", "LEASE")] == [
        *("--rate (given directly)", "VOICEFLOW_BURST (the environment)", "VOICEFLOW_CONCURRENCY (.env)", "the default")
    ]
    assert unknown_variables() == ()


def test_a_rate_is_a_number_or_unlimited() -> None:
    assert [load_settings(rate=text).rate for text in ("10", "0.5", "Unlimited")] == [10, 0.5, None]
    for text in ["0", "-1", "fast", "nan", "inf", "", "1e-13", "5e-324"]:
        with pytest.raises(SettingsError, match="give calls per second"):
            load_settings(rate=text)


def test_a_wrong_value_is_reported_with_its_name_its_place_and_what_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOICEFLOW_RATE", "fast")
    Path(".env").write_text("VOICEFLOW_LEASE=a while\nVOICEFLOW_BURST=0\n")
    message = message_of(log_level="mars")
    assert "VOICEFLOW_RATE is 'fast' (the environment): give calls per second" in message
    assert "VOICEFLOW_LEASE is 'a while' (.env): give a number with a unit" in message
    assert "VOICEFLOW_BURST is '0' (.env): it should be greater than or equal to 1" in message
    assert "--log-level is 'mars' (given directly): it should be 'debug', 'info'" in message
    assert "--concurrency is 'many' (given directly): give a whole number" in message_of(concurrency="many")
    assert "(given directly): give yes or no" in message_of(retry_not_created_5xx="perhaps")
    assert "--colour is not a setting" in message_of(colour="red")


def test_each_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"QUEUE": "Reminders", "SUB_ACCOUNT": "a b", "BASE_URL": "voice.8x8.com", "LEASE": "0", "LOG_LEVEL": "loud"}
    wrong |= {"SHUTDOWN_GRACE": "-1s", "MAX_ACTIVE": "0", "OUTCOMES": "polling", "WEBHOOK_ALLOW": "10.0.0.1/8"}
    for name, value in wrong.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    message = message_of()
    assert all(f"VOICEFLOW_{name} is {value!r} (the environment): " in message for name, value in wrong.items())


def test_networks_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_ALLOW", "18.140.80.2, 52.0.0.0/8,")
    settings = load_settings(trusted_proxies=["10.0.0.0/8", "::1"])
    assert settings.webhook_allow == (ip_network("18.140.80.2/32"), ip_network("52.0.0.0/8"))
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def test_a_secret_is_read_from_the_file_that_a_name_ending_in_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("key").write_text("s3cret-key\r\n")
    monkeypatch.setenv("VOICEFLOW_API_KEY_FILE", "key")
    Path(".env").write_text("VOICEFLOW_QUEUE_FILE=queue.txt\n")
    Path("queue.txt").write_text("reminders\n")
    settings = load_settings()
    assert settings.api_key == SecretStr("s3cret-key")
    assert settings.queue == "reminders"


STORE = "sqlite:///calls.db"


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", [STORE, f'"{STORE}"', f"\n\n  '{STORE}' \t\r\n\n"])
def test_a_value_is_read_from_a_file_as_people_write_it(monkeypatch: pytest.MonkeyPatch, form: str, text: str) -> None:
    Path("store").write_bytes(text.encode(form))
    monkeypatch.setenv("VOICEFLOW_STORE_FILE", " store\n")
    assert load_settings().store == STORE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "which cannot be read: No such file"),
        (b"\xef\xbb\xbf\r\n", "has 0 lines: write the value alone into it"),
        (b"VOICEFLOW_API_KEY=1\nVOICEFLOW_STORE=sqlite:///a.db\n", "has 2 lines: write the value alone into it"),
        (b"sqlite:///caf\xe9.db", "cannot be read: it is not UTF-8 text"),
    ],
)
def test_a_file_without_one_value_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, text: bytes | None, why: str
) -> None:
    if text is not None:
        Path("store").write_bytes(text)
    monkeypatch.setenv("VOICEFLOW_STORE_FILE", "store")
    assert "VOICEFLOW_STORE_FILE (the environment) names store, which" in message_of()
    assert why in message_of()


LINES = {
    "A=postgresql://v:p%40w@db/calls?a=b&schema=c": "postgresql://v:p%40w@db/calls?a=b&schema=c",
    "A=pa$HOME${HOME};rm `x` & (y) <z>": "pa$HOME${HOME};rm `x` & (y) <z>",
    "# c\n\nexport A = b # d": "b",
    "A='a # b'\r\nB=c\r\n": "a # b",
    'A="a\nb"': "a\nb",
    "A=b\nA=c=d": "c=d",
    "A=Bearer é b": "Bearer é b",
}


def test_a_file_of_settings_is_read_as_dotenv_does_and_a_dollar_means_itself() -> None:
    for line, value in LINES.items():
        Path(".env").write_text(line.replace("A", "VOICEFLOW_STORE"), newline="")
        assert load_settings().store == value, line
    for text, at in {"C d": 1, "RATE=1\n\n: b\nE=f": 3, "A='b\nB=c": 1, "A='it''s' x": 1}.items():
        Path(".env").write_text(text)
        assert f".env has no NAME=value in line {at}: " in message_of(), text
    Path(".env").write_bytes(b"VOICEFLOW_SOURCE=\xff\n")
    assert ".env cannot be read: it is not UTF-8 text" in message_of()
    Path(".env").unlink()
    Path(".env").mkdir()  # as Docker mounts a file that does not exist
    assert ".env cannot be read: Is a directory" in message_of()


def test_a_path_that_begins_with_the_home_of_nobody_is_named() -> None:
    for name in ("API_KEY_FILE", "CA_FILE", "STATE_DIR", "ESCALATIONS", "API_SECRETS"):
        Path(".env").write_text(f"VOICEFLOW_{name}=~nobody-has-this-name/x\n")
        said = f"VOICEFLOW_{name} is '~nobody-has-this-name/x' (.env): ~nobody-has-this-name is no home directory here"
        assert said in message_of(), name


def test_a_file_is_not_looked_at_when_a_more_important_place_gives_the_value() -> None:
    Path(".env").write_text("VOICEFLOW_API_KEY_FILE=/nowhere/key\n")
    for secret in ("direct", SecretStr("direct")):
        assert load_settings(api_key=secret).api_key == SecretStr("direct")


def test_a_value_and_its_file_in_one_place_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "a")
    monkeypatch.setenv("VOICEFLOW_API_KEY_FILE", "b")
    assert "VOICEFLOW_API_KEY and VOICEFLOW_API_KEY_FILE are both set (the environment)" in message_of()


def test_a_line_that_gives_no_value_is_refused_with_its_number() -> None:
    for line in ("VOICEFLOW_RATE", "export VOICEFLOW_RATE", "[Service]", "[Service] # of systemd", "RATE 5"):
        Path(".env").write_text(f"# ours\nVOICEFLOW_STORE={URL}\n\n{line}\nVOICEFLOW_BURST=2\n")
        assert "has no NAME=value in line 4: write it so" in message_of(), line
        assert "line 4" in message_of(rate=5), "whatever else is given"


def test_who_needs_the_store_alone_does_without_what_is_wrong_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WRONG.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    Path(".env").write_text("VOICEFLOW_QUEUE=mine\nVOICEFLOW_BURST=3\n")
    problems: list[str] = []
    settings = load_settings(problems.append, wait_for_store="1s")
    assert (settings.queue, settings.burst, settings.wait_for_store) == ("mine", 3, timedelta(seconds=1))
    assert (settings.rate, settings.api_key, settings.proxy, settings.log_level) == (10.0, None, None, "info")
    assert len(problems) == len(set(problems))
    for name in WRONG:
        assert any(name in problem for problem in problems), name
    for wrong in ({"queue": "Not One"}, {"wait_for_store": "long"}, {"rate": "fast"}):
        with pytest.raises(SettingsError, match=next(iter(wrong)).replace("_", "[-_]")):
            load_settings(problems.append, options_place=None, **wrong)
    monkeypatch.setenv("VOICEFLOW_STORE_FILE", "/nowhere/store")
    with pytest.raises(SettingsError, match="STORE_FILE"):
        load_settings(problems.append)


def test_no_secret_is_shown_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "WEBHOOK_SECRET", "UI_SECRET", "UI_OPERATOR_SECRET"):
        monkeypatch.setenv(f"VOICEFLOW_{name}", "hunter2")
    monkeypatch.setenv("VOICEFLOW_STORE", "redis://:hunter2@localhost/0")
    settings = load_settings()
    assert "hunter2" not in repr(settings) + str(settings) + str(settings.shown())
    assert "redis://***@localhost/0" in str(settings.shown())


@pytest.mark.parametrize("name", ["API_KEY", "WEBHOOK_SECRET", "UI_SECRET", "UI_OPERATOR_SECRET"])
def test_a_bad_secret_is_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"VOICEFLOW_{name}", "hunter2\nhunter2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"VOICEFLOW_{name} (the environment): it has a line break" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_what_kubernetes_says_of_a_service_called_voiceflow_is_no_unknown_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = "tcp://10.0.0.1:8080"
    names = {"SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "8080", "SERVICE_PORT_HTTP": "8080", "PORT": address}
    names |= {"PORT_8080_TCP": address, "PORT_8080_TCP_PROTO": "tcp", "PORT_8080_TCP_PORT": "8080"}
    names |= {"PORT_8080_TCP_ADDR": "10.0.0.1", "UI_SERVICE_HOST": "10.0.0.2", "UI_PORT_80_TCP": address}
    for name, value in names.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    assert unknown_variables() == ()
    monkeypatch.setenv("VOICEFLOW_PORTS", "1")
    assert [found.name for found in unknown_variables()] == ["VOICEFLOW_PORTS"]


def test_names_that_are_not_settings_are_reported_and_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_RAET", "5")
    Path(".env").write_text("VOICEFLOW_API_KEYS=x\nSOMETHING_ELSE=y\nVOICEFLOW_SOURCE_FILE=z\n")
    assert load_settings(source="+6531234567").rate == 10
    unknown = {found.name: (found.place, found.suggestion) for found in unknown_variables()}
    assert unknown == {
        "VOICEFLOW_RAET": ("the environment", "VOICEFLOW_RATE"),
        "VOICEFLOW_API_KEYS": (".env", "VOICEFLOW_API_KEY"),
    }


def test_the_policy_has_the_limits_that_were_set() -> None:
    assert load_settings().policy() == CallPolicy()
    changed = load_settings(
        submit_window="90s",
        clock_skew="5s",
        summary_deadline="1h",
        outcomes="none",
        export_settle="2h",
    ).policy()
    assert changed == CallPolicy(
        submit_window=timedelta(seconds=90),
        clock_skew=timedelta(seconds=5),
        summary_deadline=timedelta(hours=1),
        outcomes=OutcomeSource.NONE,
        export_settle=timedelta(hours=2),
    )


class TestRedial:
    @pytest.mark.parametrize("text", ["busy,no-answer", "NO_ANSWER, Busy", "no answer,BUSY"])
    def test_outcomes_are_named_as_people_write_them(self, text: str) -> None:
        assert load_settings(redial_on=text).redial_on == ("BUSY", "NO_ANSWER")

    def test_a_list_of_a_program_is_read(self) -> None:
        settings = load_settings(redial_on=["busy", "failed"], redial_max=2, redial_after="1h")
        assert settings.redial_on == ("BUSY", "ERROR", "FAILED")
        assert (settings.redial_max, settings.redial_after) == (2, timedelta(hours=1))

    @pytest.mark.parametrize("text", ["busy=5m,failed=2h", " BUSY = 300s , failed = 120m "])
    def test_each_outcome_may_have_its_own_wait(self, text: str) -> None:
        failures = dict.fromkeys((SessionStatus.ERROR, SessionStatus.FAILED), timedelta(hours=2))
        waits = {SessionStatus.BUSY: timedelta(minutes=5), **failures}
        settings = load_settings(redial_on="busy,failed", redial_after=text)
        assert settings.redial_after == waits
        (shown,) = (each.value for each in settings.shown() if each.variable == "VOICEFLOW_REDIAL_AFTER")
        assert load_settings(redial_after=shown).redial_after == waits

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("busy=5m,5m", "'5m' is not an outcome"),
            ("busy=5", "busy='5': it has no unit"),
            ("busy=5m,unreached=1h", "busy has two waits; keep one"),
            ("no_answer=1h", "--redial-on (given directly) and --redial-after (given directly): busy has no wait"),
        ],
    )
    def test_a_wait_that_cannot_be_meant_is_refused(self, text: str, said: str) -> None:
        assert said in message_of(redial_on="busy", redial_after=text)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("COMPLETED_UNSUBSCRIBED", "is not an outcome that can be redialled"),
            ("completed", "is not an outcome that can be redialled"),
            ("engaged", "'engaged' is not an outcome that can be redialled; give busy, no_answer"),
        ],
    )
    def test_what_is_not_a_reason_to_call_again_is_refused(self, text: str, said: str) -> None:
        assert said in message_of(redial_on=text)

    def test_it_cannot_be_less_often_than_never(self) -> None:
        assert "REDIAL_MAX" in message_of(redial_max=-1).upper().replace("-", "_")


def test_a_limit_per_person_is_attempts_within_a_span() -> None:
    settings = load_settings(max_per_person="3/24h")
    assert settings.policy().max_per_person == PersonLimit(3, timedelta(hours=24))
    assert load_settings().policy().max_per_person is None
    assert "give a number of attempts and a span of time, such as 3/24h" in message_of(max_per_person="three a day")
    assert "3/24" in message_of(max_per_person="3/24")


# -- the file of a service --------------------------------------------------------------------------------------------

URL = "postgresql://v:p%40w@db/calls?schema=c&connect_timeout=3"


def wrapper(folder: Path, file: Path) -> Path:
    """The shipped command of a deployed machine, with this file for the units' one, and our program."""
    text = (DEPLOY / "systemd" / "voiceflow").read_text(encoding="utf-8")
    text = text.replace("/etc/voiceflow/voiceflow.env", str(file)).replace(
        "/opt/voiceflow/bin/voiceflow", f"{sys.executable} -m voiceflow_worker"
    )
    made = folder / "voiceflow"
    made.write_text(text, encoding="utf-8")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made


def test_the_command_of_a_deployed_machine_opens_the_store_of_the_service(tmp_path: Path) -> None:
    calls, file = tmp_path / "state" / "the calls & more $x.db", tmp_path / "voiceflow.env"
    here = tmp_path / "here"
    for folder in (here, calls.parent):
        folder.mkdir()
    (here / ".env").write_text("VOICEFLOW_STORE=sqlite:///other.db\n")
    file.write_text(f"# ours\nVOICEFLOW_STORE=sqlite:///{calls}\nVOICEFLOW_SOURCE=+6531234567\n")
    command = wrapper(tmp_path, file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *words], cwd=here, env=environment, capture_output=True, text=True, check=False)

    done = run("hold")
    assert done.returncode == 3, done
    assert str(calls) in done.stderr
    done = run("suppress", "add", "+6581234567")
    assert done.returncode == 0, done
    assert sorted(tmp_path.rglob("*.db")) == [calls]


# -- the way out -------------------------------------------------------------------------------------------------------


def test_a_proxy_is_an_http_address() -> None:
    for address, proxy in [
        ("http://proxy.example.com:3128", Proxy("proxy.example.com", 3128)),
        (" HTTP://Proxy.example.com ", Proxy("proxy.example.com", 80)),
        ("http://proxy:3128/", Proxy("proxy", 3128)),
        ("http://[fd07::1]:8080", Proxy("fd07::1", 8080)),
        ("http://me:p%40ss@proxy:1", Proxy("proxy", 1, ("me", "p@ss"))),
        ("http://token@proxy:1", Proxy("proxy", 1, ("token", ""))),
    ]:
        settings = load_settings(proxy=address)
        assert Proxy.of(settings.proxy or "") == proxy


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("SOCKS5h://proxy:1080", "with a host"),
        ("proxy:3128", "with a host"),
        ("me:hunter2@proxy:3128", "such as http://"),
        ("http://", "with a host"),
        ("http://:3128", "with a host"),
        ("http://proxy:99999", "with a host"),
        ("http://proxy:port", "with a host"),
        ("http://proxy:0", "with a host"),
        ("http://[::1", "with a host"),
        ("http://[nonsense]:1", "with a host"),
        ("http://proxy one:3128", "with a host"),
        ("http://10.0.0.256:3128", "with a host"),
        ("http://pr\N{LATIN SMALL LETTER O WITH STROKE}xy:3128", "with a host"),
        ("http://a..b:3128", "with a host"),
        (f"http://{'x' * 64}.example.com:3128", "with a host"),
        ("http://[fe80::1%eth0]:3128", "with a host"),
        ("ftp://proxy", "with a host"),
        ("http://proxy:3128/pac", "not at its end"),
        ("http://proxy:3128?x=hunter2", "not at its end"),
        ("http://me:hunter#2@proxy:3128", "%23 for #"),
        ("http://me:hunter2/@proxy:3128", "%2F for /"),
        ("http://me:hunter2@x@proxy:3128", "%40 for @"),
    ],
)
def test_a_proxy_that_cannot_be_one_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, given: str, remedy: str
) -> None:
    monkeypatch.setenv("VOICEFLOW_PROXY", given)
    message = message_of()
    assert "VOICEFLOW_PROXY (the environment): " in message
    assert remedy in message
    assert "hunter" not in message


def test_the_password_of_a_proxy_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_PROXY", "http://me:hunter%232@proxy:3128")
    settings = load_settings()
    shown = next(each.value for each in settings.shown() if each.variable == "VOICEFLOW_PROXY")
    assert shown == "http://***@proxy:3128"
    assert "hunter" not in repr(settings) + repr(Proxy.of(settings.proxy or "")) + str(Proxy.of(settings.proxy or ""))
    assert "hunter#2" in settings.secrets()


HOSTS = ".example.com, *.corp, db.internal:8443 [::1],[fd08::1]:443,192.0.2.7:8080,Host.,10.0.0.0/8 fd07::/64"


def test_hosts_are_reached_without_the_proxy() -> None:
    for url, direct in [
        ("https://example.com", True),
        ("https://a.b.EXAMPLE.com/x", True),
        ("https://a.example.com.", True),
        ("https://badexample.com", False),
        ("https://example.com.evil.org", False),
        ("https://x.corp", True),
        ("https://db.internal:8443", True),
        ("https://a.db.internal:8443", True),
        ("https://db.internal", False),
        ("http://[::1]", True),
        ("https://[fd08::1]", True),
        ("http://[fd08::1]", False),
        ("http://192.0.2.7:8080", True),
        ("http://192.0.2.7", False),
        ("https://host", True),
        ("https://10.20.30.40", True),
        ("https://11.0.0.1", False),
        ("https://[fd07::9]:8443", True),
        ("https://[fd09::9]", False),
    ]:
        assert is_among(url, load_settings(no_proxy=HOSTS).no_proxy) is direct


def test_a_star_means_every_host_and_nothing_for_none() -> None:
    assert is_among("https://voice.8x8.com", load_settings(no_proxy="*").no_proxy)
    assert load_settings(no_proxy=" , ,").no_proxy == ()
    assert load_settings(no_proxy=["a", "b:1"]).no_proxy == ("a", "b:1")


@pytest.mark.parametrize(
    "given",
    [
        "http://db.internal", "10.0.0.1/8", "10.0.0.0/33", "db.internal/24", "/24", "db:0", "db:99999",
        "db:", "db:http", ":8080", "192.168.*", "10.0.0", "10.0.0.256", "[::1", "::1]", "[nonsense]", "[10.0.0.1]",
        "a b* c", "ex ample.com/", "db.*.com", "[fd07::1]:x", "<local>", "münchen.example",
    ],
)  # fmt: skip
def test_an_entry_that_is_no_host_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("VOICEFLOW_NO_PROXY", f"localhost,{given}")
    message = message_of()
    assert "VOICEFLOW_NO_PROXY is " in message
    assert "(the environment): " in message


_PIECES = st.sampled_from(
    ["http://", "HTTP://", "socks5://", "me", ":", "p%40ss", "@", "proxy", ".", "10.0.0.1", "256", "[", "]", "::1", "*",
     "fd07", "/", "24", "#", "?", "%", ",", " ", "\n", "\0", "é", "3128", "99999", "-", "_"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=9).map("".join))
@example("http://10.0.0.256:1")
def test_whatever_is_written_is_read_or_refused_with_a_sentence(text: str) -> None:
    with suppress(ValueError):
        proxy = Proxy.of(text)
        assert httpx.Proxy(proxy.url, auth=proxy.credentials).url.host == proxy.host
    with suppress(ValueError):
        hosts = read_hosts(text)
        assert {is_among(url, hosts) for url in ("https://voice.8x8.com", "http://[::1]:8080", "http://10.0.0.1")}


AUTHORITY_PEM = AUTHORITY.read_text()
KEY_PEM = COMPANY.read_text().partition("-----BEGIN CERTIFICATE")[0]


@pytest.mark.parametrize("content", [AUTHORITY_PEM, f"# Főtanúsítvány\n{AUTHORITY_PEM}", KEY_PEM + AUTHORITY_PEM])
def test_a_file_of_certificates_is_read(content: str) -> None:
    Path("ca.pem").write_text(content, encoding="utf-8", newline="")
    assert load_settings(ca_file="ca.pem").ca_file == Path("ca.pem")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "no certificates"),
        (ssl.PEM_cert_to_DER_cert(AUTHORITY_PEM), "no certificates"),
        (KEY_PEM.encode(), "no certificates"),
        (AUTHORITY_PEM.encode()[:300], "no certificates"),
    ],
)
def test_a_file_without_certificates_is_refused(
    monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    if content is not None:
        Path("ca.pem").write_bytes(content)
    monkeypatch.setenv("VOICEFLOW_CA_FILE", "ca.pem")
    message = message_of()
    assert "VOICEFLOW_CA_FILE is 'ca.pem' (the environment): " in message
    assert f"{why}; give a file of certificates in PEM form" in message


def test_the_usual_variables_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "http_proxy", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "x")
    settings = load_settings()
    assert (settings.proxy, settings.no_proxy, settings.ca_file) == (None, (), None)


@pytest.mark.parametrize(
    "name",
    [
        *("CONNECT_TIMEOUT", "READ_TIMEOUT", "LEASE", "SUBMIT_WINDOW", "CLOCK_SKEW", "EXPORT_SETTLE"),
        *("SUMMARY_DEADLINE", "SHUTDOWN_GRACE", "WAIT_FOR_STORE"),
    ],
)
def test_a_timeout_may_be_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"VOICEFLOW_{name}", "45")
    assert getattr(load_settings(), name.lower()) == timedelta(seconds=45)


@pytest.mark.parametrize("name", ["REDIAL_AFTER", "RETENTION", "KEY_RETENTION"])
def test_any_other_duration_needs_a_unit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"VOICEFLOW_{name}", "30")
    with pytest.raises(SettingsError, match="it has no unit; write 30m for minutes, or 30s for seconds"):
        load_settings()
    monkeypatch.setenv(f"VOICEFLOW_{name}", "30m")
    assert getattr(load_settings(), name.lower()) == timedelta(minutes=30)
