"""`voiceflow audit`: who ordered what."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import LimitOption, SinceOption, WholeStoreOptions
from voiceflow_worker.cli.output import first
from voiceflow_worker.model.text.printable import printable_line


async def audit(
    *,
    since: Annotated[
        SinceOption, Parameter(help="Only what was ordered after this time, or within this time, such as 24h.")
    ] = None,
    by: Annotated[str | None, Parameter(metavar="NAME")] = None,
    limit: LimitOption = 100,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Show who ordered what, the newest first.

    Every action of people on this store: start, hold, resume, cancel, redial, resolve, suppress, unsuppress, rate,
    forget; by commands, pages, the HTTP door, Airflow and Python. Each with its time, its login (or the name of the API
    secret, or the DAG and its run), the name that was given with --as, its note and its result. Entries are kept for
    400 days. With --json, one a line.

    Args:
        by: Only what this person ordered: a login, a name given with --as, or the name of an API secret.

    Examples:
        voiceflow audit --since 24h
        voiceflow audit --by mary --json | jq -r '[.at, .action, .result] | @tsv'
    """
    from voiceflow_worker.core.audit import read_log

    output = common.output()
    shown = 0
    async with common.opened() as calls:
        now = calls.store.clock.now()
        earliest = since if isinstance(since, datetime) else now - since if isinstance(since, timedelta) else None
        async for entry in first(read_log(calls.store, since=earliest, by=by), limit=limit):
            output.result(entry.as_json(), printable_line(entry.in_words()))
            shown += 1
    if not shown:
        output.note("nobody ordered anything" + (" then" if since else "") + (f" as {by}" if by else ""))
    elif limit and shown == limit:
        output.note(f"only {limit} entries are shown; --limit 0 shows all")
