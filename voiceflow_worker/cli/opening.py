"""Settings from options, and the queue that they name, opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from voiceflow_worker.errors import StoreCorruptError, StoreUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from voiceflow_worker.backends.waiting import StoreWait
    from voiceflow_worker.cli.options import QueueOptions, WholeStoreOptions
    from voiceflow_worker.core.queue import CallQueue
    from voiceflow_worker.settings import Settings

_LEAST_PATIENCE = timedelta(seconds=1)
"""Two processes that write take turns: so long is nobody's lock."""


def settings_from(where: QueueOptions | WholeStoreOptions | None = None, /, **options: object) -> Settings:
    """The settings, where options that are not None come first; sets the logs up as they say."""
    from voiceflow_worker.cli.logs import log_to_stderr
    from voiceflow_worker.cli.options import WholeStoreOptions
    from voiceflow_worker.cli.output import Output
    from voiceflow_worker.settings import load_settings

    settings = load_settings(**options, **({} if where is None else asdict(where)))
    if isinstance(where, WholeStoreOptions) and where.queue is not None:
        Output().note("--queue is deprecated here and changes nothing: this command concerns the whole store")
    log_to_stderr(form=settings.log_format, level=settings.log_level, secrets=settings.secrets())
    return settings


@asynccontextmanager
async def opened_queue(
    settings: Settings, *, makes: bool = False, patience: timedelta | None = None
) -> AsyncGenerator[CallQueue]:
    """The queue of these settings, in its opened store. Raises StoreError.

    Only with `makes` is a store's file made that is not there: whoever looks at a queue, or orders something about it,
    means one that exists, and a slip of the pen must not look like an empty queue. A store that is locked or not there
    yet is waited for, as the settings say; with `makes` also one that can be read and not written. `patience` is how
    long another process may keep a file locked after that, before an operation fails.
    """
    from voiceflow_worker.backends.sqlite.file.address import file_of
    from voiceflow_worker.backends.waiting import opened_in_time
    from voiceflow_worker.core.queue import CallQueue
    from voiceflow_worker.model.jobs.redial import redial_policy

    wait = store_wait(settings)
    if not makes:
        await _found(settings, wait)
        # Whatever it orders is one step, so that one waits for a lock as its opening would.
        patience = patience or max(settings.wait_for_store, _LEAST_PATIENCE)
    options: dict[str, Any] = {}
    if patience is not None and file_of(settings.store) is not None:
        options["patience"] = patience
    async with opened_in_time(settings.store, wait=wait, writes=makes, **options) as store:
        redial = None
        if settings.redial_on:
            redial = redial_policy(settings.redial_on, limit=settings.redial_max, after=settings.redial_after)
        yield CallQueue(store, settings.queue, policy=settings.policy(), redial=redial)


def store_wait(settings: Settings) -> StoreWait:
    """The patience with a store that these settings ask for, from now on; it tells people what is waited for."""
    from voiceflow_worker.backends.waiting import StoreWait
    from voiceflow_worker.cli.output import Output

    return StoreWait(settings.wait_for_store, Output().note)


async def _found(settings: Settings, wait: StoreWait) -> None:
    """Wait for a store's file where somebody asked for that; else a name that is not there is taken for a slip."""
    from anyio import sleep

    from voiceflow_worker.backends.waiting import PAUSE

    while True:
        try:
            require_store(settings)
        except StoreUnavailableError as error:
            if settings.place_of("wait_for_store") is None or not wait.goes_on(error):
                raise
        else:
            return
        await sleep(PAUSE)


def require_store(settings: Settings) -> None:
    """Raise StoreUnavailableError when the store is a file that does not exist; it names those that are near."""
    from voiceflow_worker.backends.sqlite.file.address import file_of
    from voiceflow_worker.backends.sqlite.file.nearby import stores_near

    path = file_of(settings.store)
    if path is None or not path.parent.is_dir():  # opening tells of a folder that is missing
        return
    if path.exists():
        _require_content(path)
        return
    place = settings.place_of("store")
    named = f" ({place})" if place and not place.startswith("--") else ""
    near = stores_near(path)
    others = f" Near it: {', '.join(map(str, near))}." if near else ""
    raise StoreUnavailableError(
        f"there is no store {path}{named}, and this command makes none.{others} Name the store with --store or "
        "VOICEFLOW_STORE; `voiceflow enqueue` makes a new one"
    )


def _require_content(path: Path) -> None:
    if path.is_file() and path.stat().st_size == 0:
        raise StoreCorruptError(
            f"{path} is empty: it holds no store. If it was one, put a backup in its place: voiceflow restore FILE; "
            "else `voiceflow enqueue` makes a store of it"
        )
