"""The door as an ASGI app: who may come in, how many at once, which route answers, and how errors are told."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import unquote

import orjson
import structlog
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voiceflow_worker.api import calls, campaigns, escalations, people, steering
from voiceflow_worker.api.answers import PROBLEM, Answer, ProblemError, problem_of
from voiceflow_worker.api.exchange import Asked, Desk, Route
from voiceflow_worker.api.openapi import described
from voiceflow_worker.api.places import Places, RightOfWay, Waits
from voiceflow_worker.api.secrets import ApiSecrets, Program
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, RefusalReason, WrongSecrets
from voiceflow_worker.core.outcomes.outbox import OutcomeWatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.service.escalation_policies import PolicyFile
from voiceflow_worker.service.metrics import API_ANSWERS, API_IN_LINE, API_WAITING, POLICIES_REFUSED
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

AT_ONCE, MOST_IN_LINE = 4, 200
"""The most requests that are worked on at once, and the most in all. Further ones get a 429."""
MOST_WAITING = 200
"""The most requests that wait for an outcome."""
_BEARER = b"Bearer "
_REALM = 'Bearer realm="voiceflow"'
_SCHEME = re.compile(rb"\s*bearer\s+", re.IGNORECASE)

_log = structlog.get_logger("voiceflow.api")


class HttpApi:
    """The ASGI endpoint for everything below `/v1`. `secrets` are those of its clients.

    Its metrics go to `registry`, by default a new one.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        secrets: ApiSecrets,
        menus: Sequence[Menu] = (),
        registry: CollectorRegistry | None = None,
    ) -> None:
        waits = Waits(most=MOST_WAITING)
        self.policies: PolicyFile = PolicyFile(settings.escalations, settings=settings)
        """The policies of escalations."""
        self._desk = Desk(
            store=store,
            settings=settings,
            process=OtherProcess(store, settings=settings),
            watch=OutcomeWatch(store),
            waits=waits,
            menus={menu.name: menu for menu in menus},
            policies=self.policies,
        )
        self._gatekeeper = Gatekeeper(
            secret=None,
            allow=settings.api_allow,
            trusted_proxies=settings.trusted_proxies,
        )
        self._secrets = secrets
        self._wrong = WrongSecrets()
        self._clock = store.clock
        self.way: RightOfWay = RightOfWay()
        """Lets the events of 8x8 go first."""
        self._places = Places(at_once=AT_ONCE, most=MOST_IN_LINE, way=self.way)
        registry = CollectorRegistry() if registry is None else registry
        self._answers = API_ANSWERS.on(registry)
        POLICIES_REFUSED.on(registry).set_function(lambda: int(self.policies.problem is not None))
        API_IN_LINE.on(registry).set_function(lambda: self._places.count)
        API_WAITING.on(registry).set_function(lambda: waits.count)
        self.stop: Callable[[], None] = waits.stop
        """End the waits for outcomes, each with the call as it stands. To be called when the server is to stop."""
        parts = (calls, campaigns, escalations, steering, people)
        routes = [route for part in parts for route in part.ROUTES]
        schemas = {name: schema for part in parts for name, schema in part.SCHEMAS.items()}
        routes.append(described(routes, schemas, version=version("voiceflow-worker")))
        self._routes: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            self._routes.setdefault(tuple(route.path.split("/")[2:]), {})[route.method] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer, route = await self._answer(scope, receive)
        self._answers.labels(route, str(answer.status)).inc()
        headers = {**answer.headers, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        content = b"" if answer.document is None else orjson.dumps(answer.document)
        if scope["method"] == "HEAD":
            headers["Content-Length"], content = str(len(content)), b""
        media_type = None if answer.document is None else answer.media_type
        await Response(content, answer.status, headers, media_type)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, str]:
        """The answer to a request, and the name of its route for logs and metrics, without the values in its path."""
        name, route = "none", None
        try:
            program = self._admit(scope)
            route, parts = self._route(scope)
            name = f"{route.method} {route.path}"
            _require(program, route)
            place = self._places.one()
            try:
                asked = Asked(scope, receive, desk=self._desk, parts=parts, place=place, program=program.name)
                _refuse_other_answers(asked)
                await place.take()
                return await route.handle(asked), name
            finally:
                place.leave()
        except ProblemError as problem:
            return _asked_again(problem, route).answer(), name
        except (VoiceflowError, TimeoutError) as error:
            told = problem_of(error)
            if told.status >= 500:
                _log.warning("a request was not answered", route=name, error=str(error))
            return _asked_again(told, route).answer(), name
        except Exception:  # noqa: BLE001 - after any error, the answer must be a problem
            _log.exception("a request failed", route=name)
            return ProblemError(500, "the server failed; its log has the reason").answer(), name

    def _admit(self, scope: Scope) -> Program:
        """The program that asks. Raises ProblemError for a wrong network, and for a secret that is missing or wrong.

        The right secret comes in whatever was tried before: a program with an old one must not keep the others behind
        its proxy from ringing.
        """
        client, address, now = scope.get("client"), self._gatekeeper.sender_of(scope), self._clock.now()
        headers = [(name, _as_bearer(value) if name == b"authorization" else value) for name, value in scope["headers"]]
        refusal = self._gatekeeper.refusal(headers, client[0] if client else None)
        if refusal is RefusalReason.NETWORK:
            raise ProblemError(403, "this network may not use the API: see VOICEFLOW_API_ALLOW")
        if not any(name == b"authorization" for name, _ in headers):
            raise ProblemError(
                401, "send Authorization: Bearer, with the API secret", headers={"WWW-Authenticate": _REALM}
            )
        shown = [value.strip() for name, value in headers if name == b"authorization"]
        is_bearer = len(shown) == 1 and shown[0].startswith(_BEARER)
        program = self._secrets.whose(shown[0][len(_BEARER) :]) if is_bearer else None
        if program is not None:
            return program
        if (wait := self._wrong.wait(address, at=now)) is not None:
            seconds = f"{wait.total_seconds():.0f}"
            told = f"too many failed attempts; retry in {seconds} s"
            raise ProblemError(429, told, headers={"Retry-After": seconds})
        self._wrong.failed(address, at=now)
        _log.warning("a request had a wrong API secret", address=str(address))
        authenticate = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
        raise ProblemError(401, "the API secret is wrong", headers=authenticate)

    def _route(self, scope: Scope) -> tuple[Route, Mapping[str, str]]:
        """The route of a request, and the values in its path. Raises ProblemError."""
        raw = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        # What an outer app or a server has taken away (the prefix of a mount) may have a /v1/ of its own.
        prefix = scope.get("root_path", "").rstrip("/")
        below = raw.split("/")[prefix.count("/") :] if scope["path"].startswith(f"{prefix}/") else raw.split("/")
        segments = below[2:] or [""]
        if segments[0] == "hooks" and not segments[-1]:
            segments.pop()  # whoever sets a hook up may write a slash at its end
        template = next((each for each in self._routes if _fits(each, segments)), None)
        if template is None:
            raise ProblemError(404, "there is nothing at this path; /v1/openapi.json lists all paths")
        methods = self._routes[template]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in methods:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise ProblemError(405, f"this path has {allowed} only", headers={"Allow": allowed})
        try:
            named = zip(template, segments, strict=True)
            parts = {own.strip("{}"): unquote(given, errors="strict") for own, given in named if own.startswith("{")}
        except UnicodeDecodeError:
            raise ProblemError(404, "the path is not in UTF-8") from None
        if any(not part.strip() or storing_problem(part) for part in parts.values()):
            raise ProblemError(404, "a name in the path is empty, or has a character that no store can keep")
        return methods[method], parts


