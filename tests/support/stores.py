"""The stores that tests run on: one list, and one way to an empty one."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

BACKENDS = ("memory", "sqlite")
"""Those without a server."""
SERVERS = ("redis", "postgres")
DURABLE = ("sqlite", *SERVERS)
"""Those that outlive a process."""
EVERY = (*BACKENDS, *SERVERS)


def url_for(backend: str, folder: Path) -> str:
    """The URL of a store without a server; of the others, and of several: the fixture `fresh_url`."""
    match backend:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{folder / 'calls.db'}"
        case _:
            raise ValueError(backend)


def new_name() -> str:
    """A name that no other store has: a prefix in Redis, a schema in PostgreSQL, a file."""
    return f"t{uuid4().hex[:12]}"
