"""A confirmation prompt for commands that delete something at 8x8."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import Flag
from voiceflow_worker.errors import InvalidInputError

YesOption = Annotated[bool, Flag, Parameter(help="Do not ask first.")]


def is_sure(question: str, *, yes: bool) -> bool:
    """Whether the user confirms this, with --yes or at the terminal. Raises InvalidInputError without a terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question} Nobody can be asked here: give --yes if it is meant")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}
