"""Logs on stderr, as text or as JSON lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Collection, MutableMapping
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO, cast

from voiceflow_worker.cli.remedies import in_commands
from voiceflow_worker.core.ports.rate_limited_log import RateLimitedLog
from voiceflow_worker.model.text.hiding import without_secrets_in
from voiceflow_worker.model.text.printable import printable, printable_json, printable_line

if TYPE_CHECKING:
    from structlog.typing import ExcInfo, Processor


def log_to_stderr(*, form: str, level: str, process: int | None = None, secrets: Collection[str] = ()) -> None:
    """Send what this library and the libraries below it log to stderr: one line an event, as JSON if `form` is json.

    Every line names the `process`, where several write to one stderr. Whatever logs it, a line shows none of `secrets`,
    and no password in a URL.
    """
    import structlog

    stderr = _Stderr(secrets)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if process is None else [_naming(process)]),
    ]
    ending: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False), _harmless_json]
        if form == "json"
        # Plain: its usual tracebacks print every local variable, and with them numbers, data and keys pressed.
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
        logger_factory=lambda *_: stderr,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(cast("Any", stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending], foreign_pre_chain=shared
        )
    )
    handler.addFilter(_once_a_second())
    # Libraries speak of their own business at info and debug; what they warn of is worth a line of ours.
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)


def _once_a_second() -> Callable[[logging.LogRecord], bool]:
    """Leaves out what a library repeats within a second: strangers can make it say the same thing very often."""
    seldom = RateLimitedLog()

    def is_told(record: logging.LogRecord) -> bool:
        # What is said stands in the first line; asyncio names sockets and tasks in those that follow.
        kind = (record.name, record.levelno, str(record.msg).partition("\n")[0])
        untold = seldom.admit(kind)
        if untold:
            record.msg = f"{record.msg} ({untold} more)"
        return untold is not None

    return is_told


def _naming(process: int) -> Processor:
    def name(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return name


def _harmless(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Each text on one line, with nothing that steers a terminal: strangers wrote some of them."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value) if name in _OF_MANY_LINES else printable_line(value)
    return event


_OF_MANY_LINES = frozenset({"exception", "stack"})


def _harmless_json(_logger: object, _method: str, line: Any) -> str:
    return printable_json(str(line))


def _harmless_traceback(stream: TextIO, error: ExcInfo) -> None:
    from structlog.dev import plain_traceback

    text = StringIO()
    plain_traceback(text, error)
    stream.write(printable(text.getvalue()))


class _Stderr:
    """Writes to whatever stderr is when it writes: while a progress bar is shown, lines go above it.

    The last place at which secrets are hidden, for what nobody thought of.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        # As they are, and as JSON and Python write them.
        self._secrets = {form for each in secrets for form in (each, json.dumps(each)[1:-1], repr(each)[1:-1])}

    def msg(self, message: str) -> None:
        print(without_secrets_in(in_commands(message), known=self._secrets), file=sys.stderr, flush=True)

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = msg

    def write(self, text: str) -> None:
        """For `logging`, which wants a stream."""
        sys.stderr.write(without_secrets_in(text, known=self._secrets))

    def flush(self) -> None:
        """For `logging`, which wants a stream."""
        sys.stderr.flush()
