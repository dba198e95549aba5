"""Tries of tasks, killed or stopped at random moments: `-m` this module, where a connection is set.

The arguments: the operator, how many tries of one task run at once, how many are killed, and the seed. Each try of a
campaign has its list in another order and without some of its people. When a try has ended, the next run begins, with
other people. The last try of each run has the whole list, and goes to its end. It prints the number of runs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import timedelta
from typing import Any

from airflow_provider.calls import waiting
from tests.airflow.scene import call, campaign, context, row

PEOPLE = 12


def people(kind: str, run: int) -> list[str]:
    """The numbers of a run."""
    return [f"+658766{run:02d}{place:02d}" for place in range(PEOPLE if kind == "campaign" else 1)]


def tried(kind: str, run: int, tried: int, order: random.Random, *, most: int = 0) -> None:
    """One try, which Airflow may stop."""
    numbers = people(kind, run)
    order.shuffle(numbers)
    waiting.DOUBT_TIMEOUT = timedelta(seconds=1)
    if kind == "campaign":
        task: Any = campaign([row(each) for each in numbers[order.randint(0, most) :]], fail_ratio=1.0, fail_on=())
    else:
        task = call(numbers[0], fail_on=())
    signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    try:
        task.execute(context(run=f"run{run}", tried=tried))
    except Exception as error:
        if "is in doubt" not in str(error):
            raise


def begun(kind: str, run: int, number: int, seed: int) -> int:
    """The id of the process of a new try."""
    if (process := os.fork()) == 0:
        code = 1
        try:
            tried(kind, run, number, random.Random(seed), most=3)
            code = 0
        finally:
            os._exit(code)
    return process


def main(kind: str, at_once: int, kills: int, seed: int) -> None:
    """Begin tries, and kill them."""
    moments, run, killed, number = random.Random(seed), 0, 0, 0
    tries: list[int] = []
    while killed < kills:
        while len(tries) < at_once:
            number += 1
            tries.append(begun(kind, run, number, moments.randrange(1 << 30)))
        time.sleep(moments.uniform(0, 1.5))
        for process in list(tries):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                tries.remove(process)
                run += status == 0
        if tries:
            process = tries.pop(moments.randrange(len(tries)))
            os.kill(process, signal.SIGTERM if moments.random() < 0.3 else signal.SIGKILL)
            os.waitpid(process, 0)
            killed += 1
    for process in tries:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    time.sleep(61)  # what a killed try was importing is taken over then
    for each in range(run + 1):
        tried(kind, each, number + 1, moments)
    sys.stdout.write(f"{run + 1}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
