"""The registry of backends: opening the store of a URL, also with retries."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import anyio

from voiceflow_worker.backends.health import durability_of
from voiceflow_worker.backends.store_url import POSTGRES_SCHEMES, REDIS_SCHEMES
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.errors import StoreUnavailableError, UnknownBackendError
from voiceflow_worker.model.text.printable import without_secrets

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from voiceflow_worker.core.ports.outside import LocalJournal
    from voiceflow_worker.settings import Settings

ENTRY_POINT_GROUP = "voiceflow_worker.backends"
"""The entry point group in which a package registers backends. The name of an entry is a URL scheme, its value an
`Opener`."""

Opener = Callable[..., "AbstractAsyncContextManager[Store]"]
"""The function of a backend that opens a store, with the signature `(url, *, clock: Clock | None, **options)`. It
returns a context manager, which opens nothing until it is entered."""

# These need no entry points, so they also work without an installation (a zipped application, a checkout on the path).
_BUILT_IN: Mapping[str, str] = {
    "memory": "voiceflow_worker.backends.memory:open_memory",
    **dict.fromkeys(("sqlite", "file"), "voiceflow_worker.backends.sqlite:open_sqlite"),
    **dict.fromkeys(REDIS_SCHEMES, "voiceflow_worker.backends.redis:open_redis"),
    **dict.fromkeys(POSTGRES_SCHEMES, "voiceflow_worker.backends.postgres:open_postgres"),
}


def open_store(
    url: str = "sqlite:///voiceflow.db",
    *,
    clock: Clock | None = None,
    advises: bool = True,
    settings: Settings | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[Store]:
    """Open the store at `url` for the length of an `async with` block.

    `sqlite:///relative.db` and `sqlite:////absolute.db` (or `file:`) keep jobs in one file. `memory://` keeps them
    until the block ends. Other schemes belong to installed backends (entry point group `voiceflow_worker.backends`).
    `clock` replaces the store's clock, for tests; `options` are passed to the backend. With `advises=False`, no warning
    is logged about a server that should be configured differently. Orders are in the journal files of this host too
    (`core.orders`), where the `settings` say, or else the environment.

    Raises UnknownBackendError at once if no backend is registered for the URL. Entering the block may raise StoreError.
    """
    opened = backend_for(url)(url, clock=clock, **options)
    if url.partition(":")[0].lower() != "memory":
        opened = _with_journal(opened, url, settings)
    return _advised(opened) if advises else opened


@asynccontextmanager
async def _with_journal(
    opened: AbstractAsyncContextManager[Store], url: str, settings: Settings | None
) -> AsyncGenerator[Store]:
    from voiceflow_worker.core.orders import OrderedStore  # what it loads, `--help` does not need

    async with opened as store:

        def journal() -> LocalJournal:
            from voiceflow_worker.backends.local_journal import journal_files
            from voiceflow_worker.settings import load_settings

            return journal_files(store, url, settings or load_settings(lambda _: None))

        with closing(OrderedStore(store, journal)) as ordered:
            if settings is not None:
                await ordered.put_opt_outs_back()
            yield cast("Store", ordered)


@asynccontextmanager
async def _advised(opened: AbstractAsyncContextManager[Store]) -> AsyncGenerator[Store]:
    async with opened as store:
        durability = durability_of(store)
        if durability is not None and durability.warning is not None:
            import structlog  # 30 ms, which `--help` does not need

            structlog.get_logger("voiceflow.store").warning(
                "the server of the store should be configured differently", store=store.url, warning=durability.warning
            )
        yield store


def backend_for(url: str) -> Opener:
    """Return the backend that opens this URL. Raises UnknownBackendError, which lists the registered schemes."""
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme:
        shown = without_secrets(url)
        raise UnknownBackendError(
            f"{shown!r} is not a store URL: it has no scheme. For a file, write sqlite:///{shown or 'voiceflow.db'}. "
            f"Registered schemes: {', '.join(registered())}."
        )
    if scheme in _BUILT_IN:
        return _loaded(_BUILT_IN[scheme], partial(_built_in, _BUILT_IN[scheme]), url)
    for entry in _entries(scheme):
        return _loaded(entry.value, entry.load, url)
    raise UnknownBackendError(
        f"no backend is registered for {without_secrets(url)!r}. Registered schemes: {', '.join(registered())}. Check "
        "the spelling, or install the package that contains this backend."
    )


def registered() -> list[str]:
    """Return the URL schemes for which a backend is registered, sorted."""
    return sorted({*_BUILT_IN, *(entry.name for entry in _entries())})


def _entries(*names: str) -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points  # 15 ms, which the stores of this package do not need

    return [entry for entry in entry_points(group=ENTRY_POINT_GROUP) if not names or entry.name in names]


def _built_in(value: str) -> Any:
    module, _, name = value.partition(":")
    return getattr(import_module(module), name)


def _loaded(value: str, load: Callable[[], object], url: str) -> Opener:
    try:
        return cast("Opener", load())
    except (ImportError, AttributeError) as error:
        raise UnknownBackendError(
            f"the backend for {without_secrets(url)!r} ({value}) cannot be loaded: {error}"
        ) from error


PAUSE = 0.25
"""Seconds between two tries."""
_WRITES_WITHIN = 1.0
"""Seconds that a test write may take before the file counts as locked."""


@asynccontextmanager
async def opened_in_time(
    url: str, *, within: timedelta, report: Callable[[str], object], writes: bool, **options: Any
) -> AsyncGenerator[Store]:
    """Open a store. If it is locked or not there yet, try again until `within` has passed.

    If it must wait, `report` is called once with the reason. With `writes`, the store must also accept a write, because
    a file that another process has locked can still be opened and read. `options` are passed to the backend. Raises the
    error of the last try.
    """
    until, is_reported = time.monotonic() + within.total_seconds(), False
    while True:
        async with AsyncExitStack() as attempt:
            try:
                store = await attempt.enter_async_context(open_store(url, **options))
                if writes:
                    await _require_writable(store)
            except StoreUnavailableError as error:
                if not error.passes or time.monotonic() >= until:
                    raise
                if not is_reported:
                    is_reported = True
                    report(f"{str(error).removesuffix('.')}; trying again for up to {within.total_seconds():g} s")
            else:
                yield store
                return
        await anyio.sleep(PAUSE)


async def _require_writable(store: Store) -> None:
    """Make a write that changes nothing. Raises StoreUnavailableError if the write takes too long."""
    from voiceflow_worker.core.base.round_trips import confirm  # loads structlog, which `--help` does not need

    # The store of a server has a time limit of its own, and says what it waits for; a file is written in milliseconds.
    with anyio.move_on_after(_WRITES_WITHIN if store.url.startswith(("sqlite:", "file:")) else None):
        await confirm(store)
        return
    raise StoreUnavailableError(
        f"the store {store.url} is locked: another process is writing to it, or is frozen while writing; find that "
        "process with lsof"
    )
