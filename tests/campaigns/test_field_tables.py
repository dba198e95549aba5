"""CSV files as spreadsheets leave them: cells left out, columns without names, titles, wrongly decoded characters."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, told
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.damage import as_programs_write, misread
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.text.wording import folded


def refused(path: Path) -> str:
    with pytest.raises(CampaignFileError) as raised:
        read(path)
    return str(raised.value)


def warnings(path: Path) -> list[str]:
    campaign = open_campaign(path, OPTIONS, now=NOW)
    for _ in campaign:
        pass
    return [found.message for found in (*campaign.findings, *campaign.closing_findings()) if not found.is_error]


# -- cells that are left out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["", ",", ",,", ",,x"])
def test_cells_that_nothing_needs_may_be_left_out_at_the_end_of_a_row(tmp_path: Path, rest: str) -> None:
    path = file_of(tmp_path, f"destination,name,remark,language,\n+6587654321,Ana{rest}\n")
    (row,) = read(path)
    assert told([row]) == []
    assert row.call is not None
    assert (row.call.data or {})["remark"] == ""


def test_cells_that_something_needs_may_not_be_left_out(tmp_path: Path) -> None:
    for header, row, missing in [
        ("destination,remark,name", "+6587654321", "remark, name are missing"),
        ("destination,remark,name", "+6587654321,x", "name is missing"),
        *(
            (f"destination,name,{name}", "+6587654321,Ana", f"{name} is missing")
            for name in ("not_before", "valid_until", "priority", "unique_key", "source", "time_zone", "batch_id")
        ),
        ("destination,name,not_before,remark", "+6587654321,Ana", "not_before, remark are missing"),
    ]:
        ((number, column, _, message),) = told(read(file_of(tmp_path, f"{header}\n{row}\n")))
        assert (number, column) == (2, None)
        assert f": {missing}; fill them, or put a column that every row fills last" in message
        last = file_of(tmp_path, f"{header},end\n{row}{',' * (header.count(',') - row.count(','))},x\n", "mended.csv")
        assert not [message for *_, message in told(read(last)) if "fill them" in message], (
            "the remedy can be carried out"
        )


# -- columns without a name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ("destination,,name\n+6587654321,x,Ana\n", 2),
        (",destination,name\nx,+6587654321,Ana\n", 1),
        ("destination,name,\n+6587654321,Ana,x\n", 3),
        ("destination, ,name,,\n+6587654321,,Ana,,x\n", 5),
    ],
)
def test_a_value_in_a_column_without_a_name_is_told(tmp_path: Path, table: str, place: int) -> None:
    ((number, _, _, message),) = told(read(file_of(tmp_path, table)))
    assert (number, message.partition(": ")[0]) == (
        2,
        f"the row has 'x' in its cell {place}, but that column has no name",
    )
    assert told(read(file_of(tmp_path, table.replace("x", " ")))) == []


# -- what stands above the header --------------------------------------------------------------------------------------


def test_what_stands_above_the_header_is_told(tmp_path: Path) -> None:
    for table, sentence in [
        ("Reminder list January\ndestination,name\n", "line 2 looks like the header: name the row of the header"),
        ("Reminder list January,\n,\ndestination,name\n", "line 3 looks like the header: name the row of the header"),
        ("List, January\nmade by,Li\n\nname;Mobile No\n", "line 4 looks like the header: name the row of the header"),
        ("Reminder list January\na,b\n", "line 1 has only one cell, like a title: name the row of the header"),
        ('"sep=;"\ndestination;name\n', 'line 1 is "sep=;", which does not name what stands between the cells'),
        ("sep=\ndestination;name\n", "line 1 is sep=, which does not name"),
        ("sep=tab\ndestination\tname\n", "line 1 is sep=tab, which does not name"),
        ("SEP =;\ndestination;name\n", "line 1 is SEP =;, which does not name"),
        ("sep=;\ndestination,name\n", "line 1 says that ';' stands between the cells, but line 2 has ',' there"),
        ("sep=,\ndestination\tname\n", "line 1 says that ',' stands between the cells, but line 2 has '\\t' there"),
    ]:
        assert sentence in refused(file_of(tmp_path, f"{table}+6587654321,Ana\n"))


def test_a_title_above_a_list_of_numbers_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(CampaignFileError, match="line 2 looks like the header: name the row of the header"):
        read_number_file(file_of(tmp_path, "Do not call\nName,Phone\nAna,+6587654321\n"))


def test_a_column_alone_has_no_title(tmp_path: Path) -> None:
    assert "title" not in refused(file_of(tmp_path, "whom\n+6587654321\n"))


# -- wrongly decoded characters ----------------------------------------------------------------------------------------

_NAMES = {
    "cp1252": "Windows-1252", "mac_roman": "Mac OS Roman", "cp1250": "Windows-1250", "cp850": "DOS code page 850",
    "cp437": "DOS code page 437",
}  # fmt: skip


def test_a_text_that_was_read_in_another_encoding_is_told() -> None:
    for encoding, text in product(
        _NAMES, ["Jörg", "It\u2019s", "Zoë", "Peña", "Łódź", "Nguyễn Văn", "Müller & Söhne", "“Café”", "5 €"]
    ):
        try:
            wrong = text.encode().decode(encoding)
        except UnicodeDecodeError:
            wrong = text.encode().decode("latin-1")
        problem = misread(wrong)
        assert problem is not None
        assert "probably" in problem
        if text == "Jörg":
            assert f"probably 'Jörg': UTF-8 that was read as {_NAMES[encoding]}" in problem


def test_russian_that_was_read_in_another_encoding_is_told() -> None:
    problem = misread("Привет".encode().decode("cp1251"))
    assert problem is not None
    assert "probably 'Привет'" in problem


def test_a_text_as_people_write_it_is_not_told() -> None:
    for text in [
        *("Jörg", "SÃO PAULO", "«CAFÉ»", "Ærø", "Œuvre", "Łódź", "Привет, Вёрстка", "東京都", "ภาษาไทย", "Ñandú", "😀"),
        *("Ångström", "50 €", "naïve \u2013 façade", "Ελλάδα", "İstanbul", "Đà Nẵng", "Ümit Özgür", "ÄÖÜ", "«Ещё»"),
        *("½ Ω", "Íñigo"),
    ]:
        assert misread(text) is None


def test_what_a_program_wrote_for_programs_is_told_if_it_is_spoken(tmp_path: Path) -> None:
    for text in ("first\\nsecond", "a\\r\\nb", "one\\ttwo", "O\\'Brien", "Zo\\u00eb", "Zo\\xc3\\xab"):
        assert "which is spoken as it is written" in (as_programs_write(text) or ""), text
    for text in (
        *("[object Object]", "b'Ana'", '["Ana"]', "['Ana', 'Li']", '{"first": "Ana"}', "('Ana',)", "Decimal('12.50')"),
        *(
            "datetime.date(2027, 1, 15)",
            "Timestamp('2027-01-15 09:30')",
            'ISODate("2027-01-15")',
            "<app.Visit object at 0x7f>",
        ),
    ):
        assert "as a program writes it" in (as_programs_write(text) or ""), text
    for text in (
        *(
            "C:\\new\\notes",
            "\\\\server\\names",
            "and\\or",
            "a\nb",
            "\u00af\\_(\u30c4)_/\u00af",
            "Ana (Li)",
            "[Ana]",
            "('t Hart)",
        ),
        *('"Ana"', "'t", "Save the date (now)", "{Ana}", "Room (2)", "<Ana>", "d'Ávila", "up to date(d)"),
    ):
        assert as_programs_write(text) is None, text
    content = "destination,name,note\n+6587654321,O\\'Brien,a\\nb\n+6587654329,['Ana'],\n"
    _, escaped, listed = warnings(file_of(tmp_path, content))  # and nothing of the note, which no text speaks
    assert ("has \\' in" in escaped, "holds ['Ana']" in listed) == (True, True)


def test_such_rows_are_told_once_and_called(tmp_path: Path) -> None:
    for text, encoding in [("JÃ¶rg", "Windows-1252"), ("Itâ€™s", "Windows-1252"), ("J\ufffdrg", "Windows-1252")]:
        for name in ["people.csv", "people.jsonl"]:
            rows = [("+6587654321", "Ana"), ("+6587654322", text), ("+6587654323", text)]
            if name == "people.csv":
                content = "destination,name\n" + "".join(f"{number},{who}\n" for number, who in rows)
            else:
                content = "".join(f'{{"destination": "{number}", "name": "{who}"}}\n' for number, who in rows)
            path = file_of(tmp_path, content, name)
            (warning,) = warnings(path)
            assert (encoding in warning, warning.endswith("1 more row like it.")) == (True, True)
            assert len(calls_of(read(path))) == 3


def test_a_header_and_a_request_body_are_looked_at_too(tmp_path: Path) -> None:
    table = file_of(tmp_path, "destination,name,StraÃŸe\n+6587654321,Ana,x\n")
    assert any("the name of this column has 'StraÃŸe', probably 'Straße'" in each for each in warnings(table))
    body = (
        '{"callflow": [{"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}}, '
        '{"action": "say", "params": {"text": "Hello JÃ¶rg", "voiceProfile": "en-IE-EmilyNeural"}}]}'
    )
    campaign = open_campaign(file_of(tmp_path, body, "calls.jsonl"), replace(OPTIONS, template=None), now=NOW)
    assert len(list(campaign)) == 1
    assert "probably" in campaign.closing_findings()[0].message


def test_a_template_that_names_a_misread_column_is_no_reason_to_refuse(tmp_path: Path) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{name}}."))
    assert len(calls_of(read(file_of(tmp_path, "destination,name\n+6587654321,JÃ¶rg\n"), options))) == 1


# -- words that people use for matters of their own --------------------------------------------------------------------

OWN = [
    ("Language", "Tamil"),
    ("LANGUAGE", "Malay"),
    ("Time Zone", "B"),
    ("time-zone", "3"),
    ("Priority", "High"),
    ("PRIORITY", "5"),
]
FORMS = {
    "people.csv": lambda name, value: f"destination,name,{name}\n+6587654321,Ana,{value}\n",
    "people.jsonl": lambda name, value: json.dumps({"destination": "+6587654321", "name": "Ana", name: value}) + "\n",
}


def test_a_reserved_word_in_a_spelling_of_people_is_data_and_told(tmp_path: Path) -> None:
    for name, value in OWN:
        for file in list(FORMS):
            campaign = open_campaign(file_of(tmp_path, FORMS[file](name, value), file), OPTIONS, now=NOW)
            (row,) = campaign
            assert row.call is not None
            assert (row.call.priority, row.call.time_zone, (row.call.data or {})[folded(name)]) == (0, None, value)
            (found,) = [found for found in (*campaign.findings, *row.findings) if found.column == name]
            assert found.message.startswith("is kept as data")
            assert not found.is_error


@pytest.mark.parametrize("file", list(FORMS))
def test_a_priority_in_the_reserved_spelling_orders_calls_and_is_told(tmp_path: Path, file: str) -> None:
    campaign = open_campaign(file_of(tmp_path, FORMS[file]("priority", "5"), file), OPTIONS, now=NOW)
    (row,) = campaign
    assert row.call is not None
    assert row.call.priority == 5
    assert "order of the calls" in next(
        f.message for f in (*campaign.findings, *row.findings) if f.column == "priority"
    )


def test_a_word_of_their_own_may_be_spoken(tmp_path: Path) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("Your case has priority {{priority}}."))
    (row,) = open_campaign(file_of(tmp_path, "destination,Priority\n+6587654321,High\n"), options, now=NOW)
    assert row.call is not None
    assert "priority High." in row.call.body
