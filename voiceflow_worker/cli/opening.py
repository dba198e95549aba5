"""What a command runs in: its logs and signals, its settings, its queue in a store, the client for 8x8."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import resource
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

import anyio
import orjson
from anyio import sleep

from voiceflow_worker.backends.registry import PAUSE, StoreWait, health_of, opened_in_time, policy_for
from voiceflow_worker.backends.store_url import file_of, is_server
from voiceflow_worker.cli.output import ExitCode, Output, UndoneError, confirm, with_remedies
from voiceflow_worker.errors import ChangedSinceError, JobError, SettingsError, StoreCorruptError, StoreUnavailableError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.text.printable import (
    masked_event,
    printable,
    printable_json,
    printable_line,
    without_secrets_in,
)

if TYPE_CHECKING:
    from structlog.typing import Processor

    from voiceflow_worker.actions import Operator, OperatorAction, Question
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.core.ports import Store
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings


def log_to_stderr(*, form: str, level: str, secrets: Collection[str] = (), masked: bool = False) -> None:
    """Write the logs of this library and of its dependencies to stderr, as text, or as JSON lines if `form` is json.

    No line shows one of `secrets`, or a password in a URL; with `masked`, none shows a whole telephone number.
    """
    import structlog

    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [structlog.stdlib.add_log_level, _stamped, _once_a_fault()]
    # Plain tracebacks: others print local variables, which hold phone numbers, data and key presses.
    ending: list[Processor] = [
        structlog.processors.format_exc_info,
        *([masked_event] if masked else []),
        _json_line if form == "json" else _plain_line,
    ]
    _stderr.hide(secrets)
    _stderr.ending = ending if threshold <= logging.INFO else None
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _stderr)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(cast("Any", _stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending], foreign_pre_chain=shared
        )
    )
    handler.addFilter(_once_a_second())
    # Only warnings of other libraries matter to users; at info and debug they log their internals.
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)


@contextmanager
def calls_logged() -> Generator[None]:
    """Log the steps of each call while the block lasts, if the level of the log is info or lower.

    The lines of a quarter of a second are made and written together, past structlog's filters and binding: two lines a
    call took 19 % of a worker's processor time.
    """
    from voiceflow_worker.core import tracing

    with _stderr.joined(), nullcontext() if _stderr.ending is None else tracing.logged(_stderr.tell):
        yield


def _once_a_fault() -> Processor:
    """A processor that passes a warning with the same error only once in ten seconds, and then how many were left out.

    A store that is away would else fill the log: each call, event and request meets it.
    """
    import structlog

    from voiceflow_worker.core.base.round_trips import RateLimitedLog

    seldom = RateLimitedLog()

    def is_first(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method != "warning" or "error" not in event:
            return event
        repeated = seldom.admit((event["event"], event["error"]))
        if repeated is None:
            raise structlog.DropEvent
        if repeated:
            event["left_out"] = event.get("left_out", 0) + repeated
        return event

    return is_first


def _once_a_second() -> Callable[[logging.LogRecord], bool]:
    """A log filter that passes a repeated message only once a second. Without it, strangers could flood the log."""
    from voiceflow_worker.core.base.round_trips import RateLimitedLog

    seldom = RateLimitedLog(every=1.0)

    def is_first(record: logging.LogRecord) -> bool:
        # Only the first line is compared: in the following lines, asyncio names sockets and tasks.
        kind = (record.name, record.levelno, str(record.msg).partition("\n")[0])
        repeated = seldom.admit(kind)
        if repeated:
            record.msg = f"{record.msg} ({repeated} more)"
        return repeated is not None

    return is_first


def _stamped(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the time in UTC, unless it is there."""
    event.setdefault("timestamp", _stamp(time.time()))
    return event


def _stamp(now: float) -> str:
    second = int(now)
    return f"{_shown_second(second)}.{int((now - second) * 1e6):06}Z"


@lru_cache(maxsize=2)
def _shown_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """A line of the log as a JSON object."""
    try:
        line = orjson.dumps(event, default=repr).decode()
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        line = json.dumps(event, default=repr, ensure_ascii=False)
    return printable_json(line)


def _plain_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """A line of the log as text, in a fifth of the time of structlog's `ConsoleRenderer`."""
    told = [event.pop(name) for name in ("stack", "exception") if name in event]
    line = _plain(event.pop("timestamp"), event.pop("level"), event.pop("event"), event)
    return "\n".join([line, *(printable(str(each)) for each in told)])


