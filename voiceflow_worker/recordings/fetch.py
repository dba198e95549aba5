"""Recordings fetched as 8x8 would: each address once, from public hosts alone, within limits of size and time.

The addresses come from files that others write, and this machine is inside a network that they are not. So no address
that leads into it is asked, at any redirect, whatever its name resolves to: the name is resolved here, every address of
it is looked at, and the connection goes to the one that was seen. Through a proxy, the proxy resolves.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import anyio
import httpx
from anyio import to_thread

from voiceflow_worker.gateway.network import Network
from voiceflow_worker.model.flows.values import url_problem
from voiceflow_worker.model.text.web_address import is_public
from voiceflow_worker.recordings.sound import MOST_BYTES, Sound, examined, form_of

WITHIN = 10.0
"""Seconds that one recording may take, with its redirects."""
MOST_REDIRECTS = 3
AT_ONCE = 4
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"Accept": "audio/*, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "voiceflow-worker"}


class _NotFetchedError(Exception):
    """Why nothing was fetched, as the rest of a sentence about the recording."""


async def examine(addresses: Iterable[str], *, network: Network, private: bool = False) -> dict[str, Sound]:
    """What is at each address. `private` allows hosts of this network: where calls go to a sandbox."""
    found: dict[str, Sound] = {}
    limit = anyio.Semaphore(AT_ONCE)
    async with (
        httpx.AsyncClient(transport=network.transport(limit=AT_ONCE), trust_env=False) as client,
        anyio.create_task_group() as group,
    ):
        fetch = _Fetch(client, network, private)

        async def one(address: str) -> None:
            async with limit:
                found[address] = await fetch.recording(address)

        for address in dict.fromkeys(addresses):
            group.start_soon(one, address)
    return found


@dataclass(frozen=True, slots=True)
class _Fetch:
    client: httpx.AsyncClient
    network: Network
    private: bool

    async def recording(self, address: str) -> Sound:
        """What is at an address, or why nothing is."""
        try:
            with anyio.fail_after(WITHIN):
                data = await self._bytes(address)
        except TimeoutError:
            return Sound(fault=f"did not arrive within {WITHIN:g} s")
        except (httpx.HTTPError, OSError) as error:
            return Sound(fault=f"cannot be fetched: {self.network.explain(error)}")
        except _NotFetchedError as error:
            return Sound(fault=str(error))
        if len(data) > MOST_BYTES:
            form = form_of(data)
            now = "" if form is None else f"; it is {form}"
            return Sound(fault=f"has more than 5 MB{now}: save it as 8 or 16 kHz mono, or as MP3")
        return await to_thread.run_sync(examined, data)

    async def _bytes(self, address: str) -> bytes:
        """The bytes of a file, at most one more than 8x8 takes."""
        url = self._checked(address)
        for _ in range(MOST_REDIRECTS + 1):
            request = await self._request(url)
            response = await self.client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return await _body(response)
                url = self._checked(str(url.join(response.headers["location"])))
            finally:
                await response.aclose()
        raise _NotFetchedError(f"is behind more than {MOST_REDIRECTS} redirects: give the address that they lead to")

    def _checked(self, address: str) -> httpx.URL:
        if (problem := url_problem(address)) is not None:
            raise _NotFetchedError(f"leads to {address[:80]}, which {problem}")
        try:
            return httpx.URL(address)
        except httpx.InvalidURL as error:
            raise _NotFetchedError(f"has an address that cannot be read: {error}") from None

    async def _request(self, url: httpx.URL) -> httpx.Request:
        """A request to the host of an address, by the one of its IP addresses that was looked at."""
        if self.network.proxy_to(url) is not None:
            _refuse_private(url.host, _literal(url.host), allowed=self.private)
            return self.client.build_request("GET", url, headers=_HEADERS)
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await anyio.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        seen = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        _refuse_private(url.host, *seen, allowed=self.private)
        host = url.netloc.decode("ascii").rpartition("@")[2]
        return self.client.build_request(
            "GET",
            url.copy_with(host=str(seen[0])),
            headers={**_HEADERS, "Host": host},
            extensions={"sni_hostname": url.host},
        )


async def _body(response: httpx.Response) -> bytes:
    if not response.is_success:
        said = f"{response.status_code} {response.reason_phrase}".strip()
        raise _NotFetchedError(f"is not there: its server answers {said}")
    data = bytearray()
    async for part in response.aiter_raw():  # as it comes: what is packed cannot grow here
        data += part
        if len(data) > MOST_BYTES:
            break
    return bytes(data)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _refuse_private(host: str, *addresses: IPv4Address | IPv6Address | None, allowed: bool) -> None:
    if allowed or all(each is None or is_public(each) for each in addresses):
        return
    raise _NotFetchedError(f"is on {host}, which 8x8 cannot reach: it is this machine or a private network")
