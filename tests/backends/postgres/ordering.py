"""A shop that takes orders until it is killed: half of its transactions are rolled back, and some race for a key.

python tests/backends/postgres/ordering.py URL SCHEMA NAME COUNT
"""

from __future__ import annotations

import random
import sys

import psycopg

from voiceflow_worker import CallFlow, enqueue_in


def main(url: str, schema: str, name: str, count: str) -> None:
    chance = random.Random(name)
    with psycopg.connect(url) as connection:
        for place in range(int(count)):
            raced = chance.random() < 0.3
            key = f"raced-{place % 97}" if raced else f"{name}-{place}"
            number = "+65" + (f"8000{place % 97:04}" if raced else f"8{int(name) + 1}{place:06}")
            flow = CallFlow.call(number, source="+6531234567").say("Thank you.", voice_profile="en-IE-EmilyNeural")
            connection.execute(f"INSERT INTO {schema}.orders VALUES (%s)".encode(), [key])
            enqueue_in(connection, flow, schema=schema, unique_key=key, batch=f"shop-{int(name) % 3}")
            if chance.random() < 0.5:
                connection.rollback()
            else:
                connection.commit()
    sys.stdout.write("closed\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