def _plain(at: str, level: str, event: str, fields: Mapping[str, object]) -> str:
    shown = "".join([f" {name}={value}" for name, value in fields.items()])
    line = f"{at} [{level:<9}] {event}{shown}"
    # Each field has one blank and one =, unless its value has one too.
    if (
        shown.count(" ") == shown.count("=") == len(fields)
        and line.isprintable()
        and not ("'" in shown or '"' in shown)
    ):
        return line
    odd = [f" {name}={value!r}" if _ODD.search(str(value)) else f" {name}={value}" for name, value in fields.items()]
    return printable_line(f"{at} [{level:<9}] {event}{''.join(odd)}")


_ODD = re.compile(r"[\s\"'=]")
_JOINED_FOR = 0.25
"""Seconds in which the lines of a service are collected for one write."""


_Step: TypeAlias = tuple[float, str, Mapping[str, object]]
"""A step of a call: its time, its name and its fields."""


class _Stderr:
    """A stream to the current `sys.stderr`, with the secrets hidden in every line.

    It reads `sys.stderr` for each text, because a progress bar replaces `sys.stderr` to print texts above the bar. It
    has no lock: a line may be written wherever garbage is collected, also within another one.
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._lines: deque[str | _Step] | None = None
        self._came: SimpleQueue[bool] = SimpleQueue()
        """Wakes the thread that writes the lines: True for the first of some, False at the end."""
        self._is_woken = False
        self.ending: Sequence[Processor] | None = None
        """What makes a line of an event; None if the level of the log leaves out those of calls."""

    def hide(self, secrets: Collection[str]) -> None:
        """Hide these secrets from now on: each as it is, and as it appears in JSON and in a repr."""
        self._secrets = {form for each in secrets for form in (each, json.dumps(each)[1:-1], repr(each)[1:-1])}

    def tell(self, event: str, fields: Mapping[str, object]) -> None:
        """Write a line of a call, at level info."""
        self.write((time.time(), event, fields))

    def write(self, text: str | _Step) -> None:
        """Write a text. Secrets are hidden."""
        lines = self._lines
        if lines is None:
            sys.stderr.write(without_secrets_in(self._line(text), known=self._secrets))
            return
        lines.append(text)
        if not self._is_woken:
            self._is_woken = True
            self._came.put(True)

    def flush(self) -> None:
        """Write the buffered text; lines that are collected follow soon."""
        if self._lines is None:
            sys.stderr.flush()

    @contextmanager
    def joined(self) -> Generator[None]:
        """Collect lines for one write, while the block lasts."""
        lines, self._came = deque[str | _Step](), SimpleQueue[bool]()
        with suppress(RuntimeError):  # if this system gives the process no more threads, each line is written at once
            Thread(target=self._write_each, args=[self._came, lines], name="voiceflow-log", daemon=True).start()
            self._lines = lines
        try:
            yield
        finally:
            self._lines = None
            self._came.put(False)
            self._write_lines(lines)

    def _line(self, text: str | _Step) -> str:
        if isinstance(text, str):
            return text
        at, told, fields = text
        ending = self.ending or ()
        if _plain_line in ending and masked_event not in ending:  # past the chain, which takes twice as long
            return f"{_plain(_stamp(at), 'info', told, fields)}\n"
        line: Any = {"timestamp": _stamp(at), "level": "info", "event": told, **fields}
        for each in ending:
            line = each(None, "info", line)
        return f"{line}\n"

    def _write_each(self, came: SimpleQueue[bool], lines: deque[str | _Step]) -> None:
        while came.get():
            time.sleep(_JOINED_FOR)
            self._write_lines(lines)

    def _write_lines(self, lines: deque[str | _Step]) -> None:
        self._is_woken = False
        taken: list[str] = []
        with suppress(IndexError):
            while True:
                taken.append(self._line(lines.popleft()))
        if taken:
            sys.stderr.write(without_secrets_in("".join(taken), known=self._secrets))
            sys.stderr.flush()


_stderr = _Stderr()


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@asynccontextmanager
async def signals_to(heard: Callable[[int], None]) -> AsyncGenerator[None]:
    """Call `heard` for each SIGINT, SIGTERM or SIGHUP while the block lasts, with the number of signals so far.

    A terminal that is closed sends SIGHUP, often more than once: only the first signal counts if it is a SIGHUP. A
    SIGHUP that was ignored when the process started (`nohup`) stays ignored.
    """
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    stopping = STOPPING[:-1] if ignored else STOPPING
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(*stopping) as signals:
                listening.set()
                count = 0
                async for each in signals:
                    if count and each is signal.SIGHUP:
                        continue
                    count += 1
                    _tell_service_manager("STOPPING=1")
                    heard(count)

        # Inside the block, a process reports that it is ready. Signals must be handled from then on.
        listening = anyio.Event()
        group.start_soon(listen)
        await listening.wait()
        try:
            yield
        finally:
            group.cancel_scope.cancel()


@asynccontextmanager
async def supervised() -> AsyncGenerator[None]:
    """Tell systemd (`Type=notify`) that the process is ready, and that its event loop goes on (`WatchdogSec`)."""
    async with anyio.create_task_group() as group:

        async def beat(seconds: float) -> None:
            while True:
                _tell_service_manager("WATCHDOG=1")
                await anyio.sleep(seconds)

        _tell_service_manager("READY=1")
        if (limit := os.environ.get("WATCHDOG_USEC", "")).isdigit():
            group.start_soon(beat, int(limit) / 3_000_000)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


def _tell_service_manager(state: str) -> None:
    """Send a state by the protocol of sd_notify(3); without a service manager that listens, nothing happens."""
    if name := os.environ.get("NOTIFY_SOCKET"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto(state.encode(), name.replace("@", "\0", 1) if name.startswith("@") else name)


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


MOST_DESCRIPTORS = 65_536
"""The highest limit that `raise_limit` sets. Some systems allow 10^9, and allocate tables of that size."""
DESCRIPTORS = 80
"""The descriptors of a worker or receiver for all but the connections to 8x8: its store, journal, log and metrics."""


def raise_limit(*, least: int = DESCRIPTORS) -> int:
    """Raise this process's limit on open files towards the hard limit (`ulimit -Hn`), and return the new limit.

    Raises SettingsError if it is below `least`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        with suppress(OSError, ValueError):  # macOS refuses more than its own OPEN_MAX
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft < least:
        raise SettingsError(
            f"this process may have only {soft} files open, and needs {least}: raise the limit (`ulimit -n {least}`, "
            f"LimitNOFILE={least} in a systemd unit), or lower VOICEFLOW_CONCURRENCY if it is high"
        )
    return soft


