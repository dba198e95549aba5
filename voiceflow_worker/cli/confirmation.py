"""A confirmation prompt for commands that delete something at 8x8."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.errors import InvalidInputError

YesOption = Annotated[bool, Parameter(negative=(), show_default=False, help="Do not ask first.")]


def is_sure(question: str, *, yes: bool) -> bool:
    """Whether it is meant: said by --yes, or at the terminal. Raises InvalidInputError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question} Nobody can be asked here: give --yes if it is meant")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}