def _require(program: Program, route: Route) -> None:
    """Raise ProblemError if a program lacks the right that a route needs."""
    if route.right not in program.rights:
        has = ", ".join(sorted(program.rights))
        raise ProblemError(403, f"the program {program.name} needs the right {route.right} for this; it has: {has}")


def _asked_again(problem: ProblemError, route: Route | None) -> ProblemError:
    """The problem, as the sender asks again after it, where asking again may help."""
    if route is not None and problem.status in route.told_as_503:
        problem.status = 503
    return problem


def _as_bearer(value: bytes) -> bytes:
    """An Authorization value as the secret of a program: also the password of scheme Basic, whatever the user."""
    scheme, _, encoded = value.strip().partition(b" ")
    if scheme.lower() == b"basic":
        try:
            password = b64decode(encoded.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return value
        return b"Bearer " + password
    return _SCHEME.sub(b"Bearer ", value, count=1)


def _fits(template: Sequence[str], segments: Sequence[str]) -> bool:
    return len(template) == len(segments) and all(
        own == given or own.startswith("{") for own, given in zip(template, segments, strict=True)
    )


def _refuse_other_answers(asked: Asked) -> None:
    """Raise ProblemError if the client accepts neither JSON nor problems."""
    accepted = ",".join(asked.headers.getlist("accept")).lower()
    ranges = [each.partition(";")[0].strip() for each in accepted.split(",") if each.strip()]
    if ranges and not {"*/*", "application/*", "application/json", PROBLEM} & set(ranges):
        raise ProblemError(406, "answers are application/json; the Accept header excludes it")
