"""The registry of backends. The scheme of a store URL chooses the backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from voiceflow_worker.errors import UnknownBackendError
from voiceflow_worker.model.text.hiding import without_secrets

if TYPE_CHECKING:
    from voiceflow_worker.core.ports import Clock, Store

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
