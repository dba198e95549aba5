"""The process of a command: its logs on stderr, its signals, its garbage collection."""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Collection, MutableMapping
from contextlib import asynccontextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO, cast

import anyio

from voiceflow_worker.core.ports.retrying import RateLimitedLog
from voiceflow_worker.model.text.printable import printable, printable_json, printable_line, without_secrets_in

if TYPE_CHECKING:
    from structlog.typing import ExcInfo, Processor


def log_to_stderr(*, form: str, level: str, process: int | None = None, secrets: Collection[str] = ()) -> None:
    """Write the logs of this library and of its dependencies to stderr, as text, or as JSON lines if `form` is json.

    If `process` is given, every line names it, because several processes may share one stderr. No line shows one of
    `secrets`, or a password in a URL.
    """
    import structlog

    stderr = _Stderr(secrets)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if process is None else [lambda _logger, _method, event: {**event, "process": process}]),
    ]
    ending: list[Processor] = (
        [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
            lambda _logger, _method, line: printable_json(str(line)),
        ]
        if form == "json"
        # Plain tracebacks: those of rich print local variables, which hold phone numbers, data and key presses.
        else [
            _harmless,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=_harmless_traceback
            ),
        ]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stderr)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(cast("Any", stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending], foreign_pre_chain=shared
        )
    )
    handler.addFilter(_once_a_second())
    # Only warnings of other libraries matter to users; at info and debug they log their internals.
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)


def _once_a_second() -> Callable[[logging.LogRecord], bool]:
    """A log filter that passes a repeated message only once a second. Without it, strangers could flood the log."""
    seldom = RateLimitedLog()

    def is_first(record: logging.LogRecord) -> bool:
        # Only the first line is compared: in the following lines, asyncio names sockets and tasks.
        kind = (record.name, record.levelno, str(record.msg).partition("\n")[0])
        repeated = seldom.admit(kind)
        if repeated:
            record.msg = f"{record.msg} ({repeated} more)"
        return repeated is not None

    return is_first


def _harmless(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove control characters from all texts, because strangers may have written them.

    Line breaks are removed too, but tracebacks keep theirs.
    """
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value) if name in _OF_MANY_LINES else printable_line(value)
    return event


_OF_MANY_LINES = frozenset({"exception", "stack"})


def _harmless_traceback(stream: TextIO, error: ExcInfo) -> None:
    from structlog.dev import plain_traceback

    text = StringIO()
    plain_traceback(text, error)
    stream.write(printable(text.getvalue()))


class _Stderr:
    """A stream to the current `sys.stderr`, with the secrets hidden in every line.

    It reads `sys.stderr` for each text, because a progress bar replaces `sys.stderr` to print texts above the bar.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        # Each secret as it is, and as it appears in JSON and in a repr.
        self._secrets = {form for each in secrets for form in (each, json.dumps(each)[1:-1], repr(each)[1:-1])}

    def write(self, text: str) -> None:
        """Write a text. Secrets are hidden."""
        sys.stderr.write(without_secrets_in(text, known=self._secrets))

    def flush(self) -> None:
        """Write the buffered text."""
        sys.stderr.flush()


STOPPING = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def signals_to(heard: Callable[[int], None]) -> AsyncGenerator[None]:
    """Call `heard` for each SIGINT or SIGTERM while the block lasts, with the number of signals so far."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(*STOPPING) as signals:
                listening.set()
                count = 0
                async for _ in signals:
                    count += 1
                    heard(count)

        # Inside the block, a process reports that it is ready. Signals must be handled from then on.
        listening = anyio.Event()
        group.start_soon(listen)
        await listening.wait()
        try:
            yield
        finally:
            group.cancel_scope.cancel()


def collect_less() -> None:
    """Collect garbage less often, and never among the objects that were loaded at the start.

    A worker or receiver makes and drops many small objects for each call, with hardly any reference cycles. With
    Python's defaults, a worker sent 5 to 11 % fewer calls per second of processor time. A busy receiver was halted for
    100 ms, more than once a second.

    Objects that survive a collection are examined again after about 100,000 new objects. When that number was a
    million, closed connections filled 100 MB. Their collection took 0.6 s, during which the receiver answered nobody.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)
