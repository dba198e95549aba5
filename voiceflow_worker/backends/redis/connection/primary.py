"""The server that has the store: that of the URL, or the one that sentinels or the nodes of a cluster name now."""

from __future__ import annotations

from contextlib import suppress

from coredis.exceptions import ConnectionError as DriverConnectionError
from coredis.exceptions import PrimaryNotFoundError

from voiceflow_worker.backends.redis.connection.line import Access, Line, Node
from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology


async def primary(url: RedisURL, learnt: set[Node] | None = None) -> Node:
    """The address of the server that has the store.

    Nodes of the cluster that are not in the URL are added to `learnt`, and asked too. Raises PrimaryNotFoundError if
    nobody who answers knows the primary.
    """
    if url.topology is Topology.STANDALONE:
        return url.nodes[0]
    learnt = set() if learnt is None else learnt
    is_cluster = url.topology is Topology.CLUSTER
    access = Access(username=url.sentinel_username, password=url.sentinel_password, tls=url.tls)
    for node in dict.fromkeys((*url.nodes, *learnt)):
        with suppress(DriverConnectionError, OSError):
            line = await Line.opened(node, url.access if is_cluster else access)
            try:
                named = _named_by_cluster(line, url, node, learnt) if is_cluster else _named_by_sentinel(line, url)
                if found := await named:
                    return found
            finally:
                line.close()
    what = "the keys of the store" if is_cluster else "the service"
    raise PrimaryNotFoundError(f"nobody knows a primary of {what} {url.service or url.root!r}")


async def _named_by_sentinel(line: Line, url: RedisURL) -> Node | None:
    found = await line.create_request(b"SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
    return (str(found[0]), int(found[1])) if found else None


async def _named_by_cluster(line: Line, url: RedisURL, node: Node, learnt: set[Node]) -> Node | None:
    """The node that has the slot of the store. A node that is cut off from most others does not know."""
    if "cluster_state:ok" not in str(await line.create_request(b"CLUSTER", "INFO")):
        return None
    slot = int(await line.create_request(b"CLUSTER", "KEYSLOT", url.root))
    named: Node | None = None
    for first, last, *nodes in await line.create_request(b"CLUSTER", "SLOTS"):
        # A node that does not know its own name is at the address at which it was asked.
        places = [(str(host or node[0]), int(port)) for host, port, *_ in nodes]
        learnt.update(places)
        if first <= slot <= last:
            named = places[0]
    return named
