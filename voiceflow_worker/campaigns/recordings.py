"""The recordings that calls play (8x8's playFile): what their servers answer. What they sound like nobody looks at.

The addresses come from files that others write, and this machine is inside a network that they are not. So no address
that leads into it is asked, at any redirect, whatever its name resolves to: the name is resolved here, every address of
it is looked at, and the connection goes to the one that was seen. Through a proxy, the proxy resolves.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import anyio
import httpx

from voiceflow_worker.campaigns.preview import MOST_FILES, Preview, RecordingAnswer
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.model.flows.values import url_problem
from voiceflow_worker.model.text.web_address import is_public

COULD_NOT_PLAY = -2006
"""The code of 8x8 for a call whose file could not be downloaded or played."""
MOST_BYTES = 5 * 1024 * 1024
"""The size from which on 8x8 plays no file (5120 KB)."""
WITHIN = 10.0
"""Seconds that one recording may take, with its redirects."""
MOST_REDIRECTS = 3
AT_ONCE = 4
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"Accept": "audio/*, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "voiceflow-worker"}
_PLAYED = ("wav", "mpeg", "mp3", "wave", "mpeg3", "mpa", "octet-stream")
"""The types of WAV and MP3, behind `audio/`, `x-` and `vnd.`, and the one of servers that tell none."""


class _NotFetchedError(Exception):
    """Why nothing is there, as the rest of a sentence about the recording."""


async def with_recordings(
    preview: Preview, *, network: Network, file: str | None, private: bool = False
) -> tuple[Preview, tuple[Finding, ...]]:
    """A preview with what is answered for each of its recordings, and their faults: each address is asked once.

    `private` allows hosts of this network, where calls go to a sandbox.
    """
    if not preview.files:
        return preview, ()
    answers = await ask(preview.files, network=network, private=private)
    return replace(preview, recordings=answers), tuple(_findings(preview.files, answers, file=file))


def _findings(
    files: Mapping[str, int], answers: Mapping[str, RecordingAnswer], *, file: str | None
) -> Iterator[Finding]:
    for address, row in files.items():
        for said, severity, code in _judged(answers[address]):
            message = f"the recording {address.partition('?')[0]} {said}"  # without the signature of a link
            yield Finding(message=message, severity=severity, code=code, file=file, row=row)
    if len(files) == MOST_FILES:
        message = f"only the first {MOST_FILES:,} recordings were asked for"
        yield Finding(message=message, severity=Severity.WARNING, file=file)


def _judged(answer: RecordingAnswer) -> Iterator[tuple[str, Severity, int | None]]:
    kind = answer.type.partition("/")[2].removeprefix("x-").removeprefix("vnd.")
    if answer.fault is not None:
        yield answer.fault, Severity.ERROR, COULD_NOT_PLAY
    elif answer.type.startswith("text/") or kind in {"json", "xml", "xhtml+xml"}:
        remedy = "give the address that downloads the file itself"
        yield f"is a page ({answer.type}), and 8x8 plays WAV and MP3: {remedy}", Severity.ERROR, COULD_NOT_PLAY
    elif answer.size == 0:
        yield "is empty", Severity.ERROR, COULD_NOT_PLAY
    elif answer.size is not None and answer.size > MOST_BYTES:
        yield "has more than 5 MB: save it as 8 or 16 kHz mono, or as MP3", Severity.ERROR, COULD_NOT_PLAY
    elif answer.type and kind not in _PLAYED:
        yield f"has the type {answer.type}, and 8x8 plays WAV and MP3: listen to it", Severity.WARNING, None


async def ask(addresses: Iterable[str], *, network: Network, private: bool = False) -> dict[str, RecordingAnswer]:
    """What is answered at each address. `private` allows hosts of this network."""
    found: dict[str, RecordingAnswer] = {}
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

    async def recording(self, address: str) -> RecordingAnswer:
        """What is answered at an address, or why nothing is."""
        try:
            with anyio.fail_after(WITHIN):
                return await self._answer(address)
        except TimeoutError:
            return RecordingAnswer(fault=f"did not arrive within {WITHIN:g} s")
        except (httpx.HTTPError, OSError) as error:
            return RecordingAnswer(fault=f"cannot be fetched: {self.network.explain(error)}")
        except _NotFetchedError as error:
            return RecordingAnswer(fault=str(error))

    async def _answer(self, address: str) -> RecordingAnswer:
        url = self._checked(address)
        for _ in range(MOST_REDIRECTS + 1):
            request = await self._request(url)
            response = await self.client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return await _read(response)
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


async def _read(response: httpx.Response) -> RecordingAnswer:
    """The status, type and size of an answer. Its content is counted only if its head has no size."""
    status, kind = response.status_code, response.headers.get("content-type", "").partition(";")[0].strip().lower()
    said = response.headers.get("content-length", "")
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0
    if not response.is_success:
        shown = f"{status} {response.reason_phrase}".strip()
        return RecordingAnswer(status=status, type=kind, fault=f"is not there: its server answers {shown}")
    if not said:
        async for part in response.aiter_raw():  # as it comes: what is packed cannot grow here
            size += len(part)
            if size > MOST_BYTES:
                break
    return RecordingAnswer(status=status, type=kind, size=size)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _refuse_private(host: str, *addresses: IPv4Address | IPv6Address | None, allowed: bool) -> None:
    if allowed or all(each is None or is_public(each) for each in addresses):
        return
    raise _NotFetchedError(f"is on {host}, which 8x8 cannot reach: it is this machine or a private network")
