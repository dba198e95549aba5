"""Bodies that are not quite right: whatever can be read of a summary is read, and its outcome kept."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.webhooks.payload_forms import whole
from tests.webhooks.receiving import SECRET, Settling, other, posting, receiver_of, receiving, summary
from tests.webhooks.test_payload_forms import named, now, submitted
from voiceflow_worker.asgi.limits import decompressed
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.webhooks import PATH
from voiceflow_worker.webhooks.reading import LONGEST_BODY, decoded

pytestmark = pytest.mark.anyio

MESSAGE = "Jörg"


def as_json(changes: Mapping[str, object] | None = None) -> str:
    details = {"errorCode": -2001, "errorMsg": MESSAGE, "seconds": 12.5}
    return json.dumps(summary(sessionStatus="FAILED", errorDetails=details, **(changes or {})), ensure_ascii=False)


TEXT = as_json()
PLAIN = TEXT.encode()
LATIN = "J\ufffdrg"
BOMB = b" " * (LONGEST_BODY + 1)
LEVELS = range(1, 10, 2)
READ: Mapping[str, tuple[bytes, Mapping[str, str], str]] = {
    "gzip": (gzip.compress(PLAIN), {"Content-Encoding": "gzip"}, MESSAGE),
    "gzip in several members": (gzip.compress(PLAIN[:50]) + gzip.compress(PLAIN[50:]), {}, MESSAGE),
    "gzip that no header names": (gzip.compress(PLAIN), {}, MESSAGE),
    "gzip twice": (gzip.compress(gzip.compress(PLAIN)), {"Content-Encoding": "gzip, gzip"}, MESSAGE),
    "a header for a body that a proxy has unpacked": (PLAIN, {"Content-Encoding": "gzip"}, MESSAGE),
    "a header of another encoding, and plain JSON": (PLAIN, {"Content-Encoding": "br"}, MESSAGE),
    **{f"deflate {level}": (zlib.compress(PLAIN, level), {"Content-Encoding": "deflate"}, MESSAGE) for level in LEVELS},
    "gzip of UTF-8 with a mark": (gzip.compress(b"\xef\xbb\xbf" + PLAIN), {"Content-Encoding": "X-GZIP"}, MESSAGE),
    "one Latin-1 byte": (TEXT.encode("latin-1"), {}, LATIN),
    "one Latin-1 byte, and gzip": (gzip.compress(TEXT.encode("latin-1")), {"Content-Encoding": "gzip"}, LATIN),
    "a letter that is cut": (PLAIN.replace("ö".encode(), "ö".encode()[:1]), {}, LATIN),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + PLAIN, {}, MESSAGE),
    **{name: (TEXT.encode(name), {}, MESSAGE) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")},
    "NaN": (PLAIN.replace(b"12.5", b"NaN"), {}, MESSAGE),
    "infinity": (PLAIN.replace(b"12.5", b"-Infinity"), {}, MESSAGE),
    "a number without end": (PLAIN.replace(b"12.5", b"9" * 5000), {}, MESSAGE),
    "a number beyond all floats": (PLAIN.replace(b"12.5", b"1e999"), {}, MESSAGE),
    "half a letter": (PLAIN.replace("ö".encode(), b"\\ud83d"), {}, LATIN),
    "a line break in a text": (PLAIN.replace("ö".encode(), b"\n\t"), {}, "J\n\trg"),
    "zeros behind the end": (PLAIN + b"\0\0", {}, MESSAGE),
    "a name twice": (PLAIN.replace(b'"seconds"', b'"seconds": 1, "seconds"'), {}, MESSAGE),
    **{
        f"type {kind}": (PLAIN, {"Content-Type": kind}, MESSAGE)
        for kind in ("", "text/plain", "application/json; charset=latin-1", "a/b; c", "multipart/form-data")
    },
}  # fmt: skip


async def test_the_outcome_is_kept() -> None:
    settling = Settling()
    async with receiving(settling) as sender:
        for name, (content, headers, message) in READ.items():
            shown = {"Authorization": SECRET, **headers}
            answer = await sender.client.post(sender.url + PATH, content=content, headers=shown)
            assert answer.status_code == 200, (name, answer.text)
            taken = settling.taken.pop()
            assert (taken.client_request_id, taken.status) == ("default.01J.1", SessionStatus.FAILED), name
            assert (taken.error_message, taken.error_code) == (message, -2001), name


async def test_what_cannot_be_read_is_refused_by_its_cause() -> None:
    settling = Settling()
    async with receiving(settling) as sender:
        for content, encoding, status, told in [
            (b"\x0b\x05\x80{}\x03", "br", 415, "encoding br"),
            (b"\x28\xb5\x2f\xfd\x00", "zstd", 415, "encoding zstd"),
            (zlib.compress(b"{}")[2:-4], "deflate", 415, "encoding deflate"),
            (gzip.compress(PLAIN)[:-9], "gzip", 415, "damaged"),
            (gzip.compress(PLAIN)[:-9], "", 415, "damaged"),
            (gzip.compress(gzip.compress(gzip.compress(PLAIN))), "gzip, gzip, gzip", 415, "damaged"),
            (gzip.compress(BOMB), "gzip", 413, "longer than"),
            (zlib.compress(BOMB), "deflate", 413, "longer than"),
            (b"{", "gzip", 400, "not JSON"),
            (b"{", "identity", 400, "not JSON"),
            (b"payload=%7B%7D", "", 400, "not JSON"),
        ]:
            answer = await sender.send(content, Content_Encoding=encoding)
            assert (answer.status_code, told in answer.json()["error"]) == (status, True), answer.text
            assert answer.headers.get("accept-encoding") == ("gzip" if status == 415 else None)
    assert settling.taken == []


async def test_an_action_is_answered_in_every_packing() -> None:
    async def menu(_event: object) -> bytes:
        return b'{"callflow": []}'

    action = json.dumps(other("CALL_ACTION", eventData={"dtmf": "1"})).encode()
    async with receiving(on_event=menu) as sender:
        for content in (gzip.compress(action), action.decode().encode("utf-16"), action[:-2] + b', "x": "\xf6"}}'):
            assert (await sender.send(content)).json() == {"callflow": []}, content


async def test_a_body_in_chunks_and_one_that_is_asked_for_are_read() -> None:
    settling = Settling()

    async def pieces() -> AsyncIterator[bytes]:
        for place in range(0, len(PLAIN), 100):
            yield PLAIN[place : place + 100]

    async with receiving(settling) as sender:
        shown = {"Authorization": SECRET}
        assert (await sender.client.post(sender.url + PATH, content=pieces(), headers=shown)).status_code == 200
        address = httpx.URL(sender.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\nContent-Length: {len(PLAIN)}\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
        async with asyncio.timeout(20):
            assert b" 100 " in await reader.readline()
            await reader.readline()
            writer.write(PLAIN)
            assert b" 200 " in await reader.readline()
        writer.close()
    assert len(settling.taken) == 2


@pytest.mark.parametrize("served", [posting, None])
@pytest.mark.parametrize("path", [PATH, PATH + "/"])
async def test_both_spellings_of_the_path_are_answered(store: Store, path: str, served: Any) -> None:
    """Also where the receiver is mounted in another app: a redirect would lead to http:// behind a proxy."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    job = await submitted(store)
    app = receiver_of(store).app
    under = "" if served else "/calls"
    async with posting(app if served else Starlette(routes=[Mount("/calls", app=app)])) as sender:
        answer = await sender.client.post(under + path, json=whole(named(job)))
    assert answer.status_code == 200
    assert (await now(store, job)).state is JobState.COMPLETED


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
PACKINGS: list[Callable[[bytes], bytes]] = [lambda content: content, gzip.compress, zlib.compress]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]


@given(
    value=st.dictionaries(st.text(max_size=9), values),
    form=st.sampled_from(ENCODINGS),
    packing=st.sampled_from(PACKINGS),
)
@example(value={"sessionId": "a\0\0\\u0000\\", "\0": ["\\\0"]}, form="utf-8", packing=PACKINGS[0])
def test_a_value_is_read_the_same_in_every_form_without_nul(
    value: Any, form: str, packing: Callable[[bytes], bytes]
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert decoded(decompressed(packing(text.encode(form)), longest=10**6)) == without_nul(value)


def without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [without_nul(each) for each in list[Any](value)]
    if isinstance(value, dict):
        return {without_nul(name): without_nul(each) for name, each in dict[str, Any](value).items()}
    return value
