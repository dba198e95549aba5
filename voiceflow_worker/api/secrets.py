"""The secrets of programs: who a program is by its secret, and what it may do.

VOICEFLOW_API_SECRET is one secret, of a program named `api` with all rights. VOICEFLOW_API_SECRETS names a file with a
line for each secret: the program's name, the secret, its rights. Two lines may have the same name, so that a secret can
be changed without a refused request.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.secret_text import why_guessable
from voiceflow_worker.settings import read_small

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][\w.@-]{0,59}", re.ASCII)
_BETWEEN = re.compile(r"[\s,;]+")


class Right(StrEnum):
    """What a program may do: look, let phones ring, or steer what others have ordered."""

    READ = "read"
    CALL = "call"
    STEER = "steer"


@dataclass(frozen=True, slots=True)
class Program:
    """One secret of a program."""

    name: str
    secret: str
    rights: frozenset[Right]


class ApiSecrets:
    """The secrets that open the HTTP API. Raises SettingsError if there is none, or one is wrong."""

    def __init__(self, settings: Settings) -> None:
        own, path = settings.secret_values("api_secret"), settings.api_secrets
        if not own and path is None:
            raise SettingsError(
                "the HTTP API needs a secret: set VOICEFLOW_API_SECRET to a long random text (`openssl rand -hex 32` "
                "makes one), which programs send as `Authorization: Bearer …`; or name a file of secrets by "
                "VOICEFLOW_API_SECRETS"
            )
        named = () if path is None else read_programs(path)
        self.programs: Sequence[Program] = [*(Program("api", value, frozenset(Right)) for value in own), *named]

    def whose(self, secret: bytes) -> Program | None:
        """Return the program that has this secret. Takes as long, whichever it is."""
        found = [each for each in self.programs if hmac.compare_digest(each.secret.encode(), secret)]
        return found[0] if found else None


def read_programs(path: Path) -> tuple[Program, ...]:
    """Read the secrets in a file. Raises SettingsError, which names the line, and no secret."""
    text = read_small(path, f"VOICEFLOW_API_SECRETS names {path}, which", str)
    found: list[Program] = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = [part for part in _BETWEEN.split(line.strip()) if part]
        if parts and not parts[0].startswith("#"):
            try:
                found.append(_program(parts, {each.secret for each in found}))
            except ValueError as error:
                raise SettingsError(f"VOICEFLOW_API_SECRETS: line {number} of {path} {error}") from None
    if not found:
        raise SettingsError(
            f"VOICEFLOW_API_SECRETS: {path} has no secret; write a name, a secret and rights in each line"
        )
    return tuple(found)


def _program(parts: Sequence[str], taken: set[str]) -> Program:
    name, secret, *rights = *parts, *[""] * (2 - len(parts))
    if _NAME.fullmatch(name) is None:
        raise ValueError("begins with no name of a program: give 1 to 60 letters, digits, ., _, @ and -")
    if why := why_guessable(secret):
        raise ValueError(f"has a secret that {why}")
    if secret in taken:
        raise ValueError("has a secret that something else has too: give each program its own")
    if unknown := [right for right in rights if right not in set(Right)] or not rights:
        said = f"{unknown[0]!r} is no right" if isinstance(unknown, list) else "it has no rights"
        raise ValueError(f"is wrong: {said}; the rights are {', '.join(Right)}")
    return Program(name, secret, frozenset(map(Right, rights)))
