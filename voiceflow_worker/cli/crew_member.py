"""One process of `voiceflow worker --processes N`.

It reads its options from the first line of stdin, and stops at the end of stdin.
"""

from __future__ import annotations

import json
import os
import sys

import anyio

from voiceflow_worker.backends.sqlite.file.same_files import Identities
from voiceflow_worker.cli.exit_codes import explained
from voiceflow_worker.cli.logs import log_to_stderr
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.remedies import error_line
from voiceflow_worker.cli.sending import opened_worker
from voiceflow_worker.cli.stopping import signals_to
from voiceflow_worker.core.worker import Worker


async def _work(order: str) -> None:
    wanted = json.loads(order)
    settings = settings_from(**wanted["options"])
    log_to_stderr(form=settings.log_format, level=settings.log_level, process=os.getpid(), secrets=settings.secrets())
    files = wanted["files"] and Identities(*(each and tuple(each) for each in wanted["files"]))
    async with (
        opened_worker(settings, files=files) as worker,
        signals_to(lambda _: worker.stop()),
        anyio.create_task_group() as group,
    ):
        group.start_soon(_stop_with_leader, worker)
        if wanted["drain"]:
            await worker.drain()
        else:
            await worker.run()
        group.cancel_scope.cancel()


async def _stop_with_leader(worker: Worker) -> None:
    while True:
        await anyio.wait_readable(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 4096):
            break
    worker.stop()


def main() -> int:
    """Run the worker, and return the exit code."""
    try:
        anyio.run(_work, sys.stdin.buffer.readline().decode())
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        print(error_line(f"process {os.getpid()}: {known[1]}"), file=sys.stderr)
        return known[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
