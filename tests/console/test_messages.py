"""What is told in German of files, questions and results: all that a person can read, with no English word in it."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import anyio
import pytest
from babel import Locale
from babel.messages.pofile import read_po
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import voiceflow_worker.console
from tests.campaigns.workbooks import workbook
from voiceflow_worker import Campaign
from voiceflow_worker.console import language
from voiceflow_worker.console.routes.page import sentence
from voiceflow_worker.errors import InvalidInputError

CONSOLE = Path(voiceflow_worker.console.__file__).parent
MESSAGES = CONSOLE / "locale/de/LC_MESSAGES/messages.po"
ENGLISH = (
    "the|is|are|and|of|it|its|write|give|not|with|has|have|for|to|or|be|this|that|which|from|only|there|would|rows?|"
    "correct|remove|column|calls?|numbers?|queue|held|until|by|on|whose|called|who|when|as|nobody"
)
FIXED = "Not not_before|time_zone|valid_until|number|own"
"""Names that are written in any language."""
SPOKEN = ("row ", "then, ", "longest text")
"""What stands before the texts of calls in a preview."""


def of_messages() -> Iterator[str]:
    """The texts in the sources of all messages, with `{}` for each value."""
    for path in sorted(CONSOLE.parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.JoinedStr):
                said = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                yield "".join(map(str, said)).replace("{rows}", "{}")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def english_in(text: str) -> list[str]:
    """The English words in a text that is to be German, but those in conditions of texts."""
    return re.findall(f"\\b(?:{ENGLISH})\\b", re.sub(rf"\{{[{{%].*?[%}}]\}}|\\b(?:{FIXED})\\b", "", text))


@pytest.mark.slow
def test_each_german_message_is_one_that_is_made_and_has_no_other_values() -> None:
    """A message may be made of several texts: each part between its values stands in the sources."""
    made = "\0".join(of_messages())
    for message in read_po(BytesIO(MESSAGES.read_bytes()), locale="de"):
        if message.id:
            parts = str(message.id).split("{}")
            assert all(
                part.strip(" (),").replace("more rows", "more row").removesuffix("s") in made for part in parts
            ), message.id
            given = [int(at or place) for place, at in enumerate(re.findall(r"\{(\d?)\}", str(message.string)))]
            assert max(given, default=-1) < len(parts) - 1 or not given, message.id
            assert message.string, message.id


CELLS = {
    "telefon": [
        "", "ξ", "+49 30 1234567", "030 1234567", "+493012", "+4930123456789012345", "1.2E+11", "0301234567,0301234568",
        "31.12.2099", "030 1234567 Δ 12", "(030 1234567", "4930123xxxx", "+999123456789", "0049 (0)30 1234567",
        "+49 30 1234567\n+49 30 1234568", "#REF!", "n/a", "2030-01-31", "491701234567000000", "030#1234567",
        "493012345.0",
    ],
    "ξ": ["", "Ω", "\ufffd", "ÃŸ", "<b>Ω</b>", "#NAME?", "=1+1", "None", "x" * 3000, "{{ξ}}", "[ξ]"],
    "zeit": ["", "Ω", "31/1/2030 09:00", "2030-01-31", "2030-02-30", "09:00", "31/1/2573", "1900-01-01"],
    "time_zone": ["", "Ω", "CET", "Europe/Berlin", "+1", "Berlin"],
    "not_before": ["", "Ω", "2001-01-01", "2030-01-31 09:00", "2030-10-27 02:30", "2030-03-31 02:30", "31/1/2030"],
    "valid_until": ["", "Ω", "2001-01-01T00:00Z", "2030-01-31 09:00", "2030-13-01", "9999-12-31 23:59"],
    "priority": ["", "Ω", "1", "99999999", "1.5"],
    "country": ["", "Ω", "DE", "49", "Korea", "Kongo"],
    "unique_key": ["", "1", "1", "2", "Ω" * 300],
    "batch_id": ["", "Ω", "Ω" * 300],
}  # fmt: skip
FIELDS: list[dict[str, str]] = [
    {},
    {"window": "09:00-10:00", "days": "mon", "holidays": "DE", "date_order": "dmy", "time_zone": "Europe/Berlin"},
    {"batch": "Δ", "ignore_column": "batch_id,unique_key", "leave_out": "ξ=Ω", "leave_out_rows": "3-4,9999"},
    {"say": "{{ξ|date}} {{zeit|time}} {{priority|money}}", "country": "DE", "bad_numbers": "skip"},
    {"say": "{{zeit|date}} {{fehlt}} {{ξ|spell}} %ξ%", "valid_for": "1h", "country_column": "country"},
    {"say": "{% if ξ %}Ω", "number_column": "telefon,ξ"},
    {"say": "{{ξ|}}", "window": "9-8", "days": "Ω", "time_zone": "Ω", "country": "Ω", "valid_for": "Ω", "batch": ""},
    {"number_column": "Ω", "window": "25:00-26:00", "valid_until": "2001-01-01T00:00Z", "date_order": "Ω"},
]
"""What the fields of a campaign say, right and wrong."""


def findings_of(rows: list[dict[str, str]], fields: dict[str, str], folder: Path, format_: str) -> list[str]:
    """What is told about a file with these rows."""
    names, path = [*dict.fromkeys(name for row in rows for name in row)], folder / f"ξ.{format_}"
    table = [names, *([row.get(name, "") for name in names] for row in rows)]
    if format_ == "xlsx":
        workbook(folder, table, path.name)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
    given = {
        "number_column": "telefon",
        "say": "Ω {{ξ}}",
        "voice_profile": "de-DE-KatjaNeural",
        "source": "+4930123456",
    }
    try:
        report = anyio.run(Campaign.of({"file": path, **given, **fields}).preview)
    except InvalidInputError as error:
        return [found.message for found in error.findings] or [str(error).replace(str(path), "ξ")]
    preview = [] if report.preview is None else report.preview.in_words()
    said = [word for name, words in preview for word in (name, *([] if name.startswith(SPOKEN) else [words]))]
    return [*(found.message for found in report.findings), *said]


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.fixed_dictionaries({name: st.sampled_from(cells) for name, cells in CELLS.items()}), max_size=8),
    st.sets(st.sampled_from([*CELLS])),
    st.sampled_from(FIELDS),
    st.sampled_from(["csv", "xlsx"]),
)
def test_what_is_wrong_with_a_file_is_told_in_german(
    tmp_path: Path, rows: list[dict[str, str]], without: set[str], fields: dict[str, str], format_: str
) -> None:
    table = [{name: cell for name, cell in row.items() if name not in without} for row in rows]
    token = language.LOCALE.set(Locale("de"))
    try:
        for message in findings_of(table, fields, tmp_path, format_):
            said = sentence(message)
            assert not english_in(re.sub(r"\b(?:" + "|".join(FIXED) + r")\b", "", said)), (message, said)
    finally:
        language.LOCALE.reset(token)
