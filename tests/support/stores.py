"""The stores that engine tests run on."""

from __future__ import annotations

from pathlib import Path

BACKENDS = ["memory", "sqlite"]


def url_for(backend: str, folder: Path) -> str:
    """A URL for a fresh store of this backend."""
    match backend:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{folder / 'calls.db'}"
        case _:
            raise ValueError(backend)
