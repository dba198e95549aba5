"""One answer as it came off the wire: read to its end if it has one, kept as far as it came otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import httpx

LONGEST_BODY = 64 * 1024
"""An answer to a call has a few hundred bytes; what is longer is no answer of theirs, and its rest is thrown away."""
_CLOSING = 1.0  # seconds for giving a connection back; it is broken already when it takes any time at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer. `is_whole`: its body came to its end. `post_was_cut`: the POST's own body provably did not."""

    status: int
    headers: httpx.Headers
    body: bytes
    is_whole: bool = True
    post_was_cut: bool = False


class AnswerReader:
    """Reads the body of a response whose head has come; `answer` tells at any time what is known.

    A body of more than `longest` bytes counts as one that broke off.
    """

    __slots__ = ("_body", "_longest", "_response", "came_with_content", "is_whole")

    def __init__(self, response: httpx.Response, *, longest: int = LONGEST_BODY) -> None:
        self._response = response
        self._longest = longest
        self._body = bytearray()
        self.came_with_content = response.is_stream_consumed
        """It was made with its content, as httpx.MockTransport's are: it came over no connection."""
        self.is_whole = False

    @property
    def closes_its_connection(self) -> bool:
        """Whether its head says so (RFC 9112 §9.6)."""
        return "close" in self._response.headers.get("connection", "").lower()

    @property
    def states_its_length(self) -> bool:
        """Whether its head says where it ends. Else all that comes belongs to it, whoever it was meant for."""
        return not {"content-length", "transfer-encoding"}.isdisjoint(self._response.headers)

    async def read(self) -> None:
        """Read to the end; an error on the way is no error here, the answer is then not whole. Closes the response."""
        response = self._response
        try:
            if self.came_with_content:
                self._body += response.content
                self.is_whole = True
                return
            fits = True
            async for chunk in response.aiter_raw():
                # Thrown away and not left: leaving a stream early strands its generators, which trio complains of.
                fits = fits and len(self._body) + len(chunk) <= self._longest
                if fits:
                    self._body += chunk
            self.is_whole = fits and self._has_its_length()
            if self.is_whole and "content-encoding" in response.headers:
                self._decode()
        except Exception:  # noqa: BLE001 - each transport has its own errors for this, and all say: no further
            return
        finally:
            if not response.is_closed:
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
        """Take the encoding off that nobody asked for; a body that does not decode is no whole one."""
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
            except Exception:  # noqa: BLE001 - the connection is lost, which closing it meant to achieve
                return
