"""Tries of campaign tasks, killed or stopped at random moments: `-m` this module, where a connection is set.

The arguments: how many tries of one task run at once, how many are killed, and the seed. Each try has its list in
another order, with numbers spelt in another way, corrected names, and without some of its people. When a try has ended,
the next run begins, with other people. The last try of each run lists all, and goes to its end. It
prints the number of runs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import timedelta
from typing import Any

from tests.airflow.scene import campaign, context

PEOPLE = 12


def people(run: int) -> list[dict[str, str]]:
    """The rows of a run: two of them have one number."""
    numbers = [f"+658766{run:02d}{place:02d}" for place in range(PEOPLE)]
    return [{"destination": number, "name": "Ann"} for number in numbers] + [{"destination": numbers[0], "name": "Bo"}]


def changed(rows: list[dict[str, str]], order: random.Random, *, most: int) -> list[dict[str, str]]:
    """The list as a try has it, without so many of its people at most."""
    first = rows[0]["destination"]
    for row in rows:
        digits = row["destination"][3:]
        if row["destination"] != first and order.random() < 0.2:
            row["name"] = f"Ann {order.randint(0, 999)}"
        row["destination"] = order.choice((digits, f"+65 {digits[:4]} {digits[4:]}", f"0065{digits}", f"+65{digits}"))
        row["seen"] = str(order.random())
    order.shuffle(rows)
    return rows[order.randint(0, most) :]


def tried(run: int, order: random.Random, *, most: int = 0) -> None:
    """One try, which Airflow may stop."""
    task = campaign(
        changed(people(run), order, most=most), country="SG", fail_ratio=1.0, doubt_timeout=timedelta(seconds=1),
    )  # fmt: skip

    def stopped(*_: Any) -> None:
        task.on_kill()
        raise SystemExit(1)

    signal.signal(signal.SIGTERM, stopped)
    task.execute(context(run=f"run{run}", max_tries=3))


def begun(run: int, seed: int) -> int:
    """The id of the process of a new try."""
    if (process := os.fork()) == 0:
        code = 1
        try:
            tried(run, random.Random(seed), most=3)
            code = 0
        finally:
            os._exit(code)
    return process


def main(at_once: int, kills: int, seed: int) -> None:
    """Begin tries, and kill them."""
    moments, run, killed = random.Random(seed), 0, 0
    tries: list[int] = []
    while killed < kills:
        tries += [begun(run, moments.randrange(1 << 30)) for _ in range(at_once - len(tries))]
        time.sleep(moments.uniform(0, 3))
        for process in list(tries):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                tries.remove(process)
                run += status == 0
        if tries:
            process = tries.pop(moments.randrange(len(tries)))
            os.kill(process, signal.SIGTERM if moments.random() < 0.2 else signal.SIGKILL)
            os.waitpid(process, 0)
            killed += 1
    for process in tries:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    for each in range(run + 1):
        tried(each, moments)
    sys.stdout.write(f"{run + 1}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
