"""One request to the HTTP API: the program that asks, its rights, and what its route works with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import anyio
import orjson
from fastapi import Depends, Request
from starlette.responses import Response

from voiceflow_worker.actions import ActionRefusedError, Operator, OperatorAction
from voiceflow_worker.api.problems import ProblemError, finding_of, problem_of
from voiceflow_worker.api.secrets import Program, Right
from voiceflow_worker.asgi.gatekeeper import public_path
from voiceflow_worker.core.audit import Actor, Interface
from voiceflow_worker.core.outcomes.outbox import OutcomeWatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError, VoiceflowError
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.on_call import PolicyFile

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

T = TypeVar("T")
AT_ONCE, CAMPAIGNS = 8, 4
"""The most requests that are worked on at once, so that events of 8x8 go first, and the most campaigns beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What all requests work with: the store, the settings, the menus of the server, and how much is done at once."""

    store: Store
    settings: Settings
    watch: OutcomeWatch
    policies: PolicyFile
    menus: Mapping[str, Menu]
    working: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(AT_ONCE))
    starting: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(CAMPAIGNS))
    """The campaigns that are read and stored, which may take minutes: a hold does not wait for them."""
    waiting: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])
    """The waits of requests for an outcome or for the end of a batch."""
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """Set when the server is to stop: nothing is waited for any more."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request of a program that has the right for it."""

    request: Request
    server: Server
    program: str

    @property
    def operator(self) -> Operator:
        """Program, by the name of its secret."""
        policy, name = self.server.settings.policy(), self.program
        return Operator(self.server.store, policy, name, on=Interface.API, login=name)

    def actor(self, key: str | None) -> Actor:
        """Return who makes something under a key."""
        return replace(self.operator.actor, key=key)

    def queue(self, name: str | None = None) -> CallQueue:
        """Return the queue with this name, by default that of the settings. Raises UnknownSubjectError."""
        return self.operator.queue(name or self.server.settings.queue)

    def made(self, document: object, path: str, *, is_new: bool) -> Response:
        """Answer with what was made, or made before, and its path."""
        return answer(document, 201 if is_new else 200, {"Location": public_path(self.request.scope, path)})

    @asynccontextmanager
    async def aside(self) -> AsyncGenerator[None]:
        """Let another request be worked on while the block waits."""
        self.server.working.release()
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.server.working.acquire()

    async def until(self, work: Callable[[], Awaitable[T]], *, within: float) -> T | None:
        """Return what `work` waits for; None after this time, after an error, or if the server stops."""
        if self.server.stopping.is_set():
            return None
        async with self.aside():
            with anyio.move_on_after(within) as scope, suppress(VoiceflowError):  # the last look says what went wrong
                self.server.waiting.add(scope)
                try:
                    return await work()
                finally:
                    self.server.waiting.discard(scope)
        return None

    async def done(self, act: OperatorAction, token: str | None = None) -> Response:
        """Carry out an action, and answer with its document."""
        done = await act.do(token)
        if not done.documents:
            raise ActionRefusedError(done.message)
        return answer(done.documents[0])


@dataclass(frozen=True)
class Needs:
    """A dependency: the request, if its program has this right, as one of those that are worked on."""

    right: Right

    async def __call__(self, request: Request) -> AsyncGenerator[Asked]:
        """Give the request of a program that has the right."""
        program: Program = request.scope["voiceflow.program"]
        server: Server = request.scope["voiceflow.server"]
        if self.right not in program.rights:
            said = f"the program {program.name} needs the right {self.right} for this; it has: "
            raise ProblemError(403, said + ", ".join(sorted(program.rights)), code="lacks_right")
        async with server.working:
            yield Asked(request, server, program.name)


Reads: TypeAlias = Annotated[Asked, Depends(Needs(Right.READ))]
Calls: TypeAlias = Annotated[Asked, Depends(Needs(Right.CALL))]
Steers: TypeAlias = Annotated[Asked, Depends(Needs(Right.STEER))]


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a JSON document."""
    return Response(orjson.dumps(document), status, headers, "application/json")


@contextmanager
def findings_in(body: Mapping[str, Any], schema: Mapping[str, Any], query: Mapping[str, Any] = {}) -> Generator[None]:
    """Raise what is wrong with the fields of a body or a query as findings of the request."""
    try:
        yield
    except InvalidInputError as error:
        only = query.keys() - body.keys()
        found = [finding_of(each, body=body, schema=schema, query=only) for each in error.findings]
        raise problem_of(error, found) from error
