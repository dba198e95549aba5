"""A confirmation prompt for commands that cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import Flag
from voiceflow_worker.errors import InvalidInputError

YesOption = Annotated[bool, Flag, Parameter(help="Do not ask for confirmation.")]


def is_sure(question: str, *, yes: bool) -> bool:
    """True if the user confirms, by --yes or at the terminal. Raises InvalidInputError if there is no terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question} Input is not a terminal, so nobody can confirm: give --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}
