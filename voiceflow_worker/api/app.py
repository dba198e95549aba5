"""The HTTP API as an ASGI app: who may use it, how much it reads, and how errors are answered."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import anyio
import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from voiceflow_worker.api import batches, calls, campaigns, escalations, queues
from voiceflow_worker.api.asked import Server
from voiceflow_worker.api.problems import (
    PROBLEM,
    UNKNOWN,
    FoundProblem,
    Problem,
    ProblemError,
    invalid,
    problem_of,
    refused,
)
from voiceflow_worker.api.secrets import ApiSecrets, Program
from voiceflow_worker.asgi import limits
from voiceflow_worker.asgi.gatekeeper import Gatekeeper
from voiceflow_worker.core.outcomes.outbox import OutcomeWatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.service.metrics import API_ANSWERS, API_WAITING, POLICIES_REFUSED
from voiceflow_worker.service.on_call import PolicyFile

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

LONGEST_BODY = 1_000_000
WRONG_SECRET_TAKES = 1.0
"""Seconds between the answers to requests with a wrong secret."""
_PROBLEM = {PROBLEM: {"schema": Problem.model_json_schema(ref_template="#/components/schemas/{model}")}}
_PROBLEM[PROBLEM]["schema"].pop("$defs")
_REALM = 'Bearer realm="voiceflow"'
_HOOKS = "/v1/hooks/"
_ENDS_A_HOOK = frozenset({404, 409})
"""The statuses that a hook answers as 503: Alertmanager gives a notification up after a 4xx."""

_log = structlog.get_logger("voiceflow.api")


class HttpApi:
    """The ASGI endpoint for everything below `/v1`. Its metrics go to `registry`. Raises SettingsError."""

    def __init__(self, store: Store, settings: Settings, *, menus: Sequence[Menu], registry: CollectorRegistry) -> None:
        self.policies: PolicyFile = PolicyFile(settings.escalations, settings=settings)
        """The policies of escalations."""
        self._gatekeeper = Gatekeeper(allow=settings.api_allow, trusted_proxies=settings.trusted_proxies)
        self.server: Server = Server(
            store=store, settings=settings, watch=OutcomeWatch(store),
            policies=self.policies, menus={menu.name: menu for menu in menus},
        )  # fmt: skip
        self.app: FastAPI = fast_api()
        self._secrets = ApiSecrets(settings)
        self._guessing = anyio.Lock()
        self._answers = API_ANSWERS.on(registry)
        POLICIES_REFUSED.on(registry).set_function(lambda: int(self.policies.problem is not None))
        API_WAITING.on(registry).set_function(lambda: len(self.server.waiting))

    def stop(self) -> None:
        """End the waits for outcomes, each with the call as it is now. Called when the server is to stop."""
        self.server.stopping.set()
        for each in self.server.waiting:
            each.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                found = isinstance(route, APIRoute) and scope["method"] in (route.methods or ())
                name = f"{scope['method']} {cast('APIRoute', route).path}" if found else "none"
                self._answers.labels(name, str(message["status"])).inc()
                MutableHeaders(scope=message).update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
            await send(message)

        try:
            scope["voiceflow.program"], scope["voiceflow.server"] = await self._admit(scope), self.server
            limited = _at_most(scope, receive)
        except ProblemError as problem:
            await problem.response()(scope, receive, counted)
            return
        try:
            await self.app(scope, limited, counted)
        except Exception:  # noqa: BLE001 - it was answered (`_failed`), and is raised again
            _log.exception("a request was not answered")

    async def _admit(self, scope: Scope) -> Program:
        """Return the program that asks. Raises ProblemError for a wrong network, and for no secret or a wrong one."""
        if self._gatekeeper.refusal(scope) is not None:
            raise ProblemError(403, "this network may not use the API: see VOICEFLOW_API_ALLOW")
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if not shown:
            said = "send Authorization: Bearer, with the API secret"
            raise ProblemError(401, said, headers={"WWW-Authenticate": _REALM})
        scheme, _, secret = shown[0].partition(b" ")
        program = self._secrets.whose(secret.strip()) if scheme.lower() == b"bearer" and len(shown) == 1 else None
        if program is None:
            _log.warning("a request had a wrong API secret", address=str(self._gatekeeper.sender(scope)))
            async with self._guessing:
                await anyio.sleep(WRONG_SECRET_TAKES)
            authenticate = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
            raise ProblemError(401, "the API secret is wrong", headers=authenticate)
        return program


def fast_api() -> FastAPI:
    """Make the app, with its document."""
    app = FastAPI(
        title="voiceflow-worker",
        version=version("voiceflow-worker"),
        description="Phone calls through the 8x8 Voice API: from a queue, never twice, never lost, never late.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # a body without a type is JSON
        dependencies=[Depends(HTTPBearer(scheme_name="secret", auto_error=False)), Depends(_refuse_others)],
        responses={"default": {"description": "What is wrong; nothing was changed.", "content": _PROBLEM}},
        generate_unique_id_function=_operation_id,
        exception_handlers={
            VoiceflowError: _failed, TimeoutError: _failed, HTTPException: _failed, Exception: _failed,
            RequestValidationError: _failed,
        },
    )  # fmt: skip
    for routes in (calls, campaigns, batches, escalations, queues):
        app.include_router(routes.routes)
    return app


def _operation_id(route: APIRoute) -> str:
    """Return the name of a route in clients that are made of the document."""
    method = next(iter(route.methods or ()))
    parts = (part.strip("{}").replace(".", "_") for part in route.path.split("/")[2:])
    return "_".join([method.lower(), *parts])


async def _refuse_others(request: Request) -> None:
    """Refuse names in the query that the route does not know, and texts that no store can keep."""
    route: APIRoute = request.scope["route"]
    parameters = request.app.openapi()["paths"][route.path][request.method.lower()].get("parameters", ())
    known = [each["name"] for each in parameters if each["in"] == "query"]
    found = [
        FoundProblem(
            parameter=name[:40], code=UNKNOWN, detail=f"is not a known name; known: {', '.join(known) or 'none'}"
        )
        for name in request.query_params
        if name not in known
    ]
    found += [
        FoundProblem(parameter=name[:40], detail=problem)
        for name, value in request.query_params.multi_items()
        if (problem := storing_problem(value))
    ]
    if found:
        raise refused(found)
    if any(storing_problem(part) for part in request.path_params.values()):
        raise ProblemError(404, "a name in the path has a character that no store can keep")


async def _failed(request: Request, error: Exception) -> Response:
    """Answer with the problem of an error."""
    problem = invalid(error) if isinstance(error, RequestValidationError) else problem_of(error)
    if problem.status_code >= 500 and isinstance(error, VoiceflowError | TimeoutError):
        _log.warning("a request was not answered", path=request.scope["path"], error=str(error))
    if request.scope["path"].startswith(_HOOKS) and problem.status_code in _ENDS_A_HOOK:
        problem.status_code = 503
    return problem.response()


def _at_most(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` that raises ProblemError for a body that is too long, or raise it if the headers say so."""
    headers = dict(scope["headers"])
    is_form = headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")
    longest = LONGEST_BODY + (campaigns.LONGEST_FILE if is_form else 0)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise ProblemError(400, "the body is compressed; send it as it is")
    too_long = ProblemError(413, f"the body is longer than {longest} bytes")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:18]) > longest:
        raise too_long
    return limits.at_most(receive, longest, otherwise=too_long)
