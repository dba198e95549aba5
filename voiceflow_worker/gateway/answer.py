"""HTTP answers: their parser, and answers read to the end or up to the point where the connection broke off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import anyio
import httptools
import httpx
import orjson
from msgspec import Struct

LONGEST_BODY = 64 * 1024
"""The most bytes of a body that are kept. An answer to a call has a few hundred."""
RawHeaders = Sequence[tuple[bytes, bytes]]
"""The names and values of headers as they arrived. To make an `httpx.Headers` of them takes 3 µs."""
_CLOSING = 1.0  # seconds to wait for the release of a connection; after that it counts as broken


class HttpAnswer(Struct, frozen=True, kw_only=True):
    """An HTTP answer.

    `is_whole` means that the body was read to its end. `post_was_cut` means that a part of the body of the POST
    was provably not sent. `came_with_content` means that the response was made together with its content, as by
    httpx.MockTransport, and used no connection.
    """

    status: int
    raw_headers: RawHeaders
    body: bytes
    is_whole: bool = True
    post_was_cut: bool = False
    came_with_content: bool = False

    @property
    def headers(self) -> httpx.Headers:
        """Headers, whose names are found in upper or lower case."""
        return httpx.Headers(list(self.raw_headers))

    @property
    def closes_its_connection(self) -> bool:
        """True if the head announces that the server closes the connection (RFC 9112 §9.6)."""
        return "close" in self.headers.get("connection", "").lower()

    @property
    def states_its_length(self) -> bool:
        """True if the head states the length of the body. If not, the body lasts until the connection ends."""
        return not {"content-length", "transfer-encoding"}.isdisjoint(self.headers)

    @property
    def fields(self) -> Mapping[str, object]:
        """JSON object in the body; empty if the body is anything else."""
        try:
            found: object = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return cast("dict[str, object]", found) if isinstance(found, dict) else {}


async def read_answer(response: httpx.Response, *, longest: int = LONGEST_BODY) -> HttpAnswer:
    """Return the answer in a response of httpx, with as much of its body as comes, and close the response.

    A body of more than `longest` bytes is cut, and counts as incomplete.
    """
    body, is_whole, came_with_content = bytearray(), False, response.is_stream_consumed
    try:
        if came_with_content:
            body, is_whole = bytearray(response.content), True
        elif isinstance(response.stream, httpx.AsyncByteStream):
            # `aiter_raw` would only add the counting of bytes. A long body is read to its end: an abandoned stream
            # leaves generators open, and trio warns of them.
            fits = True
            async for chunk in response.stream:
                fits = fits and len(body) + len(chunk) <= longest
                body += chunk if fits else b""
            if fits and _has_its_length(response, len(body)):
                whole = decoded(bytes(body), response.headers.raw)
                body, is_whole = (body, False) if whole is None else (bytearray(whole), True)
    except Exception:  # noqa: BLE001, S110 - each transport has errors of its own for this, and the answer is not whole
        pass
    finally:
        if not response.is_closed:
            with anyio.move_on_after(_CLOSING, shield=True), suppress(Exception):  # the connection is lost
                await response.aclose()
    return HttpAnswer(
        status=response.status_code,
        raw_headers=response.headers.raw,
        body=bytes(body),
        is_whole=is_whole,
        came_with_content=came_with_content,
    )


def _has_its_length(response: httpx.Response, length: int) -> bool:
    # httpx's pool raises an error for a body that is too short; other transports may not.
    stated = response.headers.get("content-length", "")
    return not (stated.isascii() and stated.isdigit()) or stated.lstrip("0") == str(length).lstrip("0")


def decoded(body: bytes, headers: RawHeaders) -> bytes | None:
    """Return the body without its Content-Encoding, although none was requested; None if it cannot be decoded."""
    encodings = [(name, value) for name, value in headers if name.lower() == b"content-encoding"]
    if not encodings:
        return body
    try:
        return httpx.Response(200, headers=encodings, content=body).content
    except httpx.DecodingError:
        return None


LONGEST_HEAD = 64 * 1024
"""The most bytes of a head. An answer to a call has a few hundred."""
_END_OF_HEAD = b"\r\n\r\n"
_SWITCHING = 101
_WITHOUT_BODY = frozenset({_SWITCHING, 204, 304})


class UnreadableAnswerError(Exception):
    """What came is not an answer of HTTP/1."""


class AnswerParser:
    """Reads one answer, in whatever pieces it comes. Interim answers (1xx) are skipped.

    `is_over` means that nothing more is read: the answer is complete, or its body is too long or damaged. `has_more`
    means that further bytes came together with the end of the answer. They belong to no request.
    """

    __slots__ = (
        "_body",
        "_collector",
        "_is_chunked",
        "_is_whole",
        "_length",
        "_parser",
        "_status",
        "_unread",
        "has_more",
        "is_over",
        "keeps_connection",
    )

    def __init__(self) -> None:
        self._unread = b""
        self._status = 0  # until the head is complete
        self._body = b""
        self._length: int | None = None
        self._is_chunked = False
        self._is_whole = False
        self.is_over: bool = False
        self.has_more: bool = False
        self.keeps_connection: bool = False
        """Whether the answer is complete, and does not announce the end of its connection."""
        self._collector = _Collector()
        self._parser = httptools.HttpResponseParser(self._collector)

    @property
    def has_head(self) -> bool:
        """True if the head of the answer is complete."""
        return self._status > 0

    def feed(self, data: bytes) -> None:
        """Read the next bytes. Raises UnreadableAnswerError if they are no head of an answer."""
        self._unread += data
        while not self.has_head:
            end = self._unread.find(_END_OF_HEAD)
            if end < 0:
                if len(self._unread) > LONGEST_HEAD:
                    raise UnreadableAnswerError(f"the head of the answer has more than {LONGEST_HEAD // 1024} KiB")
                return
            end += len(_END_OF_HEAD)
            head, self._unread = self._unread[:end], self._unread[end:]
            self._read_head(head)
        unread, self._unread = self._unread, b""
        if self._is_chunked:
            self._read_chunks(unread)
        else:
            self._read_body(unread)

    def connection_ended(self, *, in_order: bool) -> None:
        """Read the end of the connection, which is the end of a body that states no length."""
        if self.has_head and not self.is_over:
            self._finish(is_whole=in_order and self._length is None and not self._is_chunked)

    def answer(self, *, post_was_cut: bool) -> HttpAnswer:
        """Return the answer, with the part of its body that has been read so far."""
        body = decoded(self._body, self._collector.headers) if self._is_whole else self._body
        return HttpAnswer(
            status=self._status,
            raw_headers=self._collector.headers,
            body=self._body if body is None else body,
            is_whole=self._is_whole and body is not None,
            post_was_cut=post_was_cut,
        )

    def _read_head(self, head: bytes) -> None:
        try:
            self._parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # llhttp stops after a 101: what follows is another protocol.
            if not self._collector.has_head or self._parser.get_status_code() != _SWITCHING:
                raise UnreadableAnswerError(str(error)) from error
        if not self._collector.has_head:
            raise UnreadableAnswerError("the answer begins with empty lines")
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != _SWITCHING:
            self._collector = _Collector()
            self._parser = httptools.HttpResponseParser(self._collector)
            return
        self._status = status
        for name, value in self._collector.headers:
            plain = name.lower()
            if plain == b"content-length":
                self._length = int(value)
            elif plain == b"transfer-encoding":
                self._is_chunked = value.lower().rpartition(b",")[2].strip() == b"chunked"
        if status in _WITHOUT_BODY:
            self._length, self._is_chunked = 0, False

    def _read_body(self, data: bytes) -> None:
        self._body += data
        length = self._length
        if length is not None and length <= LONGEST_BODY:
            if len(self._body) >= length:
                has_more = len(self._body) > length
                self._body = self._body[:length]
                self._finish(is_whole=True, has_more=has_more)
        elif len(self._body) > LONGEST_BODY:
            self._finish(is_whole=False)

    def _read_chunks(self, data: bytes) -> None:
        collector = self._collector
        collector.last_bytes = (collector.last_bytes + data)[-5:]
        was_damaged = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            was_damaged = True
        self._body = b"".join(collector.body)
        if collector.is_complete:
            # llhttp skips empty lines after an answer. They too belong to no request.
            ends_it = collector.last_bytes.endswith(_END_OF_HEAD) and not collector.last_bytes.startswith(b"\n")
            self._finish(is_whole=True, has_more=was_damaged or collector.has_begun_another or not ends_it)
        elif was_damaged or len(self._body) > LONGEST_BODY:
            self._finish(is_whole=False)

    def _finish(self, *, is_whole: bool, has_more: bool = False) -> None:
        self._is_whole = is_whole and len(self._body) <= LONGEST_BODY
        self.is_over = True
        self.has_more = has_more
        # RFC 9112 §9.3. Without a length, the body lasts until the connection ends.
        if self._is_whole and (self._is_chunked or self._length is not None) and self._status != _SWITCHING:
            ends = [value for name, value in self._collector.headers if name.lower() == b"connection"]
            is_kept = self._parser.get_http_version() == "1.1"
            self.keeps_connection = is_kept and not any(b"close" in value.lower() for value in ends)


class _Collector:
    """The callbacks of the parser: they collect the headers, and the body of a chunked answer."""

    __slots__ = ("body", "has_begun_another", "has_head", "headers", "is_complete", "last_bytes")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.has_head = False
        self.is_complete = False
        self.has_begun_another = False
        self.last_bytes = b""

    def on_message_begin(self) -> None:
        self.has_begun_another = self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:  # trailers are not needed
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        if not self.is_complete:
            self.body.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = True
