"""HTTP answers, read to their end, or as far as they came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import httpx
import orjson

from voiceflow_worker.model.flows.values import is_object

LONGEST_BODY = 64 * 1024
"""Bytes. An answer to a call has a few hundred; the rest of a longer one is discarded."""
_CLOSING = 1.0  # seconds to release a connection; if it takes longer, the connection is broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer. `is_whole`: its body came to its end. `post_was_cut`: the POST's own body provably did not."""

    status: int
    headers: httpx.Headers
    body: bytes
    is_whole: bool = True
    post_was_cut: bool = False

    @property
    def fields(self) -> Mapping[str, object]:
        """The JSON object in the body; empty if the body is anything else."""
        try:
            found: object = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if is_object(found) else {}


class AnswerReader:
    """Reads the body of a response whose head has come; `answer` returns what has come so far.

    A body of more than `longest` bytes counts as one that broke off. `closes_itself`: the response needs no closing
    after its end.
    """

    __slots__ = ("_body", "_closes_itself", "_longest", "_response", "came_with_content", "is_whole")

    def __init__(self, response: httpx.Response, *, longest: int = LONGEST_BODY, closes_itself: bool = False) -> None:
        self._response = response
        self._closes_itself = closes_itself
        self._longest = longest
        self._body = bytearray()
        self.came_with_content = response.is_stream_consumed
        """It was made with its content, as by httpx.MockTransport, and did not come over a connection."""
        self.is_whole = False

    @property
    def closes_its_connection(self) -> bool:
        """Whether its head says so (RFC 9112 §9.6)."""
        return "close" in self._response.headers.get("connection", "").lower()

    @property
    def states_its_length(self) -> bool:
        """Whether its head states its length. Otherwise everything that follows counts as a part of it."""
        return not {"content-length", "transfer-encoding"}.isdisjoint(self._response.headers)

    async def read(self) -> None:
        """Read to the end and close the response. After an error on the way the answer is not whole."""
        response, is_over = self._response, False
        try:
            if self.came_with_content:
                self._body += response.content
                self.is_whole = True
                return
            fits, stream = True, response.stream
            if not isinstance(stream, httpx.AsyncByteStream):
                return
            # Not by aiter_raw, which only counts the bytes on their way.
            async for chunk in stream:
                # The rest is read and discarded: an abandoned stream leaves its generators open, and trio warns.
                fits = fits and len(self._body) + len(chunk) <= self._longest
                if fits:
                    self._body += chunk
            is_over = self._closes_itself
            self.is_whole = fits and self._has_its_length()
            if self.is_whole and "content-encoding" in response.headers:
                self._decode()
        except Exception:  # noqa: BLE001 - each transport has errors of its own for this
            return
        finally:
            if not response.is_closed and not is_over:
                await self._close()

    def answer(self, *, post_was_cut: bool) -> Answer:
        """What has come so far."""
        return Answer(
            status=self._response.status_code,
            headers=self._response.headers,
            body=bytes(self._body),
            is_whole=self.is_whole,
            post_was_cut=post_was_cut,
        )

    def _has_its_length(self) -> bool:
        # httpx's pool and aiohttp notice a body that is too short; a transport of somebody else's may not.
        stated = self._response.headers.get("content-length", "")
        return not (stated.isascii() and stated.isdigit()) or stated.lstrip("0") == (str(len(self._body)).lstrip("0"))

    def _decode(self) -> None:
        """Decode a body with an unrequested encoding. A body that cannot be decoded is not whole."""
        self.is_whole = False
        encoding = self._response.headers["content-encoding"]
        self._body = bytearray(
            httpx.Response(200, headers={"content-encoding": encoding}, content=bytes(self._body)).content
        )
        self.is_whole = True

    async def _close(self) -> None:
        with anyio.move_on_after(_CLOSING, shield=True):
            try:
                await self._response.aclose()
            except Exception:  # noqa: BLE001 - the connection is lost, so it is closed
                return
