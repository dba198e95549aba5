"""`voiceflow forget` erases a person, and `voiceflow audit` shows who ordered what."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from voiceflow_worker.cli.opening import acting, carried_out
from voiceflow_worker.cli.options import AsOption, LimitOption, NoteOption, SinceOption, WholeStoreOptions, YesOption
from voiceflow_worker.cli.output import ExitCode, first
from voiceflow_worker.cli.suppress import CountryOption
from voiceflow_worker.model.text.printable import printable_line


async def forget(
    number: Annotated[
        str,
        Parameter(
            name="NUMBER",
            help="The person's phone number, in any usual spelling; - for stdin.",
            allow_leading_hyphen=True,
        ),
    ],
    /,
    *,
    country: CountryOption = None,
    export: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    note: NoteOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> ExitCode:
    """Erase a person, with all that is stored of them.

    Shows what goes and what stays, and asks. An opt-out and the unique keys stay as keyed digests: the person is still
    not called. Refused (exit 1) while a call to the number is open or in doubt. Order it again if it was interrupted,
    and after a backup was restored. A number from stdin is in no list of processes, history of a shell or system log.

    Args:
        export: Write all that is stored of the person into this file, as JSON, and erase nothing. Only its user can
            read a new file.

    Examples:
        voiceflow forget +6587654321 --export person.json
        voiceflow forget "8765 4321" --country SG --note "asked by mail" --yes
        voiceflow forget - --yes < number.txt
    """
    from voiceflow_worker.backends.local_journal import journal_files
    from voiceflow_worker.campaigns.files.rows import whole_file
    from voiceflow_worker.service.forget import Forget

    settings, output = common.settings(), common.output()
    if number == "-":
        number = sys.stdin.readline().strip()
    async with acting(settings, as_) as operator:
        files = journal_files(settings, operator.store)
        act = Forget(operator=operator, number=number, country=country, note=note, files=files)
        if export is not None:
            document = await act.export()
            with whole_file(export) as unfinished:
                text = f"{json.dumps(document, indent=1, ensure_ascii=False)}\n"
                await anyio.Path(unfinished).write_text(text, "utf-8")
            output.note(f"what is stored of the person is in {export}; nothing was erased")
            return ExitCode.DONE
        return await carried_out(act, output, yes=yes, tells=True)


async def audit(
    *,
    since: Annotated[
        SinceOption, Parameter(help="Only entries after this time, or within this time, such as 24h.")
    ] = None,
    by: Annotated[str | None, Parameter(metavar="NAME")] = None,
    limit: LimitOption = 100,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Show who ordered what, the newest first.

    Every action of people on this store, from any interface, with its time, login, note and result. Entries are kept
    for 400 days.

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
        output.note("the audit log has no such entry" + (" then" if since else "") + (f" as {by}" if by else ""))
    elif limit and shown == limit:
        output.note(f"only {limit} entries are shown; --limit 0 shows all")
