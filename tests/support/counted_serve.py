"""`voiceflow`, in a process that writes down what it has used of a processor.

`TEST_BLOCKS_FILE` names the file: a line after each hundredth of a second of processor time, with the time, the seconds
that the last callback of the event loop took, and those of the process so far. What else the machine does changes
nothing of them.
"""

from __future__ import annotations

import os
import time
from asyncio import events
from pathlib import Path
from typing import Any

from voiceflow_worker.cli import main

WRITTEN_FROM = 0.01


def count_blocks(path: Path) -> None:
    """Let a file have the processor time of callbacks and of the process."""
    handles: Any = events.Handle
    run = handles._run
    file = path.open("a", buffering=1)
    written = 0.0

    def counted(handle: events.Handle) -> None:
        nonlocal written
        began = time.thread_time()
        run(handle)
        took, used = time.thread_time() - began, time.process_time()
        if used - written >= WRITTEN_FROM:
            written = used
            file.write(f"{time.time()} {took} {used}\n")

    handles._run = counted


if __name__ == "__main__":
    count_blocks(Path(os.environ["TEST_BLOCKS_FILE"]))
    main()
