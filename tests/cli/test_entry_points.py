"""A campaign is the same thing wherever it is started: by command, file of options, HTTP and program."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import anyio
import pytest

from tests.api.clients import program
from tests.campaigns.field_cases import FIELD_CASES, GIVEN_AGAIN, MENDED, texts_of
from tests.cli.entry_points import CASES, MENUS, READ, SOURCE, WORDS, Fields, of, people_of
from tests.cli.running import Program
from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.started import report_of
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, Campaign, InvalidInputError, Store, load_settings, open_store
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.ivr.loading import load_menus
from voiceflow_worker.model.jobs.call_json import result_of
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.service.named_call import read_call
from voiceflow_worker.service.on_call import Escalation

FLAGS = {"--replace", "--remove-missing", "--skip-bad"}


async def by_python(folder: Path, fields: Fields, store: Store, *, dry_run: bool) -> str:
    try:
        campaign = Campaign.of({**fields, "file": folder / "people.csv"}, settings=load_settings())
        queue = CallQueue(store)
        report = await (campaign.preview(queue) if dry_run else campaign.start(queue, by="Li"))
    except (InvalidInputError, CampaignFileError) as error:
        return str(error)
    return "\n".join(map(str, report.findings)) if report.preview is None else json.dumps(report.preview.as_json())


async def by_http(folder: Path, fields: Fields, store: Store, *, dry_run: bool) -> str:
    module = fields.get("ivr")
    menus = load_menus([module] if module else [], folder=folder)
    definition = {**fields, **({"ivr": module.rpartition(":")[2]} if module else {})}
    definition.setdefault("batch", "people")  # without one, it is made from the key
    people, asked = (folder / "people.csv").read_bytes(), json.dumps(definition)
    async with program(store, menus=menus, source=None, voice_profile=None) as client:
        answer = await client.post(
            f"/v1/campaigns{'?dry_run=1' if dry_run else ''}",
            headers={"Idempotency-Key": f"people-{crc32(asked.encode() + people)}"},
            files={"definition": (None, asked, "application/json"), "file": ("people.csv", people)},
        )
    findings = [f"{str(found.get('pointer', '')).strip('/')}: {found}" for found in answer.json()["findings"]]
    return "\n".join([answer.text, *findings])


BY = {"http": by_http, "python": by_python}
WITHOUT_OPTION = {each.name for each in fields_of(Of.CAMPAIGN).values() if not each.metavar} - {
    name.removeprefix("--").replace("-", "_") for name in FLAGS
}
"""The fields that a command takes from the file of a campaign."""


def begun(
    voiceflow: Program, entry: str, fields: Fields, *, dry_run: bool = False, people: str | None = None
) -> tuple[list[dict[str, Any]], str]:
    """What is stored of a campaign that was begun in this way, and what the person was told."""
    folder = voiceflow.folder
    (folder / "people.csv").write_text(people_of(fields) if people is None else people, encoding="utf-8")
    (folder / "menus_of_campaign.py").write_text(MENUS, encoding="utf-8")
    told = ""
    if entry in {"command", "toml"}:
        in_file = {name: each for name, each in fields.items() if entry == "toml" or name in WITHOUT_OPTION}
        given = [(f"--{name.replace('_', '-')}", each) for name, each in fields.items() if name not in in_file]
        options = [part for name, value in given for part in (name, value)[: 1 if name in FLAGS else 2]]
        content = "".join(f"{name.replace('_', '-')} = {json.dumps(value)}\n" for name, value in in_file.items())
        (folder / "kept.toml").write_text(content, encoding="utf-8")
        options += ["--campaign", "kept.toml"] if in_file else []
        ended = voiceflow(
            "enqueue", "people.csv", *options, "--store", f"sqlite:///{entry}.db", *(["--dry-run", "--json"] * dry_run)
        )
        told = ended.out + ended.err

    async def run() -> tuple[list[dict[str, Any]], str]:
        async with open_store(f"sqlite:///{folder / entry}.db") as store:
            said = told
            if entry in BY:
                said = await BY[entry](folder, fields, store, dry_run=dry_run)
            jobs = sorted(await CallQueue(store).find(), key=lambda job: job.destination)
            return [{**of(job), "result": result_of(job)} for job in jobs], said

    return anyio.run(run)


EACH = {"fields", "menu", "a text before a menu", "times of a column"}
"""What a field means is judged once, and the wiring of each interface by the case with most fields, and by menus."""


@pytest.mark.parametrize("case", CASES)
def test_a_campaign_stores_the_same_calls_wherever_it_is_started(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    settings, fields, expected = CASES[case]
    for name, value in settings.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    entries = ("command", "toml", "http", "python") if case in EACH else ("command", "python")
    stored = {entry: begun(voiceflow, entry, fields) for entry in entries}
    calls, told = stored["command"]
    assert len(calls) == 3, told
    for entry, (others, said) in stored.items():
        assert others == calls, (entry, said)
    calls = sorted(calls, key=lambda call: call["data"]["name"])
    actions = [call["body"]["callflow"] for call in calls]
    first = calls[0]
    found = {
        **first,
        "sources": [each[0]["params"]["source"] for each in actions],
        "voices": [each[1]["params"]["voiceProfile"] for each in actions],
        "texts": [each[1]["params"].get("text") for each in actions],
        "questions": [each[1]["params"].get("promptMessage") for each in actions],
        "actions": [each["action"] for each in actions[0]],
        "windows": [each["window"] for each in calls],
        "zones": [each["time_zone"] for each in calls],
        "due": [each["due_at"] for each in calls],
    }
    assert {name: found[name] for name in expected} == expected


ELSEWHERE = {
    "campaign": "it is how the file of options is given",
    "data": "no text of a command or a form can give it",
    "encoding": "it is for tables that are not UTF-8",
    "file": "each start has it",
    "menu": "a template asks its question",
    "rejects": "concerns one run",
    "rows": "only a program has them",
    "sheet": "it is for workbooks",
    "template": "it replaces `say`",
}
"""The fields that no case has, each with the reason."""


def test_every_field_of_a_campaign_is_in_the_table() -> None:
    given_again = {name for _, _, fields, *_ in GIVEN_AGAIN.values() for name in fields}
    covered = {name for _, fields, _ in CASES.values() for name in fields} | given_again
    assert covered | ELSEWHERE.keys() == set(fields_of(Of.CAMPAIGN))


@pytest.mark.parametrize("entry", ["command", "toml", "http", "python"])
def test_a_preview_assumes_the_rate_of_the_settings(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("VOICEFLOW_RATE", "3")
    fields = {**WORDS, **READ, **SOURCE}
    calls, told = begun(voiceflow, entry, fields, dry_run=True)
    assert calls == []
    shown = re.search(r'"rate": ?([\d.]+)|\(rate: ([\d.]+) calls/s\)', told)
    assert shown is not None, told
    assert float(shown[1] or shown[2]) == 3


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("command", "--valid-for: "),
        ("toml", "kept.toml: valid-for: "),
        ("http", "valid_for: "),
        ("python", "valid_for: "),
    ],
)
def test_a_wrong_field_is_named_as_it_is_where_it_was_given(voiceflow: Program, entry: str, name: str) -> None:
    calls, told = begun(voiceflow, entry, {**WORDS, **READ, **SOURCE, "valid_for": "7200"})
    assert calls == []
    assert f"{name}&#39;7200&#39; is not a duration" in told or f"{name}'7200' is not a duration" in told


def emptied(folder: Path) -> None:
    """Leave no store in a folder."""
    for file in folder.glob("*.db*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


EVERYDAY = (
    "a yes and a no", "an empty name, and a word for nothing", "a column that is ignored",
    "a day in UTC, or an evening", "no rows",
)  # fmt: skip


@pytest.mark.parametrize("entry", ["command", "toml", "http", "python", "rows", "http rows"])
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_field_case_is_heard_or_told_alike_wherever_the_campaign_is_started(
    voiceflow: Program, entry: str, *, every: bool
) -> None:
    for name, case in FIELD_CASES.items():
        if (name in EVERYDAY) is every or (case.is_of_files and "rows" in entry):
            continue
        emptied(voiceflow.folder)
        fields = {"batch": "people", **SOURCE, **case.fields}
        if "rows" in entry:
            jobs, told = anyio.run(of_rows, voiceflow.folder, entry, fields, case.people)
        else:
            stored, told = begun(voiceflow, entry, fields, people=case.table)
            jobs = [each["body"]["callflow"][1]["params"]["text"] for each in stored]
        assert sorted(jobs) == [*case.heard], (name, told)
        assert case.told.casefold() in html.unescape(told).casefold(), name


BODY = {
    "callflow": [
        {"action": "makeCall", "params": {"source": SOURCE["source"], "destination": "+6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": SOURCE["voice_profile"]}},
    ]
}
GIVEN_HOURS: Mapping[str, tuple[str, str, str | None]] = {
    "none": ("", "", None),
    "any": ("any", "", ""),
    "hours": ("09:00-20:00", "", "09:00-20:00 mon-sun"),
    "setting": ("", "", "10:00-18:00 mon-sun"),
    "column": ("any", "08:00-12:00", "08:00-12:00 mon-sun"),
}
"""The field, the cell of the column, and the window of the call; None if the campaign is refused."""


@pytest.mark.parametrize("hours", GIVEN_HOURS)
@pytest.mark.parametrize("entry", ["command", "toml", "http", "python", "rows", "http rows"])
def test_a_campaign_says_at_which_hours_phones_may_ring(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, entry: str, hours: str
) -> None:
    monkeypatch.setenv("VOICEFLOW_WINDOW", "10:00-18:00" if hours == "setting" else "")
    given, cell, expected = GIVEN_HOURS[hours]
    fields = {**SOURCE, "say": "Hello.", "batch": "hours", **({"window": given} if given else {})}
    row = {"destination": "+6587654321", "name": "Ana", **({"window": cell} if cell else {})}
    if "rows" in entry:
        windows, told = anyio.run(of_rows, voiceflow.folder, entry, fields, [row], windows_of)
    else:
        stored, told = begun(voiceflow, entry, fields, people=f"{','.join(row)}\n{','.join(row.values())}\n")
        windows = [each["window"] or "" for each in stored]
    assert windows == ([] if expected is None else [expected])
    assert ("campaign does not say when phones may ring. " in html.unescape(told)) is (expected is None), told


def windows_of(jobs: Sequence[Job]) -> list[str]:
    return ["" if job.window is None else str(job.window) for job in jobs]


def test_only_a_campaign_waits_for_the_usual_hours(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFLOW_WINDOW", "10:00-18:00")
    settings, now = load_settings(**SOURCE), datetime.now(UTC)
    assert read_call({"to": "+6587654321", "say": "Hello."}, key="k", settings=settings, now=now).window is None
    assert Escalation.of({"numbers": ["+6587654321"], "say": "Help."}, settings=settings).window is None
    (voiceflow.folder / "body.json").write_text(json.dumps(BODY), encoding="utf-8")
    monkeypatch.delenv("VOICEFLOW_WINDOW")
    assert voiceflow("enqueue", "body.json").code == 0
    (voiceflow.folder / "bodies.jsonl").write_text(json.dumps(BODY) + "\n", encoding="utf-8")
    for arguments, code in ((("check", "bodies.jsonl"), 0), (("enqueue", "bodies.jsonl"), 2)):
        assert voiceflow(*arguments).code == code


async def of_rows(
    folder: Path,
    entry: str,
    fields: Fields,
    people: Sequence[Mapping[str, str]],
    found: Callable[[Sequence[Job]], list[str]] = texts_of,
) -> tuple[list[str], str]:
    """What is found of the calls of rows that a program gives, such as their texts, and what it was told."""
    async with open_store(f"sqlite:///{folder / 'rows'}.db") as store:
        if entry == "rows":
            campaign = Campaign.of({**fields, "rows": people}, settings=load_settings())
            try:
                told = "\n".join(map(str, (await report_of(campaign.start(CallQueue(store)))).findings))
            except InvalidInputError as error:
                told = str(error)
        else:
            async with program(store, source=None, voice_profile=None) as client:
                definition = {**fields, "rows": people}
                answer = await client.post("/v1/campaigns", json=definition, headers={"Idempotency-Key": "people-rows"})
                told = answer.text
        return found(await CallQueue(store).find()), told


SAID = ("--source", SOURCE["source"], "--voice-profile", SOURCE["voice_profile"])
REFUSED: Mapping[str, str] = {
    "Do not call!": "x", "Attending!": "no", "a*": "=x", "b=": "!no", 'c, "d"': 'e, "f"', "=": "None",
    "two\nlines": "*",
}  # fmt: skip
"""Columns, each with what those have in it who are not to be called."""


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entry", ["command", "toml", "http", "python"])
def test_what_is_proposed_leaves_out_exactly_those_whom_it_counts(
    voiceflow: Program, entry: str, *, every: bool
) -> None:
    url = f"sqlite:///{voiceflow.folder / entry}.db"

    async def ring() -> list[str]:
        async with open_store(url) as store:
            engine = Engine(store, voice := ScriptedVoice())
            await engine.send()
            return sorted(each[-1] for each in voice.rang)

    for column, value in REFUSED.items():
        if (column in {"Attending!", "two\nlines"}) is every:
            continue
        emptied(voiceflow.folder)
        cells = [value if place in {1, 4} else "" for place in range(6)]
        lines = [["destination", column], *([f"+658765432{place}", cell] for place, cell in enumerate(cells))]
        table = io.StringIO()
        csv.writer(table).writerows(lines)
        fields: dict[str, Any] = {**SOURCE, "say": "Hello.", "batch": "people"}
        _, told = begun(voiceflow, "command", fields, dry_run=True, people=table.getvalue())
        (unread,) = json.loads(told.partition("\n")[0])["unread"]
        assert unread == {"column": column, "values": {"": 4, value: 2}}
        if entry in {"command", "toml"}:
            shown = voiceflow("check", "people.csv", "--say", "Hello.", *SAID)
            if "=" in {column[:1], value[:1]} or value[:1] == "!":  # nobody can type it
                assert "--leave-out" not in shown.out, shown.out
                continue
            *_, option = re.findall("--leave-out (.*)", shown.out)
            fields["leave_out"] = shlex.split(option)[0]
        else:
            fields["leave_out"] = [{"column": column, "value": value, "is": True}]
        _, told = begun(voiceflow, entry, fields, people=table.getvalue())
        assert anyio.run(ring) == ["0", "2", "3", "5"], (column, told)


WIRING = ("other words", "a visit that moved, changed", "a cell repaired", "off the list")


@pytest.mark.parametrize(
    "rings_first", [pytest.param(False, id="waiting"), pytest.param(True, id="called", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entry", ["command", "http", "python"])
def test_a_list_given_again_does_the_same_wherever_it_is_given(
    voiceflow: Program, entry: str, *, every: bool, rings_first: bool
) -> None:
    """Every day each case as a program gives it, and of the other interfaces what each passes on."""
    url, rang = f"sqlite:///{voiceflow.folder / entry}.db", Counter[str]()

    async def ring(clock: ManualClock | None) -> None:
        async with open_store(url, clock=clock) as store:
            engine = Engine(store, voice := ScriptedVoice())
            for _ in range(3):  # a second call to one number waits for the first
                for job in await engine.send():
                    await engine.summarise(job)
                if clock is not None:
                    clock.advance(timedelta(hours=1))
            rang.update(voice.rang)

    for name, (first, second, ordered, results, said) in GIVEN_AGAIN.items():
        if (entry == "python" or name in WIRING) is every:
            continue
        emptied(voiceflow.folder)
        rang.clear()
        fields = {**READ, **SOURCE, "time_zone": "Asia/Singapore", "batch": "march", "say": "Hello."}
        begun(voiceflow, entry, {**fields, **(MENDED if ordered is MENDED else {})}, people=first)
        if rings_first:
            anyio.run(ring, None)
        calls, told = begun(voiceflow, entry, {**fields, **ordered}, people=second)
        if not rings_first:
            assert (Counter(each["result"] for each in calls), said in html.unescape(told)) == (results, True), name
        anyio.run(ring, ManualClock(datetime(2100, 1, 1, tzinfo=UTC)))
        people = {f"+65{number.replace(' ', '')}" for number in re.findall("8765 43..", first + second)}
        gone = {"+6587654322"} if "cancelled" in results and not rings_first else set[str]()
        assert rang == dict.fromkeys(people - gone, 1), name