_LEAST_TIMEOUT = timedelta(seconds=1)
"""The shortest wait for a lock. A process that works normally does not keep a lock for so long."""


def settings_from(*, store_alone: bool = False, **options: object) -> Settings:
    """Load the settings, and set up the logs accordingly. An option that is not None overrides the other sources.

    For a look or an order that needs the `store_alone` and its queue, others that are wrong cause a warning.
    """
    from voiceflow_worker.settings import export_further_variables, load_settings

    export_further_variables()

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
        yield CallQueue(store, settings.queue, policy=await policy_for(settings, store))


@asynccontextmanager
async def opened_store(
    settings: Settings,
    *,
    makes: bool = False,
    stops: bool = False,
    lock_timeout: timedelta | None = None,
) -> AsyncGenerator[Store]:
    """Open the store of these settings, and yield it. Raises StoreError.

    If `makes` is False, a missing store is not created: a mistyped name must not look like an empty queue. The settings
    of a server then cause no warning, because the worker and the doctor warn about them. What `stops` calls passes on
    any server that takes the write, even if it may lose it: the calls go on meanwhile.

    The settings limit the wait for a store that is locked or missing. If `makes` is True, they also limit the wait
    until the store accepts a write. If another process keeps the store's file locked later, each operation waits for
    `lock_timeout` at most.
    """
    wait = store_wait(settings)
    if not makes:
        await _found(settings, wait)
    if stops or not makes:
        # Such a command has one step, which may wait for a lock as long as the opening may.
        lock_timeout = lock_timeout or max(settings.wait_for_store, _LEAST_TIMEOUT)
    options: dict[str, Any] = {"settings": settings}
    if lock_timeout is not None and file_of(settings.store) is not None:
        options["lock_timeout"] = lock_timeout
    if is_server(settings.store):
        options |= {"makes": makes, "allow_degraded": stops}
    async with opened_in_time(settings.store, wait=wait, writes=makes and not stops, advises=makes, **options) as store:
        yield store


def store_wait(settings: Settings) -> StoreWait:
    """The wait for a store, limited by the settings. It prints the reason why it waits."""
    return StoreWait(settings.wait_for_store, Output().note)


