"""The HTTP API as an ASGI app: who may use it, which operation answers, and how errors are told."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import orjson
import structlog
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from voiceflow_worker.api import batches, calls, campaigns, escalations, queues
from voiceflow_worker.api.answers import Answer, ProblemError, problem_of
from voiceflow_worker.api.exchange import ApiContext, Asked
from voiceflow_worker.api.operations import Operation, Routes, document
from voiceflow_worker.api.secrets import ApiSecrets, Program
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, RefusalReason, WrongSecrets
from voiceflow_worker.core.outcomes.outbox import OutcomeWatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.service.metrics import API_ANSWERS, API_WAITING, POLICIES_REFUSED
from voiceflow_worker.service.on_call import PolicyFile
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

_REALM = 'Bearer realm="voiceflow"'
_ENDS_A_HOOK = frozenset({404, 408, 409, 429})
"""The statuses that a hook answers as 503: Alertmanager gives a notification up after a 4xx."""
_PREFIX = re.compile(r"(/[A-Za-z0-9._~%-]+)*")
"""What a proxy may have taken away from the beginning of a path."""

_log = structlog.get_logger("voiceflow.api")


_OWN = Routes()


@_OWN.on("GET", "/v1/openapi.json", {200: ("The document.", [])})
async def show_document(asked: Asked) -> Answer:
    """This document."""
    return Answer({**_document(), "servers": [{"url": asked.prefix or "/"}]})


OPERATIONS: Sequence[Operation] = (
    *calls.routes, *campaigns.routes, *batches.routes, *escalations.routes, *queues.routes, *_OWN,
)  # fmt: skip


@cache
def _document() -> Mapping[str, Any]:
    return document(OPERATIONS, version=version("voiceflow-worker"))


class HttpApi:
    """The ASGI endpoint for everything below `/v1`. Its metrics go to `registry`. Raises SettingsError."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        menus: Sequence[Menu],
        registry: CollectorRegistry,
    ) -> None:
        self.policies: PolicyFile = PolicyFile(settings.escalations, settings=settings)
        """The policies of escalations."""
        self.context: ApiContext = ApiContext(
            store=store,
            settings=settings,
            process=OtherProcess(store, settings=settings),
            watch=OutcomeWatch(store),
            menus={menu.name: menu for menu in menus},
            policies=self.policies,
        )
        self._gatekeeper = Gatekeeper(allow=settings.api_allow, trusted_proxies=settings.trusted_proxies)
        self._secrets = ApiSecrets(settings)
        self._wrong = WrongSecrets()
        self._answers = API_ANSWERS.on(registry)
        POLICIES_REFUSED.on(registry).set_function(lambda: int(self.policies.problem is not None))
        API_WAITING.on(registry).set_function(lambda: self.context.waits.borrowed_tokens)
        self._routes = [(Route(each.path, each.handle, methods=[each.method]), each) for each in OPERATIONS]

    def stop(self) -> None:
        """End the waits for outcomes, each with the call as it stands. To be called when the server is to stop."""
        self.context.stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        prefix = self._prefix(scope)
        answer, name = await self._answer(scope, receive, prefix=prefix)
        self._answers.labels(name, str(answer.status)).inc()
        headers = {**answer.headers, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if answer.location is not None:
            headers["Location"] = prefix + answer.location
        content = b"" if answer.document is None else orjson.dumps(answer.document)
        if scope["method"] == "HEAD":
            headers["Content-Length"], content = str(len(content)), b""
        media_type = None if answer.document is None else answer.media_type
        await Response(content, answer.status, headers, media_type)(scope, receive, send)

    def _prefix(self, scope: Scope) -> str:
        """What stands before /v1 in the address that the program knows: taken away by a proxy, or by an outer app."""
        forwarded = ""
        if self._gatekeeper.is_proxied(scope):
            shown = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
            forwarded = shown[-1].decode("latin-1").strip().rstrip("/") if shown else ""
        return (forwarded if _PREFIX.fullmatch(forwarded) else "") + quote(scope.get("root_path", "").rstrip("/"))

    async def _answer(self, scope: Scope, receive: Receive, *, prefix: str) -> tuple[Answer, str]:
        """The answer to a request, and the name of its operation for logs and metrics."""
        name, operation = "none", None
        try:
            program = self._admit(scope)
            operation, parts = self._find(scope)
            name = operation.name
            _require(program, operation)
            asked = Asked(
                request=Request(scope, receive), context=self.context, operation=operation, parts=parts,
                program=program.name, prefix=prefix,
            )  # fmt: skip
            return await asked.answer(), name
        except Exception as error:  # noqa: BLE001 - after any error, the answer must be a problem
            problem = problem_of(error)
            if not isinstance(error, ProblemError) and problem.status >= 500:
                log = _log.warning if isinstance(error, VoiceflowError | TimeoutError) else _log.exception
                log("a request was not answered", route=name, error=str(error))
            if operation is not None and operation.is_hook and problem.status in _ENDS_A_HOOK:
                problem.status = 503
            return problem.answer(), name

    def _admit(self, scope: Scope) -> Program:
        """The program that asks. Raises ProblemError for a wrong network, and for a secret that is missing or wrong."""
        if self._gatekeeper.refusal(scope) is RefusalReason.NETWORK:
            raise ProblemError(403, "this network may not use the API: see VOICEFLOW_API_ALLOW")
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if not shown:
            raise ProblemError(
                401, "send Authorization: Bearer, with the API secret", headers={"WWW-Authenticate": _REALM}
            )
        secret = _secret_in(shown[0]) if len(shown) == 1 else None
        if secret is not None and (program := self._secrets.whose(secret)) is not None:
            return program
        # The right secret is always taken: alarms must not wait for somebody who guesses behind the same address.
        address, now = self._gatekeeper.sender(scope), self.context.store.clock.now()
        if (wait := self._wrong.wait(address, at=now)) is not None:
            seconds = f"{wait.total_seconds():.0f}"
            raise ProblemError(429, f"too many failed attempts; retry in {seconds} s", headers={"Retry-After": seconds})
        self._wrong.failed(address, at=now)
        _log.warning("a request had a wrong API secret", address=str(address))
        authenticate = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
        raise ProblemError(401, "the API secret is wrong", headers=authenticate)

    def _find(self, scope: Scope) -> tuple[Operation, Mapping[str, str]]:
        """The operation of a request, and the values in its path. Raises ProblemError."""
        raw = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0].decode("latin-1")
        # What an outer app or a server has taken away (the prefix of a mount) may have a /v1/ of its own.
        prefix = scope.get("root_path", "").rstrip("/")
        segments = raw.split("/")[prefix.count("/") :] if scope["path"].startswith(f"{prefix}/") else raw.split("/")
        path = "/".join(["", *segments[1:]])
        if path.startswith("/v1/hooks/"):
            path = path.rstrip("/")  # whoever sets a hook up may write a slash at its end
        # Matched as it was sent, because a name may have a slash, which is %2F then.
        sent = {"type": "http", "path": path, "method": scope["method"]}
        allowed: set[str] = set()
        for route, operation in self._routes:
            match, found = route.matches(sent)
            if match is Match.FULL:
                return operation, _parts(found["path_params"])
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if not allowed:
            raise ProblemError(404, "there is nothing at this path; /v1/openapi.json lists all paths")
        told = ", ".join(sorted(allowed))
        raise ProblemError(405, f"this path has {told} only", headers={"Allow": told})


