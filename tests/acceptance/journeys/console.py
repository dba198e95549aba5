"""The journeys by the forms of the console; what is read, and lists that no form is for, are a program's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import httpx

from tests.acceptance.journeys.http_api import HttpApi
from tests.acceptance.journeys.interface import WORDS, Again, Call, Person
from tests.console.signing_in import Form
from tests.support.stage import PLAIN


class Console(HttpApi):
    """Somebody who has signed in. Each form must succeed the first time that it is sent."""

    def hold(self, batch: str) -> None:
        self._confirm("hold", {"queue": "default", "batch": batch})

    def resume(self, batch: str) -> None:
        self._confirm("resume", {"queue": "default", "batch": batch})

    def cancel_call(self, call: Call) -> None:
        self._confirm("cancel-call", {"call": call["id"]})

    def cancel_batch(self, batch: str) -> None:
        self._confirm("cancel-batch", {"queue": "default", "batch": batch})

    def redial_busy(self, batch: str) -> Again:
        return self._confirm("redial-batch", {"queue": "default", "batch": batch, "outcome": "busy"})

    def suppress(self, number: str) -> None:
        self._confirm("suppress", {}, numbers=number)

    def resolve(self, call: Call, *, placed: bool) -> None:
        verdict = "placed" if placed else "not-placed"
        self._confirm("resolve", {"call": call["id"]}, may_fail=True, verdict=verdict, note="8x8 says so")

    def _confirm(self, name: str, subject: dict[str, str], *, may_fail: bool = False, **typed: str) -> Again:
        """Open the question before an order, fill it in, and send it."""
        form = Form(self._visit("GET", f"act/{name}", params=subject).text)
        send = partial(self._visit, "POST", f"act/{name}", data=form.values(**typed))
        answer = send()
        assert may_fail or answer.status_code == 303, answer.text
        return send

    def _visit(self, method: str, path: str, **more: Any) -> httpx.Response:
        here, more = self.on.receiver, {"timeout": 60, **PLAIN, **more}
        return httpx.request(method, f"{here}/ui/{path}", headers={"Origin": here}, cookies=self._signed_in, **more)

    @cached_property
    def _signed_in(self) -> httpx.Cookies:
        who = {"name": "Mary Tan", "secret": self.on.env["VOICEFLOW_UI_OPERATOR_SECRET"], "way": ""}
        here = self.on.receiver
        return httpx.post(f"{here}/ui/sign-in", data=who, headers={"Origin": here}, **PLAIN).cookies


class ConsoleForm(Console):
    """Somebody who starts a list by the form, too."""

    def start(self, batch: str, people: Sequence[Person], **fields: Any) -> Again:
        lines = [",".join(people[0]), *(",".join(each.values()) for each in people)]
        answer = self._visit("POST", "campaign", files={"file": (f"{batch}.csv", "\n".join(lines))})
        draft = answer.headers["location"].partition("/ui/")[2].removeprefix("ui/")
        form: dict[str, Any] = {}
        for do, typed in (("check", {"say": WORDS["say"], "any": "yes", **fields}), ("start", {})):
            sent = Form(self._visit("GET", draft).text).sent
            days = [value for name, value in sent if name == "days"]
            form = {"data": {**dict(sent), "days": days, **typed, "do": do}, "files": {"file": ("", "")}}
            answer = self._visit("POST", draft, **form)
            assert answer.status_code == 303, answer.text
        assert "/ui/batches/" in answer.headers["location"]
        return partial(self._visit, "POST", draft, **form)
