"""The keys that are made for rows: they stay what they are, so that the same file again adds nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tests.campaigns.reading import NOW, file_of
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker import Campaign
from voiceflow_worker.campaigns.campaign_rows import CampaignRows

SAY: Mapping[str, Any] = {"say": "Hello {{name}}.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
MENU = {
    "questions": [{
        "id": "visit", "text": "Hello {{name}}. Press 1.",
        "keys": {"1": {"answer": "confirmed", "say": "Thanks."}},
    }],
}  # fmt: skip
FLOW = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "+6531234567"}},
        {"action": "say", "params": {"text": "Hello {{name}}.", "voiceProfile": "{{voice}}", "speed": "{{speed}}"}},
        {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6567654321"}},
    ],
    "clientBatchId": "of the flow",
}
BODY = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "6531234567", "destination": "6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}},
    ],
    "validUntil": "2030-01-31T09:00:00.000Z",
}
PEOPLE = "destination,name\n+6587654321,Ana\n"

# A file, the fields of its campaign, and the beginning of the key of its row.
KEPT: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "a text": (PEOPLE, SAY, "row-aed31bfa"),
    "a name with signs": ('destination,name\n+6587654321,"O\'Brien ""Zoë"", 山田"\n', SAY, "row-9ff46581"),
    "markup and an apostrophe": ("destination,name\n+6587654321,<b>Ben</b> &amp; '-3\n", SAY, "row-3c90fae1"),
    "a national number": ("destination,name\n8765 4321,Ana\n", {**SAY, "country": "SG"}, "row-aed31bfa"),
    "a column of numbers": (
        "Mobile,name\n+6587654321,Ana\n", {**SAY, "columns": {"destination": "Mobile"}}, "row-aed31bfa",
    ),
    "two columns of numbers": (
        "Mobile,Home,name\n+6587654321,+6561234567,Ana\n", {**SAY, "columns": {"destination": ["Mobile", "Home"]}},
        "row-7af5ef44",
    ),
    "a column of countries": (
        "destination,Land,name\n0151 23456789,Deutschland,Ana\n", {**SAY, "columns": {"country": "Land"}},
        "row-d8696db7",
    ),
    "a renamed column": (
        "destination,Nachname\n+6587654321,Ana\n", {**SAY, "columns": {"name": "Nachname"}}, "row-aed31bfa",
    ),
    "an ignored column": (
        "destination,name,Source\n+6587654321,Ana,Facebook\n", {**SAY, "columns": {"ignore": "Source"}}, "row-aed31bfa",
    ),
    "dates": (
        "destination,name,visit\n+6587654321,Ana,31/1/2030\n",
        {**SAY, "say": "{{name}}, on {{visit|date}}.", "date_order": "dmy"}, "row-9575fd8b",
    ),
    "a batch and a validity of its own": (
        "destination,name,batch_id,valid_until\n+6587654321,Ana,march,2030-01-31T09:00:00Z\n", SAY, "row-9e8517c8",
    ),
    "a source of its own": ("destination,name,source\n+6587654321,Ana,+6567654321\n", SAY, "row-49253b56"),
    "sources by country": (PEOPLE, {**SAY, "source": "SG=+6531234567,*=+12025550123"}, "row-aed31bfa"),
    "a key of its own": ("destination,name,unique_key\n+6587654321,Ana,42.0\n", SAY, "42"),
    "a menu": (PEOPLE, {**SAY, "say": None, "menu": MENU}, "row-80fd87a3"),
    "a call flow": (
        "destination,name,voice,speed\n+6587654321,Ana,en-US-JennyNeural,1\n", {**SAY, "say": None, "template": FLOW},
        "row-8e82ba67",
    ),
    "a request body": (json.dumps(BODY), {}, "row-b484c29b"),
    "a national request body": (
        json.dumps(BODY).replace("6587654321", "8765 4321"), {"country": "SG"}, "row-b484c29b",
    ),
    "an object": ('{"destination": "+6587654321", "name": "Ana", "n": 25.0}', SAY, "row-aed31bfa"),
    "a number of an object": ('{"contact": {"phone": 6587654321}, "name": "Ana"}', {
        **SAY, "columns": {"destination": "contact.phone"}, "country": "international"}, "row-aed31bfa",
    ),
}  # fmt: skip
TYPED = {"destination": [6587654321], "name": ["Ana"], "n": [25.0], "day": [date(2030, 1, 31)],
         "at": [datetime.fromisoformat("2030-01-31 09:00")]}  # fmt: skip
OF_TYPED = {**SAY, "say": "{{name}} {{n}} {{day|date}} {{at|time}}", "country": "international", "batch": "b"}


def keys_of(given: Any, fields: Mapping[str, Any]) -> list[str]:
    people: dict[str, Any] = {"file": given} if isinstance(given, Path) else {"rows": given}
    campaign = Campaign.of({**people, **fields}, now=NOW)
    read = list(CampaignRows(given, campaign.options, now=NOW))
    assert [found for row in read for found in row.findings if found.is_error] == []
    keys = [row.call.unique_key for row in read if row.call is not None and row.call.unique_key]
    assert {len(key) for key in keys if key.startswith("row-")} <= {36}
    return [key[:12] for key in keys]


def test_the_key_of_a_row_stays_what_it_is(tmp_path: Path) -> None:
    for name, (table, fields, key) in KEPT.items():
        path = file_of(tmp_path, table, "visits.jsonl" if table.startswith("{") else "visits.csv")
        assert keys_of(path, fields) == [key], name


def test_typed_cells_have_the_key_of_their_text_in_every_form(tmp_path: Path) -> None:
    rows = [dict(zip(TYPED, cells, strict=True)) for cells in zip(*TYPED.values(), strict=True)]
    written = ("6587654321", "Ana", "25", "2030-01-31", "2030-01-31 09:00")
    forms = [
        file_of(tmp_path, f"{','.join(TYPED)}\n{','.join(written)}\n"),
        workbook(tmp_path, [list(TYPED), *(list(row.values()) for row in rows)]),
        parquet(tmp_path, TYPED),
        rows,
    ]
    assert [keys_of(each, OF_TYPED) for each in forms] == [["row-60a0f0d0"]] * len(forms)
