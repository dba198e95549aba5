"""What a command runs in: its logs and signals, its settings, its queue in a store, the client for 8x8."""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    MutableMapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from threading import Timer
from typing import TYPE_CHECKING, Any, cast

import anyio

from voiceflow_worker.backends.registry import opened_in_time
from voiceflow_worker.backends.store_url import file_of, is_server
from voiceflow_worker.cli.output import ExitCode, Output, UndoneError, confirm, with_remedies
from voiceflow_worker.errors import ChangedSinceError, JobError, SettingsError
from voiceflow_worker.model.text.printable import (
    masked_event,
    printable,
    printable_line,
    without_secrets_in,
)

if TYPE_CHECKING:
    from voiceflow_worker.actions import Operator, OperatorAction, Question
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings
    from voiceflow_worker.voiceflow import Voiceflow


def log_to_stderr(*, form: str, level: str, secrets: Collection[str] = (), masked: bool = False) -> None:
    """Write the logs of this library and of its dependencies to stderr, as text, or as JSON lines if `form` is json.

    No line shows one of `secrets`, or a password in a URL; with `masked`, none shows a whole telephone number.
    """
    import structlog

    threshold = logging.getLevelNamesMapping()[level.upper()]
    hidden = {form for each in secrets for form in (each, json.dumps(each)[1:-1], repr(each)[1:-1])}
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]

    def hide(_logger: object, _method: str, line: str) -> str:
        return without_secrets_in(line, known=hidden)

    render = structlog.processors.JSONRenderer() if form == "json" else _plain_line
    ending: list[Any] = [
        # Plain tracebacks: others print local variables, which hold phone numbers, data and key presses.
        structlog.processors.format_exc_info,
        *([masked_event] if masked else []),
        render,
        hide,
    ]
    stderr = cast("Any", _Stderr())
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stderr),
        cache_logger_on_first_use=False,
    )
    handler, formatter = logging.StreamHandler(stderr), structlog.stdlib.ProcessorFormatter
    handler.setFormatter(formatter(processors=[formatter.remove_processors_meta, *ending], foreign_pre_chain=shared))
    # Only warnings of other libraries matter to users; at info and debug they log their internals.
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of each request that is no HTTP


def _plain_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return a line of the log as text, in a fifth of the time of structlog's `ConsoleRenderer`."""
    texts = [printable(str(event.pop(name))) for name in ("stack", "exception") if name in event]
    values = "".join(f" {name}={value!r}" for name, value in event.items() if name not in _FIRST)
    return "\n".join([printable_line(f"{' '.join(str(event[name]) for name in _FIRST)}{values}"), *texts])


_FIRST = ("timestamp", "level", "event")


class _Stderr:
    """The current `sys.stderr`, which a progress bar may replace. A line that cannot be written is dropped."""

    def write(self, text: str) -> None:
        """Write a text."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Write the buffered text."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@asynccontextmanager
async def signals_to(heard: Callable[[int], None]) -> AsyncGenerator[None]:
    """Call `heard` for each SIGINT, SIGTERM or SIGHUP while the block lasts, with the number of signals so far.

    A terminal that is closed sends SIGHUP, often more than once: only the first signal counts if it is a SIGHUP. A
    SIGHUP that was ignored when the process started (`nohup`) stays ignored.
    """
    from voiceflow_worker.core.base.background import beside

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    stopping = STOPPING[:-1] if ignored else STOPPING

    async def listen(signals: AsyncIterator[signal.Signals]) -> None:
        count = 0
        async for each in signals:
            if not count or each is not signal.SIGHUP:
                count += 1
                heard(count)

    with anyio.open_signal_receiver(*stopping) as signals:
        async with beside(partial(listen, signals)):
            yield


@contextmanager
def ending_in_time() -> Generator[Callable[[float], None]]:
    """Give a function that ends the process if the block goes on for so many seconds more, whatever holds it up.

    No call is lost by that, as none is by a kill.
    """
    timers: list[Timer] = []

    def end(seconds: float) -> None:
        sys.stderr.write(f"the process has not ended within {seconds:g} s of its signal, and is ended now\n")
        os._exit(ExitCode.UNDONE)

    def within(seconds: float) -> None:
        timers.append(timer := Timer(seconds, end, [seconds]))
        timer.daemon = True
        timer.start()

    try:
        yield within
    finally:
        for timer in timers:
            timer.cancel()


def collect_less() -> None:
    """Collect garbage less often, and never among the objects that were loaded at the start.

    A worker or receiver makes and drops many small objects for each call, with hardly any reference cycles. With
    Python's defaults, a worker sent 5 to 11 % fewer calls per second of processor time. A busy receiver was halted for
    100 ms, more than once a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)


MOST_DESCRIPTORS = 65_536
"""The highest limit that `raise_limit` sets. Some systems allow 10^9, and allocate tables of that size."""


