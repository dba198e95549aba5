"""A web shop with FastAPI and SQLAlchemy: an order and the call about it are stored in one transaction, or neither is.

The store is in the same PostgreSQL database as the orders, in a schema of its own. Nobody is called: a sandbox in this
process simulates 8x8.

    python examples/one_transaction/fastapi_and_sqlalchemy.py postgresql://user@host/database

Only the first run in a database calls: no receiver takes the outcome that a further call of the number waits for.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
from fastapi import FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from voiceflow_worker import CallFlow, CallQueue, Sandbox, VoiceClient, Worker, open_store


class Base(DeclarativeBase):
    """The tables of the shop."""


class Order(Base):
    """An order of a customer."""

    __tablename__ = "shop_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    phone: Mapped[str]


def make_app(url: str) -> FastAPI:
    """Make the shop, with its orders and its calls in the database at this URL."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    new_session: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with open_store(url) as store:
            app.state.queue = CallQueue(store)
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders")
    async def order(phone: str, in_stock: bool = True) -> dict[str, str]:  # noqa: FBT001, FBT002 - of the query
        async with new_session.begin() as session:  # commits at its end; an error rolls back
            made = Order(phone=phone)
            session.add(made)
            await session.flush()
            flow = CallFlow.call(phone, source="+6531234567").say(
                f"Thank you for order {made.id}.", voice_profile="en-IE-EmilyNeural"
            )
            queue: CallQueue = app.state.queue
            raw = await (await session.connection()).get_raw_connection()  # psycopg's own is in it
            job = await queue.enqueue(
                flow,
                unique_key=f"shop-order-{made.id}",
                valid_for=timedelta(hours=2),
                connection=raw.driver_connection,
            )
            if not in_stock:
                raise HTTPException(409, "not in stock")
        return {"call": job.id}

    return app


async def main(url: str) -> None:
    """Take two orders, of which one fails, and call who was promised a call."""
    app = make_app(url)
    async with app.router.lifespan_context(app):
        shop = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")
        async with shop:
            for phone, in_stock in [("+6587654321", True), ("+6587654322", False)]:
                answer = await shop.post("/orders", params={"phone": phone, "in_stock": in_stock})
                print(f"order of {phone}: {answer.status_code}")

        sandbox = Sandbox()
        async with sandbox.running() as sandbox_url, VoiceClient("any-key", "demo", base_url=sandbox_url) as voice:
            await Worker(app.state.queue.store, voice, rate=10).drain()
        for call in sandbox.ledger:
            print(f"{call.destination} was called")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
