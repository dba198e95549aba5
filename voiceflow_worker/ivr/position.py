"""The position of a caller in the menus, carried in `clientActionId` so that any replica can read it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

LONGEST = 200
"""The most characters of a token. 8x8 documents no limit; its other ids have 50."""

_VERSION = "vf1"
_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
NAME = re.compile(_NAME)
_TOKEN = re.compile(
    rf"{_VERSION}\.((?:{_NAME})(?:/{_NAME})*)\.(\d{{1,3}})\.(\d{{1,3}})\.([qsbe])\.([0-9a-f]{{8}})", re.ASCII
)


class CallPhase(Enum):
    """The state of a call after the last answer."""

    ASKED = "q"
    STEPPING = "s"
    """A text or recording comes before the question, so an event without keys may only mean that it is over."""
    BRIDGED = "b"
    """Another party was called."""
    ENDED = "e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of a caller. `path` has the names of the menus from the first one to the menu that asked.

    `tries` counts the invalid answers to the last question, `asked` the questions of the whole call.
    """

    path: tuple[str, ...]
    tries: int = 0
    asked: int = 0
    phase: CallPhase = CallPhase.ASKED

    def write(self) -> str:
        """The token: version, path, counts, phase, and a checksum. It contains nothing about the person."""
        path = _within(self.path)
        content = f"{_VERSION}.{'/'.join(path)}.{min(self.tries, 999)}.{min(self.asked, 999)}.{self.phase.value}"
        return f"{content}.{_checksum(content)}"

    @classmethod
    def read(cls, token: str) -> Self | None:
        """The position in a token; None for a foreign or changed token, and for a token of another version."""
        match = _TOKEN.fullmatch(token) if len(token) <= 2 * LONGEST else None
        if match is None or _checksum(token[: match.start(5) - 1]) != match[5]:
            return None
        return cls(path=tuple(match[1].split("/")), tries=int(match[2]), asked=int(match[3]), phase=CallPhase(match[4]))


def _within(path: Sequence[str]) -> Sequence[str]:
    """The path, cut so that its token fits: the first menu and the last ones. Settings of the others are lost."""
    room = LONGEST - len(f"{_VERSION}..999.999.q.{'0' * 8}")
    first, *rest = path
    while rest and len("/".join((first, *rest))) > room:
        rest.pop(0)
    return (first, *rest)


def _checksum(content: str) -> str:
    # Protects against accidents and foreign ids only. Events are authenticated before, by their header.
    return hashlib.blake2s(content.encode(), digest_size=4, person=b"vf-ivr").hexdigest()
