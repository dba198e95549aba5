"""Lists of people in text files: who is called and what each hears, or what is told, in every form of a list.

`cases/*.txt` have blocks. A block begins with `== ` and a sentence, which is its name; then come fields of the
campaign, a line each (`say: Hello {{name}}.`; what begins with {" or [" is JSON, and `-` is no value). Fields above the
first block are those of all. Then comes a table, or a file. Lines that begin with # are comments.

A table has a line of names that ends in =>, and a line for each person, `cell | cell => result`. An empty cell is "",
as any text in quotes is JSON. A cell in `` has a type, `25.0`, `null` or `2030-01-31`, and may have the number format
of a workbook behind it: `42`0000. Whoever has no destination gets one. The result is what the person hears, and more
behind ` && `:

    ! column: part      an error of the row; `! column -1009: part` says its code too
    - part              the row is left out
    = 1                 the row is the same call as the first of the table
    @ name value        what the call has: `@ numbers +65… +65…`, `@ data.name Ana`
    .                   any text
    ? column: part      a warning (of a whole list: in lines below its table)

The list is read in all forms (`forms: csv xlsx`). Names with a colon (`:say | x =>`) are fields of the campaign of that
row alone: each row is a list of its own then, read as the rows of a program and, in turn, in one of the other forms.

A file is `file: name.csv` and its lines, each behind `> `; below it stand `= text` for each call, `! row column: part`,
`? column: part` and `@ name value` of the first call (`@ 2 name value`). In a table it is a cell of `:content`, with ⏎
for its line ends. All errors and warnings have to be there. What is refused as a whole has a line `refused: part`, in a
table `!! part`. A part is any of a sentence, or several with … between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.campaigns.blocks import NONE, Case, Shown
from tests.campaigns.forms import FORMS, written
from tests.campaigns.reading import NOW, Reading, Row, file_of, flow_of, read_all
from tests.campaigns.workbooks import changed
from voiceflow_worker import Campaign
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError, InvalidInputError

FOLDER = Path(__file__).parent / "cases"
SAID = {"window": "any", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b"}
LINE_END = "⏎"


def judge(case: Case, folder: Path) -> None:
    """Read the list of a case, in the forms that it has, and compare."""
    forms = str(case.fields.get("forms", " ".join(FORMS))).split()
    if case.lines:
        _judge_file(case, folder)
    elif not any(name.startswith(":") for name in case.header):
        for form in forms:
            _judge_table(case, folder, form)
    else:
        others = [each for each in forms if each != "rows"] or forms
        for place, one in enumerate(_lists(case)):
            if one.lines:
                _judge_file(one, folder)
            else:
                for form in dict.fromkeys(["rows"] * ("rows" in forms) + [others[place % len(others)]]):
                    _judge_table(one, folder, form)


def _lists(case: Case) -> Iterator[Case]:
    """The rows of a table as lists of their own."""
    for cells, results in case.rows:
        row = list(zip(case.header, cells, strict=True))
        fields = {**case.fields, **{name[1:]: cell for name, cell in row if name[0] == ":"}}
        one = Case(f"{case.name}: {cells}", fields, header=[name for name, _ in row if name[0] != ":"])
        if results[0].startswith("!! "):
            fields["refused"] = results[0][3:]
        if "content" in fields:
            fields.setdefault("file", "visits.csv")
            one.lines = str(fields["content"]).removesuffix(LINE_END).split(LINE_END)
            texts = [each if _sign(each) in {"!", "?", "@"} else f"= {each}" for each in results if each != "nothing"]
            one.told = [each.replace(LINE_END, "\n") for each in texts]
        else:
            one.rows = [([cell for name, cell in row if name[0] != ":"], results)]
            one.told = [each for each in results if _sign(each) == "?"]
        yield one


def _sign(result: str) -> str:
    return result.partition(" ")[0]


def _judge_table(case: Case, folder: Path, form: str) -> None:
    rows = [dict(zip(case.header, cells, strict=True)) for cells, _ in case.rows]
    if "destination" not in f"{case.header} {case.fields.get('columns')}":
        rows = [{"destination": f"+65{87654321 + 7 * place}", **each} for place, each in enumerate(rows)]
    where = (case.name, form)
    reading = _read(case, _written(folder, rows, form), where)
    if reading is None:
        return
    first = 2 if form in {"csv", "xlsx"} else 1
    by_number = {row.raw.number: row for row in reading.rows}
    errors = list[str]()
    for number, (_, results) in enumerate(case.rows, first):
        row = by_number[number]
        errors += [f"! {number} {each[2:]}" for each in results if _sign(each) == "!"]
        for each in results:
            _compare(row, each, (*where, number, row.findings), first=first)
        is_called = row.call is not None and not row.is_bad
        assert is_called is (_sign(results[0]) not in {"!", "-", "="}), (*where, number, row.findings)
    _compare_told(reading, [*errors, *case.told], where)


def _judge_file(case: Case, folder: Path) -> None:
    reading = _read(case, file_of(folder, "\n".join([*case.lines, ""]), case.fields["file"]), (case.name,))
    if reading is None:
        return
    called = [row for row in reading.rows if row.call is not None]
    texts = [each[2:] for each in case.told if _sign(each) == "="]
    assert [_heard(call) for call in reading.calls] == texts, (case.name, reading.errors)
    for each in case.told:
        if _sign(each) == "@":
            _, place, rest = each.split(" ", 2)
            which = (called[int(place) - 1], f"@ {rest}") if place.isdigit() else (called[0], each)
            _compare(*which, case.name, first=0)
    _compare_told(reading, case.told, (case.name,))


def _read(case: Case, given: Path | Sequence[Row], where: tuple[object, ...]) -> Reading | None:
    """What becomes of a list; nothing if it is refused as it should be."""
    ours = {"content", "file", "forms", "refused"}
    fields = {name: each for name, each in {**SAID, **case.fields}.items() if each != NONE and name not in ours}
    try:
        reading = read_all(given, Campaign.of(fields, now=NOW).options)
    except (CampaignFileError, InvalidInputError) as error:
        said = str(error)
    else:
        if "refused" not in case.fields:
            return reading
        said = "nothing"
    assert _is_in(case.fields.get("refused", "nothing is refused"), said), (*where, said)
    return None


def _written(folder: Path, rows: Sequence[Row], form: str) -> Path | Sequence[Row]:
    values = [{name: each.value if isinstance(each, Shown) else each for name, each in row.items()} for row in rows]
    given = written(folder, values, form)
    cells = [(at, column, cell) for at, row in enumerate(rows, 2) for column, cell in enumerate(row.values(), 1)]
    codes = [(at, column, cell.code) for at, column, cell in cells if isinstance(cell, Shown)]

    def shown(sheet: Any) -> None:
        for at, column, code in codes:
            sheet.cell(at, column).number_format = code

    return changed(given, shown) if codes and isinstance(given, Path) else given


def _compare(row: ReadRow, result: str, where: object, *, first: int) -> None:
    sign, _, rest = result.partition(" ")
    match sign:
        case "!" | "?" | ".":
            return
        case "-":
            assert row.is_left_out, where
            assert any(_is_in(rest, each.message) for each in row.findings), where
        case "=":
            assert row.duplicate_of == int(rest) + first - 1, where
        case "@":
            name, _, value = rest.partition(" ")
            assert row.call is not None, where
            assert _held(row.call, name) == value, (where, name)
        case _:
            assert row.call is not None, where
            assert _heard(row.call) == result, where


def _heard(call: CheckedCall) -> str:
    params: Any = flow_of(call).actions[1]["params"]
    return str(params.get("text", params.get("promptMessage")))


def _held(call: CheckedCall, name: str) -> str:
    """What a call has, as the cases write it."""
    kind, _, key = name.partition(".")
    found: Any = flow_of(call) if kind == "flow" else getattr(call, kind)
    if key:
        found = found.get(key) if isinstance(found, dict) else getattr(found, key)
    if isinstance(found, datetime):
        return f"{found.astimezone(UTC):%Y-%m-%d %H:%M}"
    if isinstance(found, Mapping):
        return json.dumps(found, ensure_ascii=False)
    return " ".join(found) if name == "numbers" else str(found)


def _compare_told(reading: Reading, results: Sequence[str], where: tuple[object, ...]) -> None:
    """Each is told, and no other."""
    left_out = {each.row for row in reading.rows if row.is_left_out for each in row.findings}
    told = [each for each in reading.findings if each.is_error or each.row not in left_out or each in reading.closing]
    for sign in ("!", "?"):
        left = [
            ({f"{each.row} {each.column}", f"{each.row} {each.column} {each.code}", str(each.column)}, each.message)
            for each in told
            if each.is_error is (sign == "!")
        ]
        for result in (each[2:] for each in results if _sign(each) == sign):
            place, _, part = result.partition(":")
            found = next((each for each in left if place in each[0] and _is_in(part, each[1])), None)
            assert found is not None, (*where, result, left)
            left.remove(found)
        assert left == [], (*where, left)


def _is_in(part: str, sentence: str) -> bool:
    return all(each.strip() in sentence for each in part.split("…"))