async def _found(settings: Settings, wait: StoreWait) -> None:
    """Raise the errors of `require_store`. If the user has set a wait, first wait for a missing file."""
    while True:
        try:
            return require_store(settings)
        except StoreUnavailableError as error:
            if settings.place_of("wait_for_store") is None or not wait.goes_on(error):
                raise
        await sleep(PAUSE)


def require_store(settings: Settings) -> None:
    """Raise StoreUnavailableError if the store is a file that does not exist, and StoreCorruptError if it is empty."""
    from voiceflow_worker.backends.sqlite.opening import stores_near

    path = file_of(settings.store)
    if path is None:
        return
    if path.is_file() and path.stat().st_size == 0:
        raise StoreCorruptError(
            f"{path} is empty. If there was a store in it before, "
            f"{Remedy.RESTORE}; otherwise `voiceflow doctor --make` creates a store in it"
        ).needing(Remedy.RESTORE)
    if path.exists():
        return
    why = "" if path.parent.is_dir() else f": the directory {path.parent} does not exist"
    place = settings.place_of("store")
    named = f" ({place})" if place and not place.startswith("--") else ""
    near = stores_near(path)
    others = f" Stores nearby: {', '.join(map(str, near))}." if near else ""
    raise StoreUnavailableError(
        f"there is no store {path}{named}{why}, and this command does not create one.{others} Name a store with "
        "--store or VOICEFLOW_STORE; `voiceflow enqueue` and `voiceflow doctor --make` create a new one"
    )


def voice_client(settings: Settings) -> VoiceClient:
    """A client, not opened yet. Raises SettingsError for missing settings."""
    from voiceflow_worker.gateway.client import VoiceClient

    missing = settings.missing_for_calls()
    if missing:
        last = f"{missing[-1]} (`voiceflow demo` needs no account)"
        raise SettingsError("; ".join([*missing[:-1], last, *misspelt_settings()]))
    return VoiceClient.from_settings(settings)


def misspelt_settings() -> list[str]:
    """A sentence for each unknown setting whose name is nearly that of a known one."""
    from voiceflow_worker.settings import unknown_variables

    return [each.in_words() for each in unknown_variables() if each.suggestion]


async def require_batch(calls: CallQueue, batch: str | None) -> None:
    """Raise UndoneError if a batch is named that has no calls."""
    from voiceflow_worker.core.base.identity import BatchNames

    if (unknown := await BatchNames(calls.store, calls.name).why_unknown(batch)) is not None:
        raise UndoneError(unknown)


@asynccontextmanager
async def acting(
    settings: Settings, who: str | None, *, stops: bool = False, makes_file: bool = False
) -> AsyncGenerator[Operator]:
    """Open the store of these settings for the actions of a person. Raises StoreError.

    On a machine of a service, the store is named, and its place. If what `stops` calls may be lost, a line says so.
    With `makes_file`, a SQLite file that is missing is made: before the first campaign there is none yet. The store of
    a service or a server is there, or its name is wrong.
    """
    from voiceflow_worker.actions import Operator
    from voiceflow_worker.core.audit import Interface, login_name
    from voiceflow_worker.core.base.identity import new_revision

    note = Output().note
    place = settings.of_service("store")
    makes = makes_file and place is None and file_of(settings.store) is not None
    async with opened_store(settings, stops=stops, makes=makes) as store:
        if place is not None:
            note(f"in the store {store.url}, named by {place}")
        policy = await policy_for(settings, store)
        yield Operator(store, policy, who, on=Interface.COMMAND, login=login_name(), order=new_revision())
        if stops and (unsure := health_of(settings.store, store).degraded) is not None:
            note(
                f"warning: this is stored and in force, but may be lost: {unsure} Then check it, with `voiceflow "
                "status` or `voiceflow suppress list`"
            )


def _tell_question(question: Question, output: Output) -> None:
    for line in question.will_be_called:
        output.note(f"will be called: {line}")
    for line in question.will_not_be_called:
        output.note(f"will not be called: {line}")
    for line in question.facts:
        output.note(line)


async def carried_out(
    act: OperatorAction | Many, output: Output, *, yes: bool = False, tells: bool = False
) -> ExitCode:
    """Ask, if the action cannot be taken back and `yes` is False; then carry it out, and print its result.

    With `tells`, what the question says is printed with `yes` too.

    If a call does not allow the action, the reason is printed, and the exit code is 1.
    """
    expected_version: str | None = None
    try:
        if act.is_irreversible and (tells or not yes):
            question = await act.question()
            _tell_question(question, output)
            confirm(question.title, yes=yes)
            expected_version = None if yes else question.version
        done = await act.do(expected_version)
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
