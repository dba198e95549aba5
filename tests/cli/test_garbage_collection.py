"""Memory of processes that run for long."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import weakref
from voiceflow_worker.cli.opening import collect_less

class Connection:
    def __init__(self):
        self.itself = self

collect_less()
connections = [Connection() for _ in range(30_000)]  # enough to be looked at once while they are open
first = weakref.ref(connections[0])
connections.clear()
others = [[] for _ in range(400_000)]
print("freed" if first() is None else "kept")
"""


def test_closed_connections_are_freed_before_they_fill_the_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "freed"
