"""The description of the sandbox's API: an OpenAPI 3.1 document, in this project's own words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPE = "application/json"


@cache
def description() -> bytes:
    """The document as JSON; read when it is first asked for."""
    return files("voiceflow_worker.sandbox.api").joinpath("openapi.json").read_bytes()


def description_routes() -> list[Route]:
    """The route of the document. It needs no key."""
    return [Route("/openapi.json", _describe, methods=["GET"])]


async def _describe(_request: Request) -> Response:
    return Response(description(), media_type=_TYPE)
