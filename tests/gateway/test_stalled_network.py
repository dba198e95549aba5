"""A network that stalls under a POST: what the kernel could not deliver within about two seconds never leaves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from tests.gateway.conftest import BODY, OURS, Before, Kind, named
from tests.gateway.misbehaving import MisbehavingServer, places
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.gateway.network import LEFT_WITHIN, giving_up
from voiceflow_worker.model.reports.verdict import Departure, VerdictKind

HERE, THERE, PORT = "10.213.77.1", "10.213.77.2", 18080
_KINDS = (OURS, Kind("default", "trio", None))
_SERVER = f"""
import socket, threading
listening = socket.create_server(("{THERE}", {PORT}))
print("ready", flush=True)
def serve(opened):
    while data := opened.recv(65536):
        print(data.count(b"POST "), flush=True)
while True:
    opened, _ = listening.accept()
    threading.Thread(target=serve, args=[opened], daemon=True).start()
"""


@dataclass
class Wire:
    """The way to a server in a network namespace of its own, behind a pair of veth devices."""

    device: str
    address: str
    server: subprocess.Popen[str]

    def posts(self) -> int:
        """End the server; returns the number of POSTs that it has got."""
        self.server.terminate()
        told, _ = self.server.communicate()
        return sum(map(int, told.split()))


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def wire() -> Generator[Wire]:
    """A server behind a network that can stall."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and iproute2")
    name = f"vf{os.getpid()}"
    here, there = f"{name}a", f"{name}b"
    with ExitStack() as undone:
        try:
            run("ip", "netns", "add", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine gives no network namespace: {error.stderr}")
        undone.callback(run, "ip", "netns", "del", name)
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        undone.callback(run, "ip", "link", "del", here)  # at once; that of the namespace takes its time
        run("ip", "addr", "add", f"{HERE}/30", "dev", here)
        run("ip", "link", "set", here, "up")
        run("ip", "-n", name, "addr", "add", f"{THERE}/30", "dev", there)
        run("ip", "-n", name, "link", "set", there, "up")
        address = run("ip", "-n", name, "-br", "link", "show", there).split()[2]
        command = ["ip", "netns", "exec", name, sys.executable, "-u", "-c", _SERVER]
        server = undone.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        undone.callback(server.kill)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield Wire(here, address, server)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_post_that_the_network_keeps_never_leaves_later(backend: str, wire: Wire) -> None:
    """The connection is given up after about two seconds, and the call is in doubt."""
    told = json.loads(
        run(sys.executable, "-m", "tests.gateway.test_stalled_network", backend, wire.device, wire.address)
    )
    assert told["verdict"] == "unknown"
    assert LEFT_WITHIN - 0.1 <= told["seconds"] < LEFT_WITHIN + 3
    assert wire.posts() == 0


@pytest.mark.anyio
@pytest.mark.skipif(not giving_up(), reason="this system cannot give a connection up")
@pytest.mark.parametrize("kind", _KINDS, ids=named)
async def test_each_connection_of_a_post_is_given_up_in_time(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own connections, and those of the pool that the client takes on trio."""
    made: list[tuple[object, ...]] = []
    plain = socket.socket.setsockopt

    def noted(opened: socket.socket, *option: Any) -> None:
        made.append(option)
        plain(opened, *option)

    monkeypatch.setattr(socket.socket, "setsockopt", noted)
    now = datetime.now(UTC)
    placement = Placement(body=BODY, client_request_id="default.1.1", valid_until=now + timedelta(hours=1))
    with MisbehavingServer(places) as server:
        async with kind.client(server.url) as client:
            verdict = await client.place(placement, before_first_byte=Before())
    assert verdict.kind is VerdictKind.CREATED
    assert set(giving_up()) <= set(made)


async def main(backend: str, device: str, address: str) -> None:
    """Place one call over a network that stalls as the POST leaves; print the verdict and how long it took.

    `address` is the server's hardware address, behind `device`.
    """

    def lead(to: str) -> None:
        """Send every packet for the server to this hardware address: with a wrong one, all are lost."""
        command = ["ip", "neigh", "replace", THERE, "lladdr", to, "dev", device, "nud", "permanent"]
        subprocess.run(command, check=True)

    async with Kind("default", backend, None).client(f"http://{THERE}:{PORT}", read=60) as client:

        async def before() -> Departure:
            lead("02:00:00:00:00:99")
            return await Before()()

        now, began = datetime.now(UTC), time.monotonic()
        placement = Placement(body=BODY, client_request_id="default.1.1", valid_until=now + timedelta(hours=1))
        verdict = await client.place(placement, before_first_byte=before)
        took = time.monotonic() - began
        lead(address)
        await anyio.sleep(10)  # what the kernel still had would be sent again within this
    sys.stdout.write(json.dumps({"verdict": verdict.kind.value, "seconds": took}))


if __name__ == "__main__":
    _, chosen, behind, hardware = sys.argv
    anyio.run(main, chosen, behind, hardware, backend=chosen)
