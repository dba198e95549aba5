"""HTTP answers: read to the end, or up to the point where the connection broke off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import anyio
import httpx
import orjson

LONGEST_BODY = 64 * 1024
"""The most bytes of a body that are kept. An answer to a call has a few hundred."""
RawHeaders = Sequence[tuple[bytes, bytes]]
"""The names and values of headers as they arrived. To make an `httpx.Headers` of them takes 3 µs."""
_CLOSING = 1.0  # seconds to wait for the release of a connection; after that it counts as broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer.

    `is_whole` means that the body was read to its end. `post_was_cut` means that a part of the body of the POST
    provably did not leave. `came_with_content` means that the response was made together with its content, as by
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
        """The headers, whose names are found in upper or lower case."""
        return httpx.Headers(list(self.raw_headers))

    @property
    def closes_its_connection(self) -> bool:
        """Whether the head announces that the server closes the connection (RFC 9112 §9.6)."""
        return "close" in self.headers.get("connection", "").lower()

    @property
    def states_its_length(self) -> bool:
        """Whether the head states the length of the body. If not, the body lasts until the connection ends."""
        return not {"content-length", "transfer-encoding"}.isdisjoint(self.headers)

    @property
    def fields(self) -> Mapping[str, object]:
        """The JSON object in the body; empty if the body is anything else."""
        try:
            found: object = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return cast("dict[str, object]", found) if isinstance(found, dict) else {}


class AnswerReader:
    """A reader for the body of a response of httpx whose head has arrived.

    A body of more than `longest` bytes is cut, and counts as incomplete.
    """

    __slots__ = ("_body", "_came_with_content", "_longest", "_response", "is_whole")

    def __init__(self, response: httpx.Response, *, longest: int = LONGEST_BODY) -> None:
        self._response = response
        self._longest = longest
        self._body = bytearray()
        self._came_with_content = response.is_stream_consumed
        self.is_whole: bool = False

    async def read(self) -> None:
        """Read the body to its end, and close the response. After an error the answer is not whole."""
        response = self._response
        try:
            if self._came_with_content:
                self._body += response.content
                self.is_whole = True
                return
            fits, stream = True, response.stream
            if not isinstance(stream, httpx.AsyncByteStream):
                return
            # `aiter_raw` would only add the counting of bytes.
            async for chunk in stream:
                # A long body is read to its end: an abandoned stream leaves generators open, and trio warns of them.
                fits = fits and len(self._body) + len(chunk) <= self._longest
                if fits:
                    self._body += chunk
            if fits and self._has_its_length():
                whole = decoded(bytes(self._body), response.headers.raw)
                if whole is not None:
                    self._body = bytearray(whole)
                    self.is_whole = True
        except Exception:  # noqa: BLE001 - each transport has errors of its own for this
            return
        finally:
            if not response.is_closed:
                await self._close()

    def answer(self, *, post_was_cut: bool = False) -> Answer:
        """The answer, with the part of the body that has been read so far."""
        return Answer(
            status=self._response.status_code,
            raw_headers=self._response.headers.raw,
            body=bytes(self._body),
            is_whole=self.is_whole,
            post_was_cut=post_was_cut,
            came_with_content=self._came_with_content,
        )

    def _has_its_length(self) -> bool:
        # httpx's pool raises an error for a body that is too short; other transports may not.
        stated = self._response.headers.get("content-length", "")
        return not (stated.isascii() and stated.isdigit()) or stated.lstrip("0") == (str(len(self._body)).lstrip("0"))

    async def _close(self) -> None:
        with anyio.move_on_after(_CLOSING, shield=True):
            try:
                await self._response.aclose()
            except Exception:  # noqa: BLE001 - the connection is lost, so it is closed
                return


def decoded(body: bytes, headers: RawHeaders) -> bytes | None:
    """The body without its Content-Encoding, although none was requested; None if it cannot be decoded."""
    encodings = [(name, value) for name, value in headers if name.lower() == b"content-encoding"]
    if not encodings:
        return body
    try:
        return httpx.Response(200, headers=encodings, content=body).content
    except httpx.DecodingError:
        return None
