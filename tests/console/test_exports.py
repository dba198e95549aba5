"""The report of a batch, exported from its page: what is in the files, who gets them, and what strangers try."""

from __future__ import annotations

import csv
import io
from email.message import EmailMessage
from urllib.parse import urljoin

import httpx
import pytest
from openpyxl import load_workbook
from structlog.testing import capture_logs

from tests.console.signing_in import READERS, STRICT, Page, browser, enqueued, receiver, signed_in
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, CallRequest, Store

pytestmark = pytest.mark.anyio

FORMS = ("xlsx", "csv")
MARCH = "/ui/export/{}?queue=default&batch=march"


async def campaign(store: Store, count: int = 3, **data: str) -> None:
    """Batch march, whose calls were completed."""
    engine = Engine(store, ScriptedVoice())
    requests = [CallRequest(flow=flow(number(place)), batch="march", data=data) for place in range(count)]
    await engine.queue.enqueue_many(requests)
    for job in await engine.send():
        await engine.summarise(job)


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


async def test_readers_export_the_report_from_the_page_of_its_batch(store: Store) -> None:
    await campaign(store, name="Ana")
    await enqueued(store, 2, batch="other")
    with capture_logs() as logs:
        async with signed_in(receiver(store), READERS) as client:
            shown = await client.get("/ui/batches/march")
            links = [urljoin(str(shown.url), link) for link in Page(shown.text).links("/export/")]
            answers = dict(zip(FORMS, [await client.get(link) for link in links], strict=True))
    done = [each for each in logs if each["event"] == "somebody exported a report"]
    assert [(each["name"], each["batch"], each["form"]) for each in done] == [
        ("Mary Tan", "march", form) for form in FORMS
    ]
    for form, answer in answers.items():
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith(f'attachment; filename="march.{form}"')
        assert {name: answer.headers[name] for name in STRICT} == STRICT
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert int(answer.headers["content-length"]) == len(answer.content)
    rows = rows_of(answers["csv"])
    assert [(row["destination"], row["result"], row["name"]) for row in rows] == [
        (number(place), "answered", "Ana") for place in range(3)
    ]
    book = load_workbook(io.BytesIO(answers["xlsx"].content))
    assert [cell.value for cell in book["Rows"]["A"]] == ["destination", *(number(place) for place in range(3))]
    assert book.sheetnames == ["Rows"]


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        ("märz/2", "märz-2.csv"),
        ('a"; filename="x.exe', "a-; filename=-x.exe.csv"),
        ("a\r\nSet-Cookie: voiceflow=1", "a-Set-Cookie: voiceflow=1.csv"),
        ("../../etc/passwd", "..-..-etc-passwd.csv"),
        ("三月", "三月.csv"),
    ],
)
async def test_a_file_is_named_after_its_batch_and_nothing_more(memory: Store, batch: str, named: str) -> None:
    await CallQueue(memory).enqueue(flow(), batch=batch)
    async with signed_in(receiver(memory), READERS) as client:
        answer = await client.get("/ui/export/csv", params={"batch": batch})
        head = await client.head("/ui/export/csv", params={"batch": batch})
    assert answer.status_code == 200
    header = EmailMessage()
    header["Content-Disposition"] = answer.headers["content-disposition"]
    assert (header.get_content_disposition(), header.get_filename()) == ("attachment", named)
    assert "set-cookie" not in answer.headers
    assert (head.status_code, head.content) == (200, b"")


async def test_nobody_exports_without_signing_in_and_no_other_site_does(memory: Store) -> None:
    await campaign(memory)
    app = receiver(memory)
    async with browser(app) as stranger:
        for form in FORMS:
            closed = await stranger.get(MARCH.format(form))
            assert (closed.status_code, number(0) in closed.text) == (401, False)
    async with signed_in(app, READERS) as client:
        for site in ("cross-site", "same-site"):
            refused = await client.get(MARCH.format("csv"), headers={"Sec-Fetch-Site": site})
            assert (refused.status_code, number(0) in refused.text) == (403, False)
        for site in ("same-origin", "none"):
            assert (await client.get(MARCH.format("csv"), headers={"Sec-Fetch-Site": site})).status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "/ui/export/pdf?batch=march", "/ui/export/?batch=march", "/ui/export/csv?batch=none",
        "/ui/export/csv?batch=march&queue=NO!", "/ui/export/csv?batch=march&queue=far", "/ui/export/csv/x?batch=march",
        f"/ui/export/csv?batch={'x' * 5000}", "/ui/export/csv?batch=%00",
    ],
)  # fmt: skip
async def test_what_is_not_there_is_not_exported(memory: Store, address: str) -> None:
    await campaign(memory)
    async with signed_in(receiver(memory), READERS) as client:
        answer = await client.get(address)
    assert (answer.status_code, len(answer.text) < 20_000) == (404, True)
