"""All that is in a store, to be compared before and after."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import apsw

from tests.support.redis_server import RedisServer
from voiceflow_worker.core.ports import Store


def contents(store: Store, *, redis: RedisServer | None) -> Any:
    """Every row of every table, every key with its value, or every attribute, of this store."""
    if store.url.startswith("sqlite"):
        return _of_file(Path(store.url.removeprefix("sqlite:///")))
    if store.url.startswith("redis"):
        assert redis is not None
        return _of_server(redis)
    return _of_memory(store)


def _of_file(path: Path) -> dict[str, list[Any]]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}
    finally:
        db.close()


def _of_server(server: RedisServer) -> dict[str, object]:
    keys = server.ask("KEYS", "*")
    assert isinstance(keys, list)
    # DEBUG DIGEST-VALUE is a digest of what a key holds: a value may be of any kind, and no text.
    return {str(key): server.ask("DEBUG", "DIGEST-VALUE", str(key)) for key in sorted(keys)}


def _of_memory(store: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in (store.jobs, store.records, store.control):
        for name, value in vars(part).items():
            try:
                found[f"{type(part).__name__}.{name}"] = pickle.dumps(value)
            except (TypeError, pickle.PicklingError, AttributeError):
                continue  # clocks, locks
    return found
