"""The form of a campaign as a browser fills it in: what is stored is what the command stores for the same choices."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest

from tests.api.clients import program
from tests.campaigns.forms import written
from tests.console.clerk import WORDS, Clerk, clerk, people
from tests.console.signing_in import Form, held
from tests.support.other_process import work_here
from voiceflow_worker import CallQueue, Campaign, Job, Store, open_store
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.lists.columns import ColumnRoles
from voiceflow_worker.campaigns.options_file import saved_options
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.console import campaigns
from voiceflow_worker.console.form import (
    FIELDS,
    FURTHER,
    PARTS,
    ROLE_WORDS,
    STEPS,
    TICKS,
    UPLOADS,
    CampaignForm,
)
from voiceflow_worker.console.sessions import PageForm
from voiceflow_worker.service.other_process import OtherProcess

__all__ = ["work_here"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("work_here")]


ROOT = Path(__file__).parents[2]
SAID = {
    "say": "Hello.", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "b",
    "window": "09:00-18:00", "days": "mon,tue,wed,thu,fri",
}  # fmt: skip


async def walked(one: Clerk, file: Path, **changes: str) -> None:
    """Upload a file, change something on its first step, go through all steps as they are, and start."""
    await sent(one, file, **SAID)
    await one.send("people", **changes)
    for step in (*STEPS, "start"):
        await one.send(step)


async def sent(one: Clerk, file: Path, **typed: str) -> None:
    data = {**dict(Form(one.shown.text).hidden), **typed, "do": "look"}
    one.shown = await one.client.post("/ui/campaign", data=data, files={"file": (file.name, read(file))})


def read(file: Path) -> bytes:
    return file.read_bytes()


async def stored(store: Store) -> list[Mapping[str, object]]:
    """All that was stored of the calls of a campaign, but for what is of this start."""
    own = {"id", "created_at", "touched_at", "due_at", "revision", "worker_id", "places", "queue"}
    jobs = await CallQueue(store).find(limit=None)
    told = ({name: getattr(job, name) for name in Job.__struct_fields__ if name not in own} for job in jobs)
    return sorted(told, key=lambda each: str(each["destination"]))


async def commanded(given: Mapping[str, object]) -> list[Mapping[str, object]]:
    """What the command stores, in another store."""
    async with open_store("memory://") as store:
        report = await Campaign.of({**SAID, **given}).start(CallQueue(store))
        assert not report.refused, report.findings
        return await stored(store)


NATIONAL = "0170 1234567"
ROLES: Mapping[str, tuple[str, str, str]] = {
    "destination": ("", "+6587654321", ""), FURTHER: ("+6587654321", "+6561234567", ""),
    "name": (NATIONAL, "Ana", "DE"),
    "country": (NATIONAL, "DE", ""), "source": (NATIONAL, "+6531234568", "DE"), "unique_key": (NATIONAL, "k", "DE"),
    "batch_id": (NATIONAL, "b", "DE"), "voice_profile": (NATIONAL, "en-GB-SoniaNeural", "DE"),
    "language": (NATIONAL, "de", "DE"), "time_zone": (NATIONAL, "Asia/Tokyo", "DE"),
    "window": (NATIONAL, "09:00-18:00", "DE"), "priority": (NATIONAL, "5", "DE"),
    "not_before": (NATIONAL, "2099-01-01T09:00:00Z", "DE"), "valid_until": (NATIONAL, "2099-01-01T09:00:00Z", "DE"),
    "ignore": (NATIONAL, "x", "DE"),
}  # fmt: skip
"""For each role: the number of a row, the cell of the column that gets the role, and the country of the campaign."""


def test_every_role_of_a_column_is_on_the_page_and_in_this_test() -> None:
    known = {each.name for each in fields(ColumnRoles)} - {"numbers", "names", "ignored"}
    assert known <= ROLE_WORDS.keys() == ROLES.keys()


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_that_is_picked_is_what_the_command_reads(memory: Store, tmp_path: Path, role: str) -> None:
    number, cell, country = ROLES[role]
    row = {"Tel": number, "Xyz": cell} if number else {"Xyz": cell}
    file = cast("Path", written(tmp_path, [row], "csv"))
    columns: Any = {"destination": ["Tel", "Xyz"]} if role == FURTHER else {"destination": "Tel", role: "Xyz"}
    async with clerk(memory) as one:
        await walked(
            one, file, country=country, **{"column Xyz": role, **({"column Tel": "destination"} if number else {})}
        )
    assert await stored(memory) == await commanded({"file": file, "columns": columns, "country": country or None})


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("lacks", ["the page", "the next step"])
async def test_a_form_that_lacks_a_role_is_found_by_the_test_above(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str, role: str
) -> None:
    def forgetful(form: CampaignForm, *, key: str) -> str:
        form.give_roles([("Xyz", "")])
        return usual(form, key=key)

    usual = CampaignForm.signed
    if lacks == "the page":
        monkeypatch.setattr(campaigns, "ROLE_WORDS", {each: ROLE_WORDS[each] for each in ROLE_WORDS if each != role})
    else:
        monkeypatch.setattr(CampaignForm, "signed", forgetful)
    with pytest.raises(AssertionError):
        await test_a_role_that_is_picked_is_what_the_command_reads(memory, tmp_path, role)


PEOPLE = [{"Name": f"N{at}", "Mobile": f"8765432{at}", "Call?": "No" if at == 3 else "Yes"} for at in range(6)]


EVERY: Mapping[str, Any] = {
    "say": "Hello {{name}}.", "country": "SG", "leave_out": "Call?=No", "only": "Name!=x",
    "limit": "5", "most": "9", "date_order": "dmy", "batch": "b", "source": "SG=+6531234567,*=+12025550123",
    "voice_profile": "en-US-JennyNeural", "time_zone": "Asia/Singapore", "window": "SG=09:00-24:00,*=10:00-20:00",
    "days": "SG=mon-fri,*=mon-sat", "holidays": "SG,DE-BY", "window_time_zone": "Asia/Tokyo",
    "not_before": "2099-01-01T09:00:00+08:00", "valid_for": "2h", "redial_on": "busy,failed", "redial_max": "7",
    "redial_after": "busy=5m,no_answer=2h", "stop_after_refused": "4", "priority": "3",
    "header_row": "1", "sheet": "x", "encoding": "utf-8", "columns": {"destination": "Mobile", "visitor": "Name"},
}  # fmt: skip
"""A campaign with a value in each field that a file of options may have, such as no simple control can show."""
TOLD = ("ivr", "menu", "valid_until", *UPLOADS, *TICKS)
"""The fields of the page that exclude others of these, name what is of a receiver, or are of one file of people."""


def test_every_field_is_in_this_test() -> None:
    assert FIELDS.keys() == EVERY.keys() | {*TOLD}


def saved_campaigns() -> dict[str, str]:
    """The saved campaigns of the examples and of the pages."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").rglob("*.toml"))}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for at, block in enumerate(
            re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(encoding="utf-8"), re.MULTILINE)
        ):
            found[f"{page.name} {at}"] = re.sub(r"^    ", "", block, flags=re.MULTILINE)
    names = fields_of(Of.CAMPAIGN).keys()
    kept: dict[str, str] = {"every field": saved_options({**EVERY, "columns": "destination=Mobile,visitor=Name"})}
    for name, text in found.items():
        try:
            read = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        if read and {key.replace("-", "_") for key in read} <= names:
            kept[name] = text
    return kept