def raise_limit(*, least: int = 80) -> None:
    """Raise this process's limit on open files towards the hard limit. Raises SettingsError if it is below `least`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS refuses more than its own OPEN_MAX
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if 0 <= soft < least:
        raise SettingsError(
            f"this process may have only {soft} files open, and needs {least}. Raise the limit, by `ulimit -n {least}` "
            f"or by LimitNOFILE={least} in a systemd unit; or lower VOICEFLOW_CONCURRENCY"
        )


def settings_from(*, store_alone: bool = False, **options: object) -> Settings:
    """Load the settings, and set up the logs accordingly. An option that is not None overrides the other sources.

    For a look or an order that needs the `store_alone` and its queue, others that are wrong cause a warning.
    """
    from voiceflow_worker.settings import load_settings

    def warn(problem: str) -> None:
        Output().note(f"warning: {problem} (this command does without it)")

    settings = load_settings(warn if store_alone else None, options_place=None, **options)
    log_to_stderr(
        form=settings.log_format, level=settings.log_level, secrets=settings.secrets(), masked=settings.log_mask
    )
    return settings


@asynccontextmanager
async def opened_queue(
    settings: Settings,
    *,
    makes: bool = False,
    lock_timeout: timedelta | None = None,
) -> AsyncGenerator[CallQueue]:
    """Open the store of these settings as `opened_store` does, and yield the queue. Raises StoreError."""
    from voiceflow_worker.queue import CallQueue

    async with opened_store(settings, makes=makes, lock_timeout=lock_timeout) as store:
        yield CallQueue(store, settings.queue, policy=settings.policy())


@asynccontextmanager
async def opened_store(
    settings: Settings,
    *,
    makes: bool = False,
    lock_timeout: timedelta | None = None,
) -> AsyncGenerator[Store]:
    """Open the store of these settings, and yield it. Raises StoreError.

    Only with `makes`, a missing store is created: a mistyped name must not look like an empty queue. The settings limit
    the wait for a store that is locked or cannot be reached, and with `makes` for one that takes no write yet. If
    another process keeps the store's file locked later, each operation waits for `lock_timeout` at most.
    """
    options: dict[str, Any] = {"settings": settings}
    if not makes:
        require_store(settings)
        lock_timeout = lock_timeout or max(settings.wait_for_store, timedelta(seconds=1))
    if lock_timeout is not None and file_of(settings.store) is not None:
        options["lock_timeout"] = lock_timeout
    if is_server(settings.store):
        options["makes"] = makes
    within, report = settings.wait_for_store, Output().note
    opened = opened_in_time(settings.store, within=within, report=report, writes=makes, advises=makes, **options)
    async with opened as store:
        yield store


def require_store(settings: Settings) -> None:
    """Raise NoStoreError if the store is a file that does not exist, and StoreCorruptError if it is empty."""
    from voiceflow_worker.backends.sqlite.opening import require_there

    if (path := file_of(settings.store)) is not None:
        place = settings.place_of("store")
        require_there(path, named=f" ({place})" if place and not place.startswith("--") else "")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Voiceflow]:
    """Open what these settings name, for a command that sends; its store is made if it is missing.

    Raises SettingsError for missing settings before anything is opened, and StoreError.
    """
    from voiceflow_worker.voiceflow import Voiceflow

    client = voice_client(settings)
    async with opened_store(settings, makes=True) as store, client:
        yield Voiceflow(settings, store=store, client=client)


def voice_client(settings: Settings) -> VoiceClient:
    """Return a client, not opened yet. Raises SettingsError for missing settings."""
    from voiceflow_worker.gateway.client import VoiceClient

    missing = settings.missing_for_calls()
    if missing:
        last = f"{missing[-1]} (`voiceflow demo` needs no account)"
        raise SettingsError("; ".join([*missing[:-1], last, *misspelt_settings()]))
    return VoiceClient.from_settings(settings)


def misspelt_settings() -> list[str]:
    """Return a sentence for each unknown setting whose name is nearly that of a known one."""
    from voiceflow_worker.settings import unknown_variables

    return [each.in_words() for each in unknown_variables() if each.suggestion]


async def require_batch(calls: CallQueue, batch: str | None) -> None:
    """Raise UndoneError if a batch is named that has no calls."""
    from voiceflow_worker.core.base.identity import BatchNames

    if (unknown := await BatchNames(calls.store, calls.name).why_unknown(batch)) is not None:
        raise UndoneError(unknown)


@asynccontextmanager
async def acting(settings: Settings, who: str | None, *, makes: bool = False) -> AsyncGenerator[Operator]:
    """Open the store of these settings for the actions of a person. Raises StoreError.

    With `makes`, a missing store is made: an opt-out may come before the first campaign.
    """
    from voiceflow_worker.actions import Operator
    from voiceflow_worker.core.audit import Interface, login_name

    async with opened_store(settings, makes=makes) as store:
        policy = settings.policy()
        yield Operator(store, policy, who, on=Interface.COMMAND, login=login_name())


def _tell_question(question: Question, output: Output) -> None:
    for line in question.will_be_called:
        output.note(f"will be called: {line}")
    for line in question.will_not_be_called:
        output.note(f"will not be called: {line}")
    for line in question.facts:
        output.note(line)


async def carried_out(
    act: OperatorAction | Many, output: Output, *, yes: bool = False, shows: bool = False, asks: bool = False
) -> ExitCode:
    """Ask, if the action cannot be taken back or `asks`, and `yes` is False; then carry it out, and print its result.

    With `shows`, what the question says is printed with `yes` too.

    If a call does not allow the action, the reason is printed, and the exit code is 1.
    """
    token: str | None = None
    try:
        if (asks or act.is_irreversible) and (shows or not yes):
            question = await act.question()
            _tell_question(question, output)
            confirm(question.title, yes=yes)
            token = None if yes else question.token
        done = await act.do(token)
    except (JobError, ChangedSinceError) as error:
        output.note(with_remedies(error))
        return ExitCode.UNDONE
    for note in (*done.notes, *map(with_remedies, done.refused)):
        output.note(note)
    for document in done.documents:
        output.document(document)
    if done.not_done and not done.lines:
        output.note(with_remedies(done.message))
    else:
        output.answer(*(done.lines or (done.message,)))
    return ExitCode.UNDONE if done.not_done or done.refused else ExitCode.DONE
