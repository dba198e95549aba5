"""A process that places one call over a network that stalls as the POST leaves: python -m tests.gateway.stalled …"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import anyio

from tests.gateway.conftest import BODY, Kind
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.model.reports.verdict import PostProgress

HERE, THERE, PORT = "10.213.77.1", "10.213.77.2", 18080


async def main(backend: str, device: str, address: str) -> None:
    """Print the verdict and how long it took. `address` is the server's hardware address, behind `device`."""

    def lead(to: str) -> None:
        """Send every packet for the server to this hardware address: with a wrong one, all are lost."""
        command = ["ip", "neigh", "replace", THERE, "lladdr", to, "dev", device, "nud", "permanent"]
        subprocess.run(command, check=True)

    async with Kind("default", backend, None).client(f"http://{THERE}:{PORT}", read=60) as client:
        progress = PostProgress(why_not=lambda: lead("02:00:00:00:00:99"), reserved=await client.connect())
        now, began = datetime.now(UTC), time.monotonic()
        placement = Placement(body=BODY, client_request_id="default.1.1", valid_until=now + timedelta(hours=1))
        verdict = await client.place(placement, progress=progress, now=now)
        took = time.monotonic() - began
        lead(address)
        await anyio.sleep(10)  # what the kernel still had would be sent again within this
    sys.stdout.write(json.dumps({"verdict": verdict.kind.value, "seconds": took}))


if __name__ == "__main__":
    _, chosen, behind, hardware = sys.argv
    anyio.run(main, chosen, behind, hardware, backend=chosen)
