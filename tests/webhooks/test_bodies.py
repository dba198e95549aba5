"""Bodies that are not quite right: whatever can be read of a summary is read, and its outcome kept."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
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
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.webhooks import PATH

pytestmark = pytest.mark.anyio


PLAIN = json.dumps(summary(errorDetails={"errorMsg": "Jörg"}), ensure_ascii=False).encode()
NOT_READ: Mapping[str, bytes] = {
    "gzip": gzip.compress(PLAIN), "UTF-16": PLAIN.decode().encode("utf-16"),
    "Latin-1": PLAIN.decode().encode("latin-1"),
    "NaN": PLAIN.replace(b"null", b"NaN", 1) + b"NaN", "cut": PLAIN[:-5], "a form": b"payload=%7B%7D",
}  # fmt: skip


async def test_what_is_no_json_in_utf_8_is_refused() -> None:
    settling = Settling()
    async with receiving(settling) as sender:
        for name, content in NOT_READ.items():
            answer = await sender.send(content)
            assert (answer.status_code, "not JSON" in answer.json()["error"]) == (400, True), name
    assert settling.taken == []


async def test_a_nul_is_replaced_and_the_type_of_the_content_does_not_matter() -> None:
    settling = Settling()
    async with receiving(settling) as sender:
        details = {"errorCode": -2001, "errorMsg": "a\0b"}
        for kind in ("", "text/plain", "application/json; charset=latin-1", "multipart/form-data"):
            event = json.dumps(summary(sessionStatus="FAILED", errorDetails=details)).encode()
            assert (await sender.send(event, Content_Type=kind)).status_code == 200, kind
            assert settling.taken.pop().error_message == "a\ufffdb"


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
