"""Bodies that are not quite right: whatever can be read of a summary is read, and its outcome kept."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, unknown
from tests.webhooks.payload_forms import FORMS, Call, Form, whole
from tests.webhooks.receiving import (
    SECRET,
    Settling,
    named,
    now,
    other,
    posting,
    receiver_of,
    receiving,
    submitted,
    summary,
)
from voiceflow_worker import open_store
from voiceflow_worker.asgi.limits import decompressed
from voiceflow_worker.core.base.reading import get_jobs
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


AT_ONCE = 20
"""Bodies that come one after the other to the same receiver."""
GENEROUS = 60.0
"""Seconds for one answer: what takes longer hangs."""

Body = Callable[[Call], bytes]
TEXTS = ["", "null", "a\x00b", "\ud800", "\ufeff", "x" * 70_000, "9999-12-31T23:59:59Z", "BUSY", "CALL_STATUS"]
NUMBERS = [-1, 2**63, 10**400, 1e300]
any_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([*TEXTS, *NUMBERS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
NAMES = [*whole(Call("", ""))["payload"], "callA", "callStatus", "eventData"]
OTHERS: Sequence[Any] = [
    other("CALL_ACTION", callStatus="ACTION_COMPLETED", eventData={"dtmf": "1"}, sipCode=200, clientActionId="main"),
    other("CALL_STATUS", callStatus="RINGING", timestamp="2026-07-01T09:00:00Z", callId="c", sipCode=180),
    other("CALL_RECORDING_STATUS", recordingId="r", status="UPLOAD_COMPLETED", durationSeconds=12, filePath="/a.wav"),
    {"namespace": "SMS", "eventType": "DLR", "payload": {"umid": "x"}},
]
HOSTILE = [
    b"", b"\xef\xbb\xbf{}", b"[" * 100_000 + b'"\\ud800"', b'{"payload":' * 1100, b'{"a": 1%b}' % (b"0" * 9000),
    b"x" * 1_000_001, gzip.compress(b"{}"), b"payload={}", '{"a": "\u00e9"}'.encode("utf-16"), b'{"a": {}, "a": NaN}',
]  # fmt: skip


def written(form: Form | None, another: Any, changed: Mapping[str, Any], cut: float | None, flip: float | None) -> Body:
    """A form of a summary, or another event, with some fields changed, then cut short or with one byte changed."""

    def body(call: Call) -> bytes:
        event = dict(another if form is None else form.event(call))
        payload = event.get("payload")
        event |= {"payload": {**payload, **changed}} if isinstance(payload, dict) else changed
        content = bytearray(json.dumps(event).encode())
        if flip is not None:
            content[int(flip * len(content))] ^= 0x55
        return bytes(content if cut is None else content[: int(cut * len(content))])

    return body


shares = st.none() | st.floats(0, 1, exclude_max=True)
bodies = st.one_of(
    st.builds(
        written,
        st.none() | st.sampled_from(FORMS),
        st.sampled_from(OTHERS),
        st.dictionaries(st.sampled_from(NAMES), any_values, max_size=3),
        shares,
        shares,
    ),
    st.sampled_from([*HOSTILE]).map(lambda content: lambda _: content),
    any_values.map(lambda value: lambda _: json.dumps(value).encode()),
)


async def calls_of(store: Store, count: int) -> list[Call]:
    """Calls in all states that a summary can meet: waiting for it, and in doubt."""
    answers = [unknown() if place % 3 == 0 else None for place in range(count)]
    voice = ScriptedVoice(answers=[answer for answer in answers if answer is not None])
    engine = Engine(store, voice)
    for place in range(count):
        await engine.enqueue(number(place))
    found: list[Call] = []
    for job in await engine.send():
        (post,) = job.posts
        found.append(Call(post.client_request_id, post.session_id or "session-of-nobody"))
    return found


@settings(max_examples=settings().max_examples // 5)
@given(sent=st.lists(st.tuples(bodies, st.integers(0, 5)), min_size=1, max_size=AT_ONCE))
async def test_a_damaged_body_is_answered_with_200_or_4xx(sent: Sequence[tuple[Body, int]]) -> None:
    async with open_store("memory://") as store:
        calls = await calls_of(store, 6)
        app = receiver_of(store).app
        async with posting(app) as sender:
            for body, place in sent:
                with anyio.fail_after(GENEROUS):
                    answer = await sender.client.post(PATH, content=body(calls[place]))
                assert answer.status_code in {200, 400, 413}
                assert json.loads(answer.content) is not None
            # None of them has broken the receiver or its store: the next summary is taken.
            final = summary(clientRequestId=calls[0].client_request_id, sessionId=calls[0].session_id)
            assert (await sender.send(final)).status_code == 200
        jobs = await get_jobs(store, [call.client_request_id.rpartition(".")[0] for call in calls])
    assert {job.post_count for job in jobs.values()} == {1}
    assert jobs[calls[0].client_request_id.rpartition(".")[0]].state in {
        JobState.COMPLETED, JobState.UNREACHED, JobState.FAILED, JobState.EXPIRED,
    }  # fmt: skip
