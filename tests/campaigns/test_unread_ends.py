"""Files that cannot be read to their end: nothing of them is enqueued, and the reason is told, wherever they break."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.campaigns.reading import NOW, OPTIONS, file_of
from tests.campaigns.workbooks import workbook
from tests.support.everyday import combinations
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns import enqueue
from voiceflow_worker.campaigns.enqueue import check_file, enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.lists.input_file import standard_input
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("in_tens")]

AT_ONCE = 10
"""The number of rows that these tests read and hand on together; the product takes a hundred times as many."""
PLACES = (1, 2, 9, 10, 11, 20, 23)


def people(count: int) -> list[tuple[str, str]]:
    return [(f"+65{80000000 + 3 * row}", "Ana") for row in range(1, count + 1)]


@pytest.fixture
def in_tens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueue, "CHUNK", AT_ONCE)


def table(place: int, rows: int = 23) -> bytes:
    made = [f"{number},{'J€rg' if row == place else name}" for row, (number, name) in enumerate(people(rows), 1)]
    return "\n".join(["destination,name", *made, ""]).encode("cp1252")


def lines(place: int, rows: int = 23) -> bytes:
    named = [(number, "José" if row == place else name) for row, (number, name) in enumerate(people(rows), 1)]
    return "\n".join(f'{{"destination": "{each}", "name": "{name}"}}' for each, name in named).encode("latin-1")


QUOTE = '"'


def open_quote(place: int, rows: int = 23) -> bytes:
    named = [(number, QUOTE + name if row == place else name) for row, (number, name) in enumerate(people(rows), 1)]
    made = [",".join(each) for each in named]
    return "\n".join(["destination,name", *made, ""]).encode()


@cache
def parts(rows: int) -> Mapping[str, bytes]:
    with TemporaryDirectory() as folder:
        path = workbook(Path(folder), [("destination", "name"), *people(rows)])
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def with_row(row: int, rows: int, change: Callable[[bytes], bytes]) -> bytes:
    """A workbook with a change in one row of the sheet."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, part in parts(rows).items():
            if "worksheets/" in name:
                begin = part.index(b'<row r="%d"' % row)
                end = part.index(b"</row>", begin)
                part = part[:begin] + change(part[begin:end]) + part[end:]  # noqa: PLW2901
            archive.writestr(name, part)
    return packed.getvalue()


def broken_sheet(place: int, rows: int = 23) -> bytes:
    return with_row(place + 1, rows, lambda cells: cells.replace(b"</c>", b"</d>", 1))


KINDS: dict[str, tuple[str, Callable[..., bytes], str]] = {
    "another encoding": ("people.csv", table, "line {line}: the byte 0x80 is not UTF-8"),
    "an open quote": ("people.csv", open_quote, "line {line}: a quote (\") is opened and not closed"),
    "JSON lines in another encoding": ("people.jsonl", lines, "the byte 0xE9 is not UTF-8"),
    "a sheet that is not XML": ("people.xlsx", broken_sheet, "is no workbook (.xlsx), or it is damaged"),
}  # fmt: skip


def in_every_kind(*places: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("kind", "place"), combinations(KINDS, places))


@in_every_kind(*PLACES)
async def test_nothing_is_enqueued_and_the_reason_is_told(
    kind: str, place: int, tmp_path: Path, queue: CallQueue
) -> None:
    await refused(kind, place, 23, tmp_path, queue)


@pytest.mark.slow
@in_every_kind(1, 2, 999, 1000, 1001, 2000, 2300)
async def test_nothing_of_a_long_file_is_enqueued(
    kind: str, place: int, tmp_path: Path, queue: CallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    await refused(kind, place, 2300, tmp_path, queue)


async def refused(kind: str, place: int, rows: int, folder: Path, queue: CallQueue) -> None:
    name, content, sentence = KINDS[kind]
    path = file_of(folder, content(place, rows), name)
    with pytest.raises(CampaignFileError) as raised:
        await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True)
    assert sentence.format(line=place + 1) in str(raised.value)
    assert not await queue.find(limit=1)


@in_every_kind(1, 11, 23)
async def test_a_check_a_dry_run_and_standard_input_tell_the_same(kind: str, place: int, tmp_path: Path) -> None:
    name, make, sentence = KINDS[kind]
    sentence, content = sentence.format(line=place + 1), make(place)
    path = file_of(tmp_path, content, name)
    checked = await check_file(path, OPTIONS, now=NOW)
    assert (checked.is_valid, any(sentence in each.message for each in checked.findings)) == (False, True)
    options = replace(OPTIONS, batch_id="b")
    with standard_input(io.BytesIO(content)) as piped:
        for given, skip_bad in ((path, True), (piped, False)):
            with pytest.raises(CampaignFileError) as raised:
                await enqueue_file(None, given, options, now=NOW, dry_run=True, skip_bad=skip_bad)
            assert sentence in str(raised.value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "error", [RuntimeError("the database went away"), CampaignFileError("the query was cancelled")]
)
async def test_rows_of_a_program_that_fail_enqueue_nothing(place: int, error: Exception, queue: CallQueue) -> None:
    def fetched() -> Iterator[dict[str, str]]:
        for number, name in people(place - 1):
            yield {"destination": number, "name": name}
        raise error

    with pytest.raises(type(error), match=str(error)):
        await enqueue_rows(queue, fetched(), replace(OPTIONS, batch_id="b"), now=NOW, skip_bad=True)
    assert not await queue.find(limit=1)


def test_no_number_is_imported(tmp_path: Path) -> None:
    for place, kind in product(PLACES, ["another encoding", "JSON lines in another encoding"]):
        name, content, sentence = KINDS[kind]
        with pytest.raises(CampaignFileError) as raised:
            read_number_file(file_of(tmp_path, content(place), name))
        assert sentence.format(line=place + 1) in str(raised.value)
