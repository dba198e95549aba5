"""`voiceflow`, in a process that writes down the callbacks which kept its event loop busy.

`TEST_BLOCKS_FILE` names the file: a line for each, with the time of its end, and the seconds of processor time
that it took. What else the machine does changes nothing of them.
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
    """Let each callback of an event loop that takes long be written into a file."""
    handles: Any = events.Handle
    run = handles._run
    file = path.open("a", buffering=1)

    def counted(handle: events.Handle) -> None:
        began = time.thread_time()
        run(handle)
        took = time.thread_time() - began
        if took >= WRITTEN_FROM:
            file.write(f"{time.time()} {took}\n")

    handles._run = counted


if __name__ == "__main__":
    count_blocks(Path(os.environ["TEST_BLOCKS_FILE"]))
    main()
