"""The events that an overload turns away, and the connections that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry

from voiceflow_worker.asgi.connections import LoadShedding
from voiceflow_worker.asgi.gatekeeper import Network, is_within, read_address
from voiceflow_worker.service.metrics import WEBHOOK_TURNED_AWAY

BUSY_AT = 256
"""The number of requests that are handled at once; further requests wait. One commit can store all their results."""
_BODY = b'{"error":"too many events at once; send it again later"}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def preferred(allow: Sequence[Network], trusted_proxies: Sequence[Network]) -> Callable[[str], bool] | None:
    """A function of a peer's address: True if the peer may send events, or is a trusted proxy.

    None if `allow` is empty, so that every peer may send events.
    """
    if not allow:
        return None
    networks = (*allow, *trusted_proxies)

    def is_preferred(peer: str) -> bool:
        address = read_address(peer)
        return address is not None and is_within(address, networks)

    return is_preferred


def load_shedding(registry: CollectorRegistry, *, others: int = 0) -> LoadShedding:
    """The load shedding of the receiver. An event that is turned away gets a 503, and is counted in `registry`.

    `others` is the most requests under way that are no events, and do not make the receiver busy.
    """
    return LoadShedding(answer=_ANSWER, busy_at=BUSY_AT + others, count=WEBHOOK_TURNED_AWAY.on(registry).inc)
