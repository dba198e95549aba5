"""A system of a user, to which notifications are sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from voiceflow_worker.notify.webhook import verify_notification

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Crm(ThreadingHTTPServer):
    """Takes everything, once it has seen that it was signed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Takes)
        self.received: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/calls?token=of-the-tests"

    def totals(self) -> dict[str, int]:
        """The batches of whose ends it was notified, none left out, with their calls at the last one."""
        found: dict[str, dict[int, int]] = {}
        for event in self.received:
            if event["type"] == "batch.ended":
                found.setdefault(event["data"]["batch_id"], {})[event["number"]] = event["data"]["total"]
        assert all(numbers.keys() == set(range(1, len(numbers) + 1)) for numbers in found.values()), found
        return {name: numbers[len(numbers)] for name, numbers in found.items()}


class _Takes(BaseHTTPRequestHandler):
    server: Crm

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(dict(verify_notification(SECRET, self.headers.items(), body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_crm() -> Iterator[Crm]:
    """Such a system, while the block lasts."""
    with Crm() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
