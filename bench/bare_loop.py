"""What paced calls are measured beside: POSTs of httpx over aiohttp at a rate, for good, without a queue.

    bare_loop.py PORT RATE

`paced.py` runs it in a virtual environment of its own, which has nothing of this product.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

BODY = (
    b'{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    b'{"action":"say","params":{"text":"Hello, we expect you at 10:30.","voiceProfile":"en-IE-EmilyNeural"}}]}'
)
HEADERS = {"Authorization": "Bearer bench", "Content-Type": "application/json"}


async def main(port: int, rate: float) -> None:
    """POST at the rate."""
    url = f"http://127.0.0.1:{port}/api/v1/subaccounts/bench/callflows"
    async with (
        import_module("httpx_aiohttp").HttpxAiohttpClient(trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):

        async def post() -> None:
            response = await client.post(url, content=BODY, headers=HEADERS)
            assert response.json()["sessionStatus"] == "CREATED", response

        clock = asyncio.get_running_loop().time
        next_at = clock()
        while True:
            group.create_task(post())
            next_at += 1 / rate
            await asyncio.sleep(next_at - clock())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
