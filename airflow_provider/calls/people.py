"""Where the people of a campaign come from: rows, a file, or a query."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from voiceflow_worker import InvalidInputError

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook


log = logging.getLogger(__name__)

DESTINATION = "destination"
CHUNK = 1000
"""The number of rows that are fetched from a database together."""


class HiddenRows:
    """Rendered rows. Airflow stores and shows what `serialize` returns: their number and the first phone number.

    `column` is that of the numbers.
    """

    def __init__(self, rows: Any, *, column: str = DESTINATION) -> None:
        self.rows = rows
        self._column = column

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def serialize(self) -> str:
        """Return the text for Airflow's page *Rendered Templates*."""
        given: object = self.rows
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            return f"({type(given).__name__}, not shown)"
        rows = cast("Sequence[object]", given)
        first = cast("Mapping[str, object]", rows[0]).get(self._column) if rows and _is_row(rows[0]) else None
        return f"{len(rows)} rows{'' if first is None else f', the first to {first}'} (not shown)"

    __repr__ = __str__ = serialize


def _is_row(row: object) -> bool:
    return isinstance(row, Mapping)


def rows_of_query(sql: str, *, conn_id: str, parameters: object = None) -> list[Mapping[str, Any]]:
    """Return the rows that a query of a database finds. They are fetched in chunks, in this process.

    `conn_id` is a connection of Airflow with a hook of the common SQL provider. Raises InvalidInputError if there is no
    such hook, or the statement gives no rows with names; and the errors of the database.
    """
    rows: list[Mapping[str, Any]] = []

    def fetch(cursor: Any) -> None:
        if cursor.description is None:
            raise InvalidInputError("sql returns no rows: give one SELECT statement")
        names = [str(column[0]) for column in cursor.description]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise InvalidInputError(
                f"sql returns several columns named {', '.join(twice)}: give each a name of its own"
            )
        while part := cursor.fetchmany(CHUNK):
            rows.extend(dict(row) if _is_row(row) else dict(zip(names, row, strict=True)) for row in part)

    # The handler returns nothing, because some hooks convert what a handler returns.
    _sql_hook(conn_id).run(sql, parameters=parameters, handler=fetch)
    log.info("the query found %s rows", len(rows))
    return rows


def _sql_hook(conn_id: str) -> DbApiHook:
    try:
        from airflow.providers.common.sql.hooks import sql
    except ImportError as error:
        raise InvalidInputError(
            f"sql needs a package that is not installed ({error}). Install apache-airflow-providers-common-sql and the "
            "Airflow provider of the database, such as apache-airflow-providers-postgres, where tasks run"
        ) from None
    kind = BaseHook.get_connection(conn_id).conn_type
    try:
        hook = BaseHook.get_hook(conn_id)
    except (AirflowException, ImportError) as error:
        raise InvalidInputError(
            f"there is no hook for connection {conn_id} of type {kind!r} ({error}). Install its Airflow provider, such "
            f"as apache-airflow-providers-{kind}, where tasks run"
        ) from None
    if not isinstance(hook, sql.DbApiHook):
        raise InvalidInputError(f"connection {conn_id} is of type {kind!r}, which is no database that sql can query")
    return hook
