"""A receiver that may open nothing more once it has started: run as a process of its own, for the limit is final.

Its arguments are a store URL and how many calls wait there; it prints the statuses of their summaries as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import resource
import sys

import httpx

from tests.bench.webhook_load import BODY
from tests.bench.webhooks import seed
from voiceflow_worker import open_store
from voiceflow_worker.cli.logs import log_to_stderr
from voiceflow_worker.webhooks import PATH, receiver_app
from voiceflow_worker.webhooks.loading import load_what_is_read_later

SECRET = "Basic c2VjcmV0"


async def main(url: str) -> None:
    posts = await seed(url, 3)
    async with open_store(url) as store:
        app = receiver_app(store, secret=SECRET)
        load_what_is_read_later()
        # The C library opens it when a thread ends, and ends the process where it cannot.
        ctypes.CDLL(ctypes.util.find_library("gcc_s") or None)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            assert (await client.get("/readyz")).status_code == 200
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                os.open("/dev/null", os.O_RDONLY)
            except OSError:
                pass
            else:
                raise AssertionError("a file could be opened")
            statuses: list[int] = []
            for request_id, session_id in posts:
                for status in ("COMPLETED", "COMPLETED_UNSUBSCRIBED"):
                    body = BODY % {"session": session_id, "request": request_id}
                    answer = await client.post(
                        PATH, content=body.replace('"COMPLETED"', f'"{status}"'), headers={"Authorization": SECRET}
                    )
                    statuses.append(answer.status_code)
    sys.stdout.write(json.dumps(statuses))


log_to_stderr(form="console", level="info")
asyncio.run(main(sys.argv[1]))
