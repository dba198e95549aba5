"""Calls about orders: each order is marked as told and its call is queued in one transaction, or neither happens.

The store is in the same PostgreSQL database as the orders, in the schema `voiceflow`. A try that dies leaves nothing
half done, and the next one goes on with the orders that are not marked. Nobody on the suppression list is called, and
the other orders go on. `voiceflow-worker[postgres]` brings psycopg 3.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, BaseHook, task

READY = """
UPDATE orders SET told_at = now() WHERE id IN (
    SELECT id FROM orders WHERE is_ready AND told_at IS NULL ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
)
RETURNING id, phone
"""

with DAG(
    "calls_of_orders",
    schedule="*/10 * * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 (Airflow reads it as UTC)
    catchup=False,
    params={"conn_id": "orders"},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
) as dag:

    @task
    def queue_calls(params: dict[str, Any] | None = None) -> int:
        """Queue a call for each order that is ready, a hundred in one transaction; returns their number."""
        import psycopg

        from voiceflow_worker import CallFlow, enqueue_in
        from voiceflow_worker.errors import SuppressedNumberError

        place = BaseHook.get_connection((params or {})["conn_id"])
        queued = 0
        with psycopg.connect(place.get_uri()) as connection:
            while orders := connection.execute(READY).fetchall():
                for order, phone in orders:
                    flow = CallFlow.call(phone, source="+6531234567").say(
                        f"Your order {order} is ready.", voice_profile="en-IE-EmilyNeural"
                    )
                    with suppress(SuppressedNumberError):  # it leaves the transaction as it was
                        enqueue_in(connection, flow, unique_key=f"ready-{order}", valid_for=timedelta(hours=2))
                connection.commit()
                queued += len(orders)
        return queued

    queue_calls()
