"""The journeys by HTTP: a program that uses `/v1`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import httpx

from tests.acceptance.journeys.interface import WORDS, Again, Call, Driver, Person, busy
from tests.support.stage import PLAIN


class HttpApi(Driver):
    """Requests, each of which must succeed the first time that it is made."""

    def start(self, batch: str, people: Sequence[Person], **fields: Any) -> Again:
        self._lists = getattr(self, "_lists", 0) + 1
        body = {**WORDS, **fields, "batch": batch, "rows": [*people]}
        return self._order("campaigns", body, key=f"{batch}-{self._lists}")

    def calls(self, batch: str) -> Sequence[Call]:
        found: Sequence[Call] = self._ask("GET", "calls", params={"batch": batch}).json()["calls"]
        return found

    def hold(self, batch: str) -> None:
        self._done("POST", f"batches/{batch}/hold")

    def resume(self, batch: str) -> None:
        hold = self._ask("GET", f"batches/{batch}").json()["hold"]
        self._done("POST", f"batches/{batch}/resume", json={"since": hold["since"], "most": len(self.calls(batch))})

    def cancel_call(self, call: Call) -> None:
        self._done("POST", f"calls/{call['id']}/cancel")

    def cancel_batch(self, batch: str) -> None:
        self._done("POST", f"batches/{batch}/cancel")

    def redial_busy(self, batch: str) -> Again:
        orders = [
            (f"calls/{each['id']}/redial", {"post": each["attempts"][-1]["number"]}) for each in busy(self.calls(batch))
        ]
        for path, body in orders:
            self._done("POST", path, json=body)
        return lambda: [self._ask("POST", path, json=body) for path, body in orders]

    def suppress(self, number: str) -> None:
        self._done("PUT", f"suppression/{number}")

    def resolve(self, call: Call, *, placed: bool) -> None:
        body = {"placed": placed, "note": "8x8 says so", "post": call["attempts"][-1]["number"]}
        self._ask("POST", f"calls/{call['id']}/resolve", json=body)

    def _order(self, path: str, body: object, *, key: str) -> Again:
        self._done("POST", path, json=body, headers={"Idempotency-Key": key})
        return partial(self._ask, "POST", path, json=body, headers={"Idempotency-Key": key})

    def _done(self, method: str, path: str, **more: Any) -> None:
        answer = self._ask(method, path, **more)
        assert answer.is_success, answer.text

    def _ask(self, method: str, path: str, *, headers: Any = None, **more: Any) -> httpx.Response:
        known = {"Authorization": f"Bearer {self.on.env['VOICEFLOW_API_SECRET']}", **(headers or {})}
        return httpx.request(method, f"{self.on.receiver}/v1/{path}", headers=known, timeout=60, **PLAIN, **more)
