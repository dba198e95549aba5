"""The answer to one POST, read from bytes: wherever they are cut, whatever follows them, and when they are damaged."""

from __future__ import annotations

from itertools import product

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gateway.misbehaving import CREATED
from voiceflow_worker.gateway.answer import LONGEST_HEAD, AnswerParser, UnreadableAnswerError

HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 09:00:00 GMT\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(CREATED)
USUAL = HEAD + LENGTH + CREATED
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    CREATED[:5],
    len(CREATED) - 5,
    CREATED[5:],
)
SAID = {
    "a length": USUAL,
    "chunks": CHUNKED,
    "chunks and a trailer": CHUNKED[:-2] + b"X: y\r\n\r\n",
    "an interim answer first": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + USUAL,
}


def read(*pieces: bytes) -> AnswerParser:
    parser = AnswerParser()
    for piece in pieces:
        parser.feed(piece)
    return parser


@pytest.mark.parametrize("said", SAID)
def test_an_answer_is_the_same_wherever_it_is_cut(said: str) -> None:
    raw = SAID[said]
    for cut in range(1, len(raw)):
        assert not read(raw[:cut]).is_over
        parser = read(raw[:cut], raw[cut:])
        answer = parser.answer(post_was_cut=False)
        assert (answer.status, answer.body, answer.is_whole) == (200, CREATED, True)
        assert answer.headers["date"] == "Fri, 20 Nov 2026 09:00:00 GMT"
        assert parser.keeps_connection
        assert not parser.has_more


def test_what_comes_with_the_end_of_an_answer_is_seen() -> None:
    for said, surplus in product(SAID, [b"\r\n", b"\n", b"\r", b" ", b"H", b"\r\n\r\n", USUAL]):
        raw = SAID[said]
        for parser in (read(raw + surplus), read(raw[:-1], raw[-1:] + surplus)):
            assert parser.has_more
            assert parser.answer(post_was_cut=False).body == CREATED


def test_a_head_of_two_meanings_or_none_is_no_answer() -> None:
    for head in [
        b"220 smtp.example ready\r\n\r\n",
        b"\r\n\r\n" + USUAL,
        HEAD + LENGTH.replace(b"\r\n\r\n", b"\r\n") + LENGTH,
        HEAD + b"Content-Length: 5\r\n" + LENGTH,
        HEAD + b"Content-Length: +5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH,
        USUAL.replace(b"\r\n", b"\n") + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x00\x01\x02\r\n\r\n",
        HEAD + b"X: " + b"x" * LONGEST_HEAD,
    ]:
        with pytest.raises(UnreadableAnswerError):
            read(head)


def test_a_connection_that_ends_or_speaks_something_else_is_not_kept() -> None:
    for raw in [
        HEAD + b"Connection: close\r\n" + LENGTH + CREATED,
        HEAD + b"Connection: keep-alive\r\nConnection: close\r\n" + LENGTH + CREATED,
        HEAD + b"Connection: keep-alive, Close\r\n" + LENGTH + CREATED,
        USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD + b"\r\n" + CREATED,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        USUAL[:-1],
    ]:
        assert not read(raw).keeps_connection


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body_whatever_their_head_says(status: int) -> None:
    parser = read(b"HTTP/1.1 %d No\r\nContent-Length: 5\r\n\r\n" % status)
    assert parser.is_over
    assert parser.answer(post_was_cut=False).is_whole


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer with a few pieces removed, replaced or repeated."""
    raw = draw(st.sampled_from([USUAL, CHUNKED]))
    pieces = [b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b"0", b"1", b"\0", b"\xff", b"Connection: close\r\n"]
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(raw)))
        end = min(len(raw), begin + draw(st.integers(0, 6)))
        raw = raw[:begin] + draw(st.sampled_from(pieces)) + raw[end:]
    return raw


@given(damaged())
@example(USUAL)
def test_a_damaged_answer_is_never_read_as_two_parsers_would_read_it_differently(raw: bytes) -> None:
    """Against h11, wherever both find a whole answer with nothing after it."""
    try:
        parser = read(raw)
    except UnreadableAnswerError:
        return
    if not parser.is_over or parser.has_more:
        return
    answer = parser.answer(post_was_cut=False)
    if not answer.is_whole:
        return
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
    other.send(h11.EndOfMessage())
    other.receive_data(raw)
    body = b""
    try:
        while not isinstance(event := other.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Response):
                assert event.status_code == answer.status
            elif isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        return
    assert body == answer.body
    assert other.trailing_data[0] == b""
