"""From a store URL to the path of its file."""

from __future__ import annotations

from pathlib import Path

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.hiding import without_secrets


def path_of(url: str) -> Path:
    """The absolute path that `sqlite:///relative.db` or `sqlite:////absolute.db` names (`file:` is the same).

    The text behind the third slash is the path as it is: nothing in it is decoded. Raises `SettingsError` for a URL
    that names a host, options, or no file.
    """
    scheme, _, rest = url.partition(":")
    shown = without_secrets(url, options=True)
    example = f"write {scheme}:///relative.db or {scheme}:////absolute.db"
    if rest.startswith("//") and not rest.startswith("///"):
        raise SettingsError(f"the store URL {shown!r} names a host, but a file has none; {example}")
    name, _, options = rest.removeprefix("//").removeprefix("/").partition("?")
    if options:
        raise SettingsError(f"the store URL {shown!r} carries options, but a file store takes none there; {example}")
    if not name or name.endswith("/"):
        raise SettingsError(f"the store URL {shown!r} names no file; {example}")
    if name == ":memory:":
        raise SettingsError(f"the store URL {shown!r} is SQLite's own name for memory; write memory://")
    return Path(name).absolute()


def file_of(url: str) -> Path | None:
    """The file that a store URL names; None for a store of another kind. Raises SettingsError if it names no file."""
    return path_of(url) if url.lower().startswith(("sqlite:", "file:")) else None
