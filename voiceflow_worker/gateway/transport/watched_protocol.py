"""A connection of aiohttp that notices data which belongs to no request."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from aiohttp.client_exceptions import ClientConnectionResetError, SocketTimeoutError
from aiohttp.client_proto import ResponseHandler

from voiceflow_worker.gateway.answers.whole_answer import read_whole_answer

if TYPE_CHECKING:
    from voiceflow_worker.gateway.answers.answer import Answer


_BUFFER = 16 * 1024  # bytes; an answer to a call has a few hundred


class Keeper(Protocol):
    """Holds a connection back until it is certain that its last answer belongs to its request."""

    def given_back(self, give_back: Callable[..., None]) -> None:
        """Keep the connection, and call `give_back(should_close=...)` later."""
        ...


class WatchedProtocol(ResponseHandler, asyncio.BufferedProtocol):
    """A connection that notices data which belongs to no request.

    aiohttp itself would read this data, and take it for the answer to the next request. The connection reads into a
    buffer of its own. Without this buffer, asyncio would allocate 256 KB for each read, which takes 14 µs.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.was_used = False
        self.has_more = False
        self.ended_badly = False
        self.announced_end = False
        self.watch: Keeper | None = None
        self._is_answered = False
        self._stirred: asyncio.Event | None = None
        self._whole: asyncio.Future[Answer | None] | None = None
        self._answer_by = 0.0
        self._answer_timer: asyncio.TimerHandle | None = None
        self._poll: select.poll | None = None
        self._buffered = memoryview(bytearray(_BUFFER))  # TLS writes to slices of it, which must not be copies

    def asks(self, watch: Keeper | None) -> None:
        """Record that a request begins."""
        self.was_used = True
        self.watch = watch
        self._is_answered = False

    def returns(self, give_back: Callable[..., None]) -> None:
        """Give the connection back when the watch over its request is over: call `give_back(should_close=...)`."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.given_back(give_back)
        else:
            give_back(should_close=False)

    def answer_ended(self) -> None:
        """Record that the answer is complete. Data that arrives from now on belongs to no request."""
        self._is_answered = True
        self.announced_end = self._should_close
        self.has_more = self.has_more or bool(self._buffer) or bool(self._tail) or self._exception is not None

    @property
    def has_whole_answer(self) -> bool:
        """Whether the body of the last answer is complete."""
        return self._payload is None or self._payload.is_eof()

    @property
    def has_begun_another(self) -> bool:
        """Whether another answer, or the beginning of one, arrived together with the last answer.

        Do not call this within a callback of the parser, such as `answer_ended`: the parser is then still in the middle
        of the last answer.
        """
        if self._buffer or self._tail:
            return True
        if self._parser is None:
            return False
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - unreadable data came after the answer
            return True

    @property
    def has_something_to_read(self) -> bool:
        """Whether data has arrived that was not read yet, or the end of the connection."""
        if self.transport is None or self.transport.is_closing():
            return True
        if self._poll is None:
            opened = self.transport.get_extra_info("socket")
            if opened is None:
                return True
            self._poll = select.poll()
            self._poll.register(opened.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    async def post(self, request: bytes, *, read_timeout: float) -> Answer | None:
        """Send the bytes of a request. Returns the answer if it is of the usual kind (`read_whole_answer`).

        Otherwise returns None. aiohttp's parser then reads what has arrived, or raises the error that has occurred, as
        for any request.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        transport.write(request)
        self.read_timeout = read_timeout
        self._parser = None
        if self._tail:
            self._leave_to_aiohttp()
            return None
        self._whole = self._loop.create_future()
        self._answer_by = self._loop.time() + read_timeout
        if self._answer_timer is None:
            self._answer_timer = self._loop.call_at(self._answer_by, self._look)
        try:
            return await self._whole
        finally:
            self._whole = None

    async def stirs(self) -> None:
        """Wait until more data arrives or the connection ends."""
        self._stirred = asyncio.Event()
        if self.has_more or not self.is_connected():
            return
        await self._stirred.wait()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the event loop gives it)
        """The buffer for data. The event loop calls this."""
        return self._buffered

    def buffer_updated(self, nbytes: int) -> None:
        """Read the data in the buffer. The event loop calls this."""
        self.data_received(bytes(self._buffered[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Read an answer. Data that belongs to no request is not read, and the connection is not used again."""
        if self._is_answered and data:
            self.has_more = True
            self.force_close()
            self._stir()
            return
        whole = self._whole
        if whole is not None and not whole.done():
            answer = read_whole_answer(data) if self._has_left else None
            whole.set_result(answer)
            if answer is not None:
                self.answer_ended()
                return
            self._leave_to_aiohttp()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record that the connection has ended."""
        self.ended_badly = exc is not None
        super().connection_lost(exc)
        self._end_wait()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        self._stir()

    @property
    def _has_left(self) -> bool:
        """Whether all bytes of the request were given to the system."""
        return self.transport is not None and not self.transport.get_write_buffer_size()

    def _leave_to_aiohttp(self) -> None:
        """Let aiohttp's parser read the answer, with the data that has arrived."""
        self.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=self.read_timeout)

    def _look(self) -> None:
        """End the wait for an answer if it has taken too long; otherwise look again later.

        One timer serves many POSTs: to set and cancel a timer for each takes 3 µs.
        """
        self._answer_timer = None
        if self._whole is None or self._whole.done():
            return
        if self._loop.time() < self._answer_by:
            self._answer_timer = self._loop.call_at(self._answer_by, self._look)
            return
        self.set_exception(SocketTimeoutError("Timeout on reading data from socket"))
        self._end_wait()

    def _end_wait(self) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(None)

    def _stir(self) -> None:
        if self._stirred is not None:
            self._stirred.set()
