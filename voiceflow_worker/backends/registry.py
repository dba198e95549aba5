"""The registry of backends: the scheme of a store URL chooses the backend that opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from voiceflow_worker.errors import UnknownBackendError
from voiceflow_worker.model.text.hiding import without_secrets

if TYPE_CHECKING:
    from voiceflow_worker.core.ports import Clock, Store

ENTRY_POINT_GROUP = "voiceflow_worker.backends"
"""Under this group a distribution names its backends: the name is a URL scheme, the value an `Opener`."""

Opener = Callable[..., "AbstractAsyncContextManager[Store]"]
"""`(url, *, clock: Clock | None, **options) -> AbstractAsyncContextManager[Store]`. Nothing is opened until entered."""

_BUILT_IN: Mapping[str, str] = {
    "memory": "voiceflow_worker.backends.memory:open_memory",
    "sqlite": "voiceflow_worker.backends.sqlite:open_sqlite",
    "file": "voiceflow_worker.backends.sqlite:open_sqlite",
}
# These work also without installed metadata (a zipped application, a checkout on the path).

_REDIS_SCHEMES = frozenset({"redis", "rediss", "redis+cluster", "redis+sentinel", "valkey", "valkeys"})


def open_store(
    url: str = "sqlite:///voiceflow.db", *, clock: Clock | None = None, **options: Any
) -> AbstractAsyncContextManager[Store]:
    """Open the store at `url` for the length of an `async with`.

    `sqlite:///relative.db` and `sqlite:////absolute.db` (`file:` is the same) keep jobs in one file; `memory://` keeps
    them until the block ends; other schemes come from backends that are installed (entry point group
    `voiceflow_worker.backends`). `clock` replaces the store's clock, for tests; `options` are the backend's own.

    Raises `UnknownBackendError` at once when no backend is registered for the URL. Entering may raise any `StoreError`.
    """
    return backend_for(url)(url, clock=clock, **options)


def backend_for(url: str) -> Opener:
    """The backend that opens this URL. Raises `UnknownBackendError`, which lists the registered ones."""
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme:
        shown = without_secrets(url)
        raise UnknownBackendError(
            f"{shown!r} is not a store URL: it has no scheme. For a file write sqlite:///{shown or 'voiceflow.db'}. "
            f"Registered: {', '.join(registered())}."
        )
    if scheme in _BUILT_IN:
        module, _, name = _BUILT_IN[scheme].partition(":")
        return cast("Opener", getattr(import_module(module), name))
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=scheme):
        return _loaded(entry, url)
    raise UnknownBackendError(
        f"no backend is registered for {without_secrets(url)!r}. "
        f"Registered: {', '.join(registered())}.{_remedy(scheme)}"
    )


def registered() -> list[str]:
    """The URL schemes that can be opened here, sorted."""
    return sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def _loaded(entry: EntryPoint, url: str) -> Opener:
    try:
        return cast("Opener", entry.load())
    except (ImportError, AttributeError) as error:
        raise UnknownBackendError(
            f"the backend for {without_secrets(url)!r} ({entry.value}) cannot be loaded: {error}.{_remedy(entry.name)}"
        ) from error


def _remedy(scheme: str) -> str:
    if scheme in _REDIS_SCHEMES:
        return " Redis and Valkey come with an extra: pip install 'voiceflow-worker[redis]'."
    return " Check the spelling, or install the package that brings this backend."
