"""A web shop with Django: an order and the call about it are stored in one transaction, or neither is.

The store is in the same PostgreSQL database as the orders, in a schema of its own. Views need no event loop and no open
store: they enqueue with `enqueue_in`. Nobody is called: a sandbox in this process simulates 8x8.

    python examples/one_transaction/django_shop.py postgresql://user@host/database

Only the first run in a database calls: no receiver takes the outcome that a further call of the number waits for.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path

from voiceflow_worker import CallFlow, Sandbox, VoiceClient, Worker, enqueue_in, open_store

ORDERS = """
CREATE TABLE IF NOT EXISTS django_orders (id integer GENERATED ALWAYS AS IDENTITY, phone text, in_stock boolean)
"""
ORDER = "INSERT INTO django_orders (phone, in_stock) VALUES (%s, %s) RETURNING id"


@transaction.atomic
def order(request: HttpRequest) -> JsonResponse:
    """Store an order, and queue the call that confirms it. An error undoes both."""
    phone, in_stock = request.POST["phone"], request.POST["in_stock"] == "yes"
    with connection.cursor() as cursor:
        cursor.execute(ORDER, [phone, in_stock])
        ((number,),) = cursor.fetchall()
    flow = CallFlow.call(phone, source="+6531234567").say(
        f"Thank you for order {number}.", voice_profile="en-IE-EmilyNeural"
    )
    job = enqueue_in(connection.connection, flow, unique_key=f"django-order-{number}", valid_for=timedelta(hours=2))
    if not in_stock:
        transaction.set_rollback(True)
        return JsonResponse({"error": "not in stock"}, status=409)
    return JsonResponse({"call": job.id})


urlpatterns = [path("orders", order)]


def take_orders(url: str) -> None:
    """Set Django up, and take two orders, of which one fails."""
    parts = urlsplit(url)
    place = {"HOST": parts.hostname, "PORT": parts.port, "USER": parts.username, "PASSWORD": parts.password}
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": parts.path.lstrip("/"), **place}
    settings.configure(DATABASES={"default": database}, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])
    django.setup()
    with connection.cursor() as cursor:
        cursor.execute(ORDERS)
    for phone, in_stock in [("+6587654321", "yes"), ("+6587654322", "no")]:
        answer = Client().post("/orders", {"phone": phone, "in_stock": in_stock})
        print(f"order of {phone}: {answer.status_code}")
    connection.close()


async def call(url: str) -> None:
    """Call who was promised a call. In life, `voiceflow worker` does this."""
    sandbox = Sandbox()
    async with (
        open_store(url) as store,
        sandbox.running() as sandbox_url,
        VoiceClient("any-key", "demo", base_url=sandbox_url) as voice,
    ):
        await Worker(store, voice, rate=10).drain()
    for each in sandbox.ledger:
        print(f"{each.destination} was called")


async def make_store(url: str) -> None:
    """Make the tables of the store, as the first worker would."""
    async with open_store(url):
        pass


if __name__ == "__main__":
    asyncio.run(make_store(sys.argv[1]))
    take_orders(sys.argv[1])
    asyncio.run(call(sys.argv[1]))