def _parts(found: Mapping[str, str]) -> Mapping[str, str]:
    """The values in a path. Raises ProblemError."""
    try:
        parts = {name: unquote(value, errors="strict") for name, value in found.items()}
    except UnicodeDecodeError:
        raise ProblemError(404, "the path is not in UTF-8") from None
    if any(not part.strip() or len(part) > LONGEST_KEY or storing_problem(part) for part in parts.values()):
        raise ProblemError(404, "a name in the path is empty or too long, or has a character that no store can keep")
    return parts


def _require(program: Program, operation: Operation) -> None:
    """Raise ProblemError if a program lacks the right that an operation needs."""
    if operation.right not in program.rights:
        has = ", ".join(sorted(program.rights))
        told = f"the program {program.name} needs the right {operation.right} for this; it has: {has}"
        raise ProblemError(403, told, code="lacks_right")


def _secret_in(value: bytes) -> bytes | None:
    """The secret in an Authorization value: that of scheme Bearer, or the password of Basic, whatever the user."""
    scheme, given = (*value.strip().split(None, 1), b"", b"")[:2]
    if scheme.lower() != b"basic":
        return given if scheme.lower() == b"bearer" else None
    try:
        return b64decode(given, validate=True).partition(b":")[2]
    except ValueError:
        return None
