"""Quick reading of the usual answer to a call: 200 with a Content-Length, received in one piece.

Any other answer is left to aiohttp: another status, a part of an answer, surplus data, a chunked or encoded body, or a
connection that the server closes.
"""

from __future__ import annotations

import httptools

from voiceflow_worker.gateway.answers.answer import LONGEST_BODY, Answer

_END_OF_HEAD = b"\r\n\r\n"
_LEFT_TO_AIOHTTP = frozenset({b"transfer-encoding", b"content-encoding", b"upgrade"})


def read_whole_answer(data: bytes) -> Answer | None:
    """The answer, if `data` is exactly one complete answer of the usual kind; otherwise None."""
    if not data.startswith(b"HTTP/1.1 200 "):
        return None
    reader = _Reader()
    try:
        httptools.HttpResponseParser(reader).feed_data(data)
    except httptools.HttpParserError:
        return None
    length = 0
    for name, value in reader.headers:
        plain = name.lower()
        if plain == b"content-length":
            length = int(value)
        elif plain in _LEFT_TO_AIOHTTP or (plain == b"connection" and value.lower() != b"keep-alive"):
            return None
    # The parser skips empty lines after an answer. Here they count as surplus data.
    begin = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
    if not reader.is_complete or not 0 < length <= LONGEST_BODY or begin + length != len(data):
        return None
    return Answer(status=200, raw_headers=reader.headers, body=data[begin:])


class _Reader:
    """The callbacks of the parser: they collect the headers."""

    __slots__ = ("headers", "is_complete")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self.is_complete = True
