"""Memory of processes that run for long."""

from __future__ import annotations

import gc
import subprocess
import sys

from tests.cli.eight_by_eight import EightByEight
from tests.cli.running import Program

PROGRAM = """
import weakref
from voiceflow_worker.cli.process import collect_less

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


def test_a_worker_of_one_process_collects_as_seldom_as_those_of_several(
    voiceflow: Program, eight: EightByEight
) -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        assert voiceflow("worker", "--drain").code == 0
        assert gc.get_threshold()[0] > 700
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
