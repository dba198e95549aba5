"""Work that takes the processor for long, in a process of its own.

A receiver must answer 8x8 within seconds. Python runs one thread at a time, so a file that is parsed, or a report that
is written, would keep the answers waiting, even in a thread of its own.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import structlog

from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.core.logs import mask_logs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreCorruptError, VoiceflowError
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.printable import HIDDEN, without_secrets
from voiceflow_worker.queue import CallQueue

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

T = TypeVar("T")

MOST_AT_ONCE = 2
"""The most processes at once. What comes later waits."""
_NICE = 10


class OtherProcess:
    """Runs work on a store in another process, which opens the store again by its URL.

    The URL is that of the store. If it has a password, it is taken from the `settings`, if they name the same store. A
    store in memory, and one whose password is not known, is in this process only, so its work is done here.
    """

    def __init__(self, store: Store, *, settings: Settings | None = None) -> None:
        self._store = store
        self._url = _url_of(store, settings)
        self._masks_logs = settings is not None and settings.log_mask
        self._free = anyio.Semaphore(MOST_AT_ONCE)

    async def run(self, work: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
        """The result of `work(store, …)`, a function of a module. A cancellation ends the process.

        The arguments, the result, and the errors of this library and of files must be values that can be pickled.
        Raises the errors of the work.
        """
        if self._url is None:
            return await work(self._store, *arguments, **named)
        order = pickle.dumps((self._url, self._store.id, self._masks_logs, work, arguments, named))
        # It finds the same modules, and none of the folder it is started in.
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"]
        async with self._free:
            ended = await anyio.run_process(command, input=order, stderr=None, check=False, start_new_session=True)
        if ended.returncode:
            raise RuntimeError(f"the process of the work ended with {ended.returncode}; its log has the reason")
        error, result = pickle.loads(ended.stdout)  # noqa: S301 - from our own process
        if error is not None:
            raise error
        return cast("T", result)

    async def run_on(
        self, work: Callable[..., Awaitable[T]], queue: str, *, policy: CallPolicy | None = None, **named: Any
    ) -> T:
        """The result of `work(queue, …)` on the queue with this name, as `run` has it."""
        return await self.run(_on_queue, work, queue, policy, named)


async def _on_queue(
    store: Store, work: Callable[..., Awaitable[T]], queue: str, policy: CallPolicy | None, named: Mapping[str, Any]
) -> T:
    return await work(CallQueue(store, queue, policy=policy), **named)


def _url_of(store: Store, settings: Settings | None) -> str | None:
    """The URL by which another process opens this store; None if there is none."""
    url = store.url
    if settings is not None and url in {without_secrets(settings.store), without_secrets(settings.store, options=True)}:
        url = settings.store
    return None if url.startswith("memory:") or HIDDEN in url else url


def main() -> None:
    """Do the work that is ordered on the standard input, and write its result to the standard output."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints does not become part of the answer
        with suppress(OSError):  # what filters system calls may refuse it
            os.nice(_NICE)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        url, store_id, masks, work, arguments, named = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the receiver that started this
        if masks:
            mask_logs()

        async def done() -> object:
            async with open_store(url) as store:
                if store.id != store_id:
                    raise StoreCorruptError(
                        f"{store.url} is another store for a second process than for this one, so nothing was done: "
                        "give the receiver the settings with the whole URL of its store"
                    )
                return await work(store, *arguments, **named)

        answer: tuple[Exception | None, object]
        try:
            answer = (None, anyio.run(done))
        except (VoiceflowError, OSError) as error:
            answer = (error, None)
        answers.write(pickle.dumps(answer))
