"""The registry of backends, the addresses of files in store URLs, and the choice of journal files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from voiceflow_worker.errors import SettingsError, UnknownBackendError
from voiceflow_worker.model.text.printable import without_secrets

if TYPE_CHECKING:
    from voiceflow_worker.backends.witness import JournalFiles
    from voiceflow_worker.core.ports import Clock, Store
    from voiceflow_worker.settings import Settings


def path_of(url: str) -> Path:
    """The absolute path of the file in `sqlite:///relative.db` or `sqlite:////absolute.db`, or in a `file:` URL.

    The text after the third slash is the path; nothing in it is decoded. Raises SettingsError for a URL with a host or
    options, or without a file.
    """
    scheme, _, rest = url.partition(":")
    shown = without_secrets(url, options=True)
    example = f"write {scheme}:///relative.db or {scheme}:////absolute.db"
    if rest.startswith("//") and not rest.startswith("///"):
        raise SettingsError(f"the store URL {shown!r} has a host, but a file needs none; {example}")
    name, _, options = rest.removeprefix("//").removeprefix("/").partition("?")
    if options:
        raise SettingsError(f"the store URL {shown!r} has options, but the URL of a file has none; {example}")
    if not name or name.endswith("/"):
        raise SettingsError(f"the store URL {shown!r} names no file; {example}")
    if name == ":memory:":
        raise SettingsError(f"the store URL {shown!r} is SQLite's name for a database in memory; write memory://")
    return Path(name).absolute()


def file_of(url: str) -> Path | None:
    """The file in a URL of a SQLite store; None for other stores. Raises SettingsError if the URL is wrong."""
    return path_of(url) if url.lower().startswith(("sqlite:", "file:")) else None


def journal_files(settings: Settings) -> JournalFiles | None:
    """The journal files of the store, in which workers record the calls that they send; None for no journal files.

    A Redis store always has journal files, because its server may restart by itself from an older state. A SQLite store
    returns to an older state only if a person replaces its file, so it has journal files only if `state_dir` is set.
    Journal files have a disadvantage there: if a person deletes the store to start anew, a worker holds the queue. A
    store in memory has no journal files.
    """
    from voiceflow_worker.backends.witness import JournalFiles, journal_folder

    scheme = settings.store.partition(":")[0].lower()
    if scheme == "memory" or (scheme in {"sqlite", "file"} and settings.state_dir is None):
        return None
    return JournalFiles(journal_folder(settings.store, settings.state_folder()))


ENTRY_POINT_GROUP = "voiceflow_worker.backends"
"""The entry point group in which a package registers backends. The name of an entry is a URL scheme, its value an
`Opener`."""

Opener = Callable[..., "AbstractAsyncContextManager[Store]"]
"""The function of a backend that opens a store, with the signature `(url, *, clock: Clock | None, **options)`. It
returns a context manager, which opens nothing until it is entered."""

_REDIS = "voiceflow_worker.backends.redis:open_redis"
_BUILT_IN: Mapping[str, str] = {
    "memory": "voiceflow_worker.backends.memory:open_memory",
    "sqlite": "voiceflow_worker.backends.sqlite:open_sqlite",
    "file": "voiceflow_worker.backends.sqlite:open_sqlite",
    **dict.fromkeys(("redis", "rediss", "redis+cluster", "redis+sentinel", "valkey", "valkeys"), _REDIS),
}
# These need no entry points, so they also work without an installation (a zipped application, a checkout on the path).


def open_store(
    url: str = "sqlite:///voiceflow.db", *, clock: Clock | None = None, **options: Any
) -> AbstractAsyncContextManager[Store]:
    """Open the store at `url` for the length of an `async with` block.

    `sqlite:///relative.db` and `sqlite:////absolute.db` (or `file:`) keep jobs in one file. `memory://` keeps them
    until the block ends. Other schemes belong to installed backends (entry point group `voiceflow_worker.backends`).
    `clock` replaces the store's clock, for tests; `options` are passed to the backend.

    Raises UnknownBackendError at once if no backend is registered for the URL. Entering the block may raise StoreError.
    """
    return backend_for(url)(url, clock=clock, **options)


def backend_for(url: str) -> Opener:
    """The backend that opens this URL. Raises UnknownBackendError, which lists the registered schemes."""
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme:
        shown = without_secrets(url)
        raise UnknownBackendError(
            f"{shown!r} is not a store URL: it has no scheme. For a file, write sqlite:///{shown or 'voiceflow.db'}. "
            f"Registered schemes: {', '.join(registered())}."
        )
    if scheme in _BUILT_IN:
        return _loaded(EntryPoint(scheme, _BUILT_IN[scheme], ENTRY_POINT_GROUP), url)
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=scheme):
        return _loaded(entry, url)
    raise UnknownBackendError(
        f"no backend is registered for {without_secrets(url)!r}. "
        f"Registered schemes: {', '.join(registered())}. Check the spelling, or install the package that contains this "
        "backend."
    )


def is_redis(url: str) -> bool:
    """Whether this URL names a store in Redis or Valkey."""
    return _BUILT_IN.get(url.partition(":")[0].lower()) == _REDIS


def registered() -> list[str]:
    """The URL schemes for which a backend is registered, sorted."""
    return sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def _loaded(entry: EntryPoint, url: str) -> Opener:
    try:
        return cast("Opener", entry.load())
    except (ImportError, AttributeError) as error:
        remedy = (
            "Redis and Valkey need an extra: pip install 'voiceflow-worker[redis]'."
            if entry.value == _REDIS
            else "Check the spelling, or install the package that contains this backend."
        )
        raise UnknownBackendError(
            f"the backend for {without_secrets(url)!r} ({entry.value}) cannot be loaded: {error}. {remedy}"
        ) from error
