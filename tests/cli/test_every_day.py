"""The recipes of the page *Every day*: each is what its tool reads, and its command calls each person once a day."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from tests.cli.running import Program
from tests.cli.stored import url_of, within
from tests.docs.pages import DOCS, Block, blocks
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker.campaigns import campaign
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.model.jobs.job import Job

PAGE = DOCS / "every-day.md"
CRON_JOB: dict[str, Any] = yaml.safe_load((DOCS / "deploy" / "kubernetes-daily.yaml").read_text("utf-8"))
FILES = ["people.csv", "reminder.toml"]
NUMBERS = ["+6587654321", "+6587654322"]
NINE = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)
"""Nine o'clock in Singapore, on a Wednesday."""


def block(language: str, beginning: str = "") -> Block:
    (found,) = (each for each in blocks(PAGE, language=language) if each.text.startswith(beginning))
    return found


def unit(name: str) -> ConfigParser:
    """The unit of systemd with this name on the page."""
    parsed = ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(block("ini", f"# /etc/systemd/system/{name}\n").text)
    return parsed


def crontab() -> tuple[dict[str, str], list[str], str]:
    """The variables, the five fields and the command of the crontab."""
    *lines, entry = block("crontab").text.splitlines()
    *fields, command = entry.split(maxsplit=5)
    return dict(line.split("=", 1) for line in lines), fields, command


def commands() -> dict[str, list[str]]:
    """The arguments of `voiceflow` in each recipe."""
    _, _, of_cron = crontab()
    (container,) = CRON_JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (typed,) = re.findall(r"^    voiceflow (enqueue .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {
        "typed": shlex.split(typed),
        "cron": shlex.split(of_cron.partition("/usr/local/bin/voiceflow ")[2]),
        "systemd": shlex.split(unit("reminder.service")["Service"]["ExecStart"])[1:],
        "kubernetes": container["args"],
    }


