"""The file paths in store URLs."""

from __future__ import annotations

from pathlib import Path

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.hiding import without_secrets


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