@pytest.mark.parametrize("name", saved_campaigns())
async def test_a_saved_campaign_goes_through_all_steps_as_it_is(memory: Store, tmp_path: Path, name: str) -> None:
    text = saved_campaigns()[name]
    if name == "every field":
        text = "".join(each for each in text.splitlines(keepends=True) if not each.startswith("sheet"))
    file = cast("Path", written(tmp_path, PEOPLE, "csv"))
    async with clerk(memory) as one:
        data, files = dict(Form(one.shown.text).hidden), {"file": ("may.csv", read(file))}
        saved = {"saved": ("campaign.toml", text.encode())}
        one.shown = await one.client.post("/ui/campaign", data={**data, "do": "look"}, files={**files, **saved})
        if one.shown.status_code != 200:
            assert any(each in one.shown.text for each in ("names a file", "menu", "column"))
            return
        before, shown, said = held(one.shown), set[str](), ""
        for step in (*STEPS, "people", "words", "hours"):
            shown |= {each.partition(".")[0] for each, _ in Form(one.shown.text).sent}
            said += await one.send(step)
        after = held(one.shown)
        kept = {key: value for key, value in before.items() if key in FIELDS or key.startswith("menu.")}
        assert {key: after.get(key) for key in kept} == kept
        again = tomllib.loads(await one.send("save"))
    given = {key: each for key, each in tomllib.loads(text).items() if isinstance(each, str | int)}
    assert {key: again[key.replace("_", "-")] for key in given} == {key: str(each) for key, each in given.items()}
    if name == "every field":
        assert shown >= FIELDS.keys() - {*UPLOADS, *TICKS, "columns", "ivr", "sheet"}, "each has a control"
        lacking = {name for name, each in FIELDS.items() if each.label not in said} - {
            *UPLOADS,
            *TICKS,
            "sheet",
        }
        assert not lacking, "and its name in messages is its label"


