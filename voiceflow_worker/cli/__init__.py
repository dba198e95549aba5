"""The command line, `voiceflow`, with one module for each command; `program` assembles them."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that this process was started with, and end the process with its exit code."""
    from voiceflow_worker.cli.program import run

    sys.exit(run(sys.argv[1:]))