@pytest.fixture
def daily(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page, settings, and a list."""
    for name, value in (
        ("STORE", url_of(voiceflow.folder)), ("SOURCE", "+6531234567"), ("VOICE_PROFILE", "en-US-JennyNeural"),
    ):  # fmt: skip
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    (voiceflow.folder / "reminder.toml").write_text(block("toml").text, encoding="utf-8")
    people = [f"{number},{name}\n" for number, name in zip(NUMBERS, ("Ana", "Ben"), strict=True)]
    (voiceflow.folder / "people.csv").write_text("".join(["destination,name\n", *people]), encoding="utf-8")
    return voiceflow.folder


class Day:
    """The time of this process, which a test sets."""

    at: datetime = NINE


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> Day:
    set_to, read_fields = Day(), campaign.read_fields
    monkeypatch.setattr(SystemClock, "now", lambda _: set_to.at)
    monkeypatch.setattr(campaign, "read_fields", lambda *given, **how: read_fields(*given, **{**how, "now": set_to.at}))
    return set_to


def rung(folder: Path) -> list[str]:
    """Whom a worker rings now."""
    voice = ScriptedVoice()

    async def send(engine: Engine) -> list[str]:
        return [job.destination for job in await engine.send()]

    return within(folder, send, voice=voice)


@pytest.mark.parametrize("recipe", commands())
def test_a_recipe_calls_each_person_once_a_day(voiceflow: Program, daily: Path, day: Day, recipe: str) -> None:
    """The same text and list on three days, and the command twice on each of them."""
    for since in range(3):
        rang = Counter[str]()
        for hour in (0, 2):
            day.at = NINE + timedelta(days=since, hours=hour)
            ended = voiceflow(*commands()[recipe], "--json")
            assert ended.code == 0, ended
            assert ended.document["batch_id"] == f"reminder-2026-11-{25 + since}"
            assert (ended.document["enqueued"], ended.document["duplicates"]) == ((0, 2) if hour else (2, 0))
            rang.update(rung(daily))
        assert rang == Counter(NUMBERS), since


def test_a_run_that_is_made_up_on_a_saturday_or_late_calls_nobody(voiceflow: Program, daily: Path, day: Day) -> None:
    for at in (NINE + timedelta(days=3), NINE + timedelta(hours=14)):
        day.at = at
        ended = voiceflow(*commands()["systemd"])
        assert ended.code == 2
        assert "its calling window" in ended.out
        assert rung(daily) == []


def test_a_day_that_is_cancelled_takes_no_calls(voiceflow: Program, daily: Path, day: Day) -> None:
    (written,) = re.findall(r"`voiceflow (calls cancel --batch [\w-]+)`", PAGE.read_text("utf-8"))
    day.at = NINE + timedelta(days=1)
    assert voiceflow(*commands()["cron"]).code == 0
    assert voiceflow(*shlex.split(written), "--yes").code == 0
    ended = voiceflow(*commands()["cron"])
    assert (ended.code, rung(daily)) == (2, [])
    assert "batch reminder-2026-11-26 was cancelled" in ended.err
    day.at += timedelta(days=1)
    assert voiceflow(*commands()["cron"]).code == 0
    assert Counter(rung(daily)) == Counter(NUMBERS)


def test_two_machines_with_one_store_enqueue_each_person_once(daily: Path) -> None:
    """Four processes at once; each is told that its people have their calls, or that another one enqueues them."""
    toml = daily / "reminder.toml"
    toml.write_text(re.sub(r"^(window|days) .*$", "", toml.read_text("utf-8"), flags=re.MULTILINE) + 'window = "any"\n')
    command = [sys.executable, "-m", "voiceflow_worker", *commands()["typed"]]

    def run(_: int) -> int:
        return subprocess.run(command, cwd=daily, capture_output=True, check=False, timeout=60).returncode

    with ThreadPoolExecutor(4) as machines:
        assert set(machines.map(run, range(4))) == {0}

    async def found(engine: Engine) -> list[Job]:
        return list(await engine.queue.find())

    jobs = within(daily, found)
    assert Counter(job.destination for job in jobs) == Counter(NUMBERS)
    assert len({job.batch_id for job in jobs}) == 1


# -- what the tools read -----------------------------------------------------------------------------------------------


def test_each_recipe_has_the_command_of_the_page() -> None:
    assert len({tuple(each) for each in commands().values()}) == 1


_HIGHEST = (59, 23, 31, 12, 7)


def test_the_crontab_is_one() -> None:
    variables, fields, command = crontab()
    assert ZoneInfo(variables["CRON_TZ"]).key == "Asia/Singapore"
    for field, highest in zip(fields, _HIGHEST, strict=True):
        assert field == "*" or all(0 <= int(each) <= highest for each in re.findall(r"\d+", field)), field
        assert re.fullmatch(r"\*|\d+(-\d+)?", field)
    assert "%" not in command, "it would end the command"
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_the_units_are_read_by_systemd(tmp_path: Path) -> None:
    service, timer = unit("reminder.service"), unit("reminder.timer")
    assert service["Service"]["Type"] == "oneshot"
    assert (timer["Timer"]["Persistent"], timer["Install"]["WantedBy"]) == ("true", "timers.target")
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("there is no systemd-analyze here: install systemd")
    at = timer["Timer"]["OnCalendar"]
    read = subprocess.run([analyze, "calendar", "--iterations=3", at], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert "Normalized form: Mon..Fri *-*-* 09:00:00 Asia/Singapore" in read.stdout
    for name in ("reminder.service", "reminder.timer"):
        text = block("ini", f"# /etc/systemd/system/{name}\n").text
        (tmp_path / name).write_text(text.replace("/usr/local/bin/voiceflow", sys.executable), encoding="utf-8")
    verified = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / "reminder.service", tmp_path / "reminder.timer"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not [line for line in verified.stderr.splitlines() if "reminder." in line], verified.stderr


def test_the_cron_job_starts_at_the_same_time_and_has_the_secret_of_the_store_alone() -> None:
    variables, fields, _ = crontab()
    spec = CRON_JOB["spec"]
    assert (spec["schedule"].split(), spec["timeZone"]) == (fields, variables["CRON_TZ"])
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes.keys() == {each["name"] for each in container["volumeMounts"]}
    assert [each["key"] for each in volumes["secrets"]["secret"]["items"]] == ["store"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["restartPolicy"]) == (True, "Never")
    made = block("sh").text
    assert f"secret generic {volumes['daily']['secret']['secretName']} " in made
    assert {name for name in container["args"] if "." in name} == set(re.findall(r"--from-file=(\S+)", made))


def test_the_dag_starts_at_the_same_time_with_the_files_of_the_page() -> None:
    """It is run where Airflow is (tests/airflow)."""
    _, fields, _ = crontab()
    calls = [each for each in ast.walk(ast.parse(block("python").text)) if isinstance(each, ast.Call)]
    given = {each.arg: ast.unparse(each.value) for call in calls for each in call.keywords}
    assert given["schedule"] == repr(" ".join(fields))
    assert [given[name] for name in ("file", "campaign")] == [repr(f"/data/{name}") for name in FILES]
    assert given["catchup"] == "False"
