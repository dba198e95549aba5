"""What is wrong with a campaign is one sentence, whole, with the names that each interface has for its remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.clients import program
from tests.console.test_campaigns import WORDS, clerk, people
from tests.support.other_process import work_here
from voiceflow_worker import Store

__all__ = ["work_here"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("work_here")]

ANA = "Mobile,name\n87654321,Ana\n"
LABELS = {
    "columns": ("Which column is what", "Welche Spalte was ist"),
    "country": ("Country of national numbers", "Land der Nummern ohne Ländervorwahl"),
    "date_order": ("Dates of the file look like", "So sehen Daten der Datei aus"),
    "valid_for": ("Valid for", "Gültig für"),
    "window": ("Hours in which phones may ring", "Stunden, in denen Telefone klingeln dürfen"),
}
KINDS: dict[str, tuple[str, dict[str, str], str, tuple[str, ...]]] = {
    "a word": (
        "Mobile,name\nabc,Ana\n", {}, "'abc' has letters ('a'); give digits only, without names or extensions", ()
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
        "numbers to call; columns found: who, name"), ("columns",),
    ),
    "a column that is not there": (
        ANA, {"columns": "destination=Mobile,language=Sprache"}, "has no column 'Sprache'; columns found: Mobile, name",
        (),
    ),
    "a name that nobody gives": (
        ANA, {"say": "Hello {{nome}}."},
        ("is needed by the call flow, but there is no such column; add a column nome, or did you mean name?; columns "
        "found: Mobile, name"), (),
    ),
    "a date in two orders": (
        "Mobile,name\n87654321,1/2/2030\n87654322,2/3/2030\n", {"say": "On {{name|date}}."},
        ("'1/2/2030' is not a date; write it as 2030-01-31 (filter date); or give the order of day, month and year in "
        "the file's dates"), ("date_order",),
    ),
    "a time without its zone": (
        "Mobile,name,valid_until\n87654321,Ana,tomorrow\n", {},
        ("'tomorrow' is not a time; write it as '2030-01-31T09:00:00+08:00', or as 2030-01-31 09:00 or tomorrow 09:00 "
        "with a time_zone"), (),
    ),
    "a country of the other world": (
        "Mobile,name,Land\n87654321,Ana,Mars\n", {"columns": "destination=Mobile,country=Land", "country": ""},
        ("'Mars' is not a country: give two letters (ISO 3166) or a name, such as SG or Singapore, or international "
        "for digits that begin with their country code"), (),
    ),
    "a reserved name": (
        "Mobile,name,valid until\n87654321,Ana,2099-01-31T09:00Z\n", {},
        ("is a reserved name, and read as the time after which nobody is called; if it is not meant for that, ignore "
        "the column"), ("columns",),
    ),
    "hours": (ANA, {"window": "9-25"}, "'9-25' is not a calling window: give times from 00:00 to 24:00", ()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_a_finding_is_whole_and_names_what_the_interface_has(memory: Store, kind: str) -> None:
    table, given, sentence, fields = KINDS[kind]
    typed = {**WORDS, "say": "Hello {{name}}.", "columns": "destination=Mobile", **given}
    start = f"{sentence[:1].upper()}{sentence[1:]}"
    async with clerk(memory) as one:
        await one.send("look", people(table))
        for place, language in enumerate(("en", "de")):
            one.client.headers["Accept-Language"] = language
            told = await one.send("preview", **typed)
            named = ", ".join(f"“{LABELS[name][place]}”" for name in fields)
            ending = f" ({named})." if named else "."
            assert f"{sentence}{ending}" in told or f"{start}{ending}" in told, told
            if "window" in given:
                assert f"{LABELS['window'][place]}: {sentence}" in told
            assert not any(each in told for each in ("--", "`")), "names of other interfaces"
    definition: dict[str, object] = {name: value for name, value in typed.items() if value}
    if typed["columns"]:
        definition["columns"] = dict(each.split("=") for each in typed["columns"].split(","))
    files: Any = {"definition": (None, json.dumps(definition), "application/json"), "file": ("may.csv", table.encode())}
    async with program(memory) as client:
        problem = (await client.post("/v1/campaigns?dry_run=1", files=files)).json()
    named = ", ".join(f"`{name}`" for name in fields)
    assert list(fields) in [each.get("fields", []) for each in problem["findings"]], "as data too"
    details = [each["detail"] for each in problem["findings"]]
    assert any(each.endswith(sentence + (f" ({named})" if named else "")) for each in details), details
    assert not any(other in each for each in details for other in ("--", "“")), "names of other interfaces"
