"""The command line `voiceflow`. Each command has a module; `program` has the list of commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command in `sys.argv`, and end the process with the command's exit code."""
    from voiceflow_worker.errors import MissingExtraError, require_extra

    try:
        require_extra("cli", "cyclopts", "rich", what="the command `voiceflow` needs")
    except MissingExtraError as error:
        sys.exit(f"voiceflow: {error}")
    from voiceflow_worker.cli.program import run

    sys.exit(run(sys.argv[1:]))
