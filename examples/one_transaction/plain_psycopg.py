"""An order and the call about it, stored in one transaction: both are there, or neither. With psycopg alone.

The store is in the same PostgreSQL database as the orders, in a schema of its own. Nobody is called: a sandbox in this
process simulates 8x8.

    python examples/one_transaction/plain_psycopg.py postgresql://user@host/database

Only the first run in a database calls: no receiver takes the outcome that a further call of the number waits for.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import psycopg

from voiceflow_worker import CallFlow, CallQueue, Sandbox, VoiceClient, Worker, open_store

ORDERS = "CREATE TABLE IF NOT EXISTS orders (id integer GENERATED ALWAYS AS IDENTITY, phone text, in_stock boolean)"
ORDER = "INSERT INTO orders (phone, in_stock) VALUES (%s, %s) RETURNING id"


async def order(connection: psycopg.AsyncConnection, queue: CallQueue, phone: str, *, in_stock: bool) -> None:
    """Store an order, and queue the call that confirms it. An error undoes both."""
    async with connection.transaction():
        [[number]] = await (await connection.execute(ORDER, (phone, in_stock))).fetchall()
        flow = CallFlow.call(phone, source="+6531234567").say(
            f"Thank you for order {number}.", voice_profile="en-IE-EmilyNeural"
        )
        await queue.enqueue(flow, unique_key=f"order-{number}", valid_for=timedelta(hours=2), connection=connection)
        if not in_stock:
            raise LookupError(f"order {number} is not in stock")


async def main(url: str) -> None:
    """Take two orders, of which one fails, and call who was promised a call."""
    async with open_store(url) as store, await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        queue = CallQueue(store)
        await connection.execute(ORDERS)
        await order(connection, queue, "+6587654321", in_stock=True)
        try:
            await order(connection, queue, "+6587654322", in_stock=False)
        except LookupError as error:
            print(error)

        sandbox = Sandbox()
        async with sandbox.running() as sandbox_url, VoiceClient("any-key", "demo", base_url=sandbox_url) as voice:
            await Worker(store, voice, rate=10).drain()
        for call in sandbox.ledger:
            print(f"{call.destination} was called")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