ANA = "Mobile,name\n87654321,Ana\n"
KINDS: dict[str, tuple[str, dict[str, str], str, tuple[str, ...]]] = {
    "a word": (
        "Mobile,name\nabc,Ana\n", {},
        "'abc' is not one phone number. Write it with + and digits alone, such as +6587654321", (),
    ),
    "a national number": (
        ANA, {"country": ""},
        ("'87654321' does not say its country: give the country of national numbers, or the column of the countries if "
        "rows differ, or international for digits that begin with their country code; or write it with + and digits "
        "alone"), ("country", "columns"),
    ),
    "no numbers": (
        "who,name\nx,Ana\n", {"columns": ""},
        ("has no column destination; rename the column of phone numbers to destination, or name the column of the "
        "numbers to call; if titles stand above the header, name the row of the header; columns found: who, name"),
        ("columns", "header_row"),
    ),
    "a column that is not there": (
        ANA, {"columns": "destination=Mobile,language=Sprache"}, "has no column 'Sprache'; columns found: Mobile, name",
        (),
    ),
    "a name that nobody gives": (
        ANA, {"say": "Hello {{nome}}."},
        "is needed by the call, but there is no such column; add a column nome; columns found: Mobile, name", (),
    ),
    "a date in two orders": (
        "Mobile,name\n87654321,1/2/2030\n87654322,2/3/2030\n", {"say": "On {{name|date}}."},
        ("'1/2/2030' is not a date; write it as 2030-01-31 (filter date); or give the order of day, month and year in "
        "the file's dates"), ("date_order",),
    ),
    "a time without its zone": (
        "Mobile,name,valid_until\n87654321,Ana,tomorrow\n", {},
        ("'tomorrow' is not a time; write it as '2030-01-31T09:00:00+08:00', or as 2030-01-31 09:00 with a time_zone"),
        (),
    ),
    "a country of the other world": (
        "Mobile,name,Land\n87654321,Ana,Mars\n", {"columns": "destination=Mobile,country=Land", "country": ""},
        ("'Mars' is not a country: give two letters (ISO 3166) or an English name, such as SG or Singapore, or "
        "international for digits that begin with their country code"), (),
    ),
    "another country in a column": (
        "Mobile,name,Country\n87654321,Ana,US\n", {},
        ("says 'US', but the number was read as +6587654321: if it is the country of the number, take the column for "
        "that, or write the number with +; else ignore the column"),
        ("columns: country=Country", "columns: ignore=Country"),
    ),
    "a reserved name": (
        "Mobile,name,valid until\n87654321,Ana,2099-01-31T09:00Z\n", {},
        "is not read. Rename it to valid_until, take the column for that, or ignore the column",
        ("columns: valid_until=valid until", "columns: ignore=valid until"),
    ),
    "hours": (ANA, {"window": "9-25"}, "'9-25' is not a calling window: give times from 00:00 to 24:00", ()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_a_finding_is_whole_and_names_what_the_interface_has(memory: Store, kind: str) -> None:
    table, given, sentence, fields = KINDS[kind]
    typed = {**WORDS, "say": "Hello {{name}}.", "columns": "destination=Mobile", **given}
    parted = [each.partition(": ") for each in fields]
    between = "; " if kind == "no numbers" or any(value for *_, value in parted) else ", "
    start = f"{sentence[:1].upper()}{sentence[1:]}"
    async with clerk(memory) as one:
        await one.send("look", people(table))
        told = await one.send("preview", **typed)
        labels = ((FIELDS[name].label, value) for name, _, value in parted)
        named = between.join(f"“{label}”{value and f': {value}'}" for label, value in labels)
        ending = f" ({named})." if named else "."
        assert f"{sentence}{ending}" in told or f"{start}{ending}" in told, told
        if "window" in given:
            assert f"{FIELDS['window'].label}: {sentence}" in told
        assert not any(each in told for each in ("--", "`")), "names of other interfaces"
    definition: dict[str, object] = {name: value for name, value in typed.items() if value}
    if typed["columns"]:
        definition["columns"] = dict(each.split("=") for each in typed["columns"].split(","))
    files: Any = {"definition": (None, json.dumps(definition), "application/json"), "file": ("may.csv", table.encode())}
    async with program(memory) as client:
        problem = (await client.post("/v1/campaigns?dry_run=1", files=files)).json()
    named = between.join(f"`{name}`{value and f': {value}'}" for name, _, value in parted)
    assert list(dict.fromkeys(name for name, *_ in parted)) in [
        each.get("fields", []) for each in problem["findings"]
    ], "as data too"
    details = [each["detail"] for each in problem["findings"]]
    assert any(each.endswith(sentence + (f" ({named})" if named else "")) for each in details), details
    assert not any(other in each for each in details for other in ("--", "“")), "names of other interfaces"


async def test_files_are_read_and_written_in_another_process(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no key that a caller presses meanwhile waits for them."""
    works, usual = list[str](), OtherProcess.run

    async def noted(self: OtherProcess, work: Any, *arguments: Any, **named: Any) -> Any:
        works.append(work.__name__)
        return await usual(self, work, *arguments, **named)

    monkeypatch.setattr(OtherProcess, "run", noted)
    async with clerk(memory) as one:
        for step in ("look", "preview", "start", "export"):
            works.clear()
            if step == "export":
                assert (await one.client.get("/ui/export/xlsx?queue=default&batch=may")).status_code == 200
            else:
                await one.send(step, people() if step == "look" else None, **WORDS)
            assert works, step


BY_COUNTRY = {"window": "SG=09:00-24:00,*=10:00-20:00", "days": "SG=mon-fri,*=mon-sat", "not_before": "tomorrow 09:00",
              "redial_on": "busy,failed"}  # fmt: skip
CLOCKS, YES_OR_NO = ("", "09:00", "18:30"), ("", "yes")
CONTROLS: Mapping[str, Sequence[Sequence[str]]] = {
    "window": (CLOCKS, CLOCKS, YES_OR_NO), "days": (YES_OR_NO,) * 7, "not_before": (("", "2099-01-31"), CLOCKS),
    "redial_on": (YES_OR_NO,) * 3,
}  # fmt: skip
"""What the controls of a field can show, each by itself."""


async def test_controls_go_from_every_state_to_every_other() -> None:
    """Twice, by what a browser sends: all controls of a field as they are then shown. What is not shown stays."""
    groups: dict[str, tuple[list[str], list[Sequence[str]]]] = {}
    for field, values in CONTROLS.items():
        names = [f"{field}.{part}" for part in PARTS[field].split("") or ()]
        groups[field] = names, list(product(*values))
        if field == "window":  # hours are not any
            groups[field] = names, [each for each in groups[field][1] if not (each[2] and any(each[:2]))]
    for field, (names, states) in groups.items():
        form, is_text = CampaignForm({}), field in {"window", "not_before"}

        def sent(
            state: Sequence[str], names: Sequence[str] = names, form: CampaignForm = form, is_text: bool = is_text
        ) -> list[str]:
            ticked = (
                pair for name, value in zip(names, state, strict=True) for pair in ((name, ""), (name, value))[is_text:]
            )
            form.take(PageForm(list(ticked)))
            return [form.shown(name) for name in names]

        for one, other in product(states[:: len(states) // 16 or 1], states[:: len(states) // 20 or 1]):
            for state in (one, other, one, other):
                assert sent(state) == [*state], (field, one, other, form.values)
        if field in BY_COUNTRY:
            form.values[field] = BY_COUNTRY[field]
            nothing = [form.shown(name) for name in names]
            assert (sent(nothing), form.get(field)) == (nothing, BY_COUNTRY[field]), "as it was shown"
            assert sent(states[-1]) == [*states[-1]]
            form.values[field] = BY_COUNTRY[field]
            monday = [nothing[0] or states[-1][0], *nothing[1:]]
            assert sent(monday) == monday, "one control alone"
    form = CampaignForm({"days": BY_COUNTRY["days"]})
    form.take(PageForm([("days.mon", ""), ("days.mon", "yes")]))
    assert form.get("days") == "mon"
