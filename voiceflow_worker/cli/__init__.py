"""The command line `voiceflow`. Each command has a module; `program` assembles the commands."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Any, cast


def main() -> None:
    """Run the command in `sys.argv`, and end the process with the command's exit code."""
    if sys.argv[1:] == ["--version"]:
        from voiceflow_worker.cli.output import version_text

        return print(version_text())
    gc.set_threshold(100_000)  # modules are objects that stay: with 700, a hold takes an eighth longer
    _load_structlog()
    sys.modules["httpx._main"] = cast("Any", None)  # httpx loads its own command line: a tenth of a second, 4 MB
    from voiceflow_worker.errors import MissingExtraError, require_extra

    try:
        require_extra("cli", "cyclopts", "rich", what="the command `voiceflow` needs")
    except MissingExtraError as error:
        sys.exit(f"voiceflow: {error}")
    from voiceflow_worker.cli.program import run

    sys.exit(run(sys.argv[1:]))


def _load_structlog() -> None:
    """Load structlog without rich: our tracebacks are plain, and a hold has no tenth of a second for others."""
    if not {"structlog", "rich"} & sys.modules.keys():
        sys.modules["rich"] = cast("Any", None)
        try:
            import_module("structlog")
        finally:
            del sys.modules["rich"]
