"""The file of the policies of escalations, which is read again whenever it changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from anyio import to_thread

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.service.escalation import Policies, read_policies

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

_log = structlog.get_logger("voiceflow.escalation")


class PolicyFile:
    """The policies of a file, as it last was right. Without a path, there are none.

    Raises InvalidInputError if the file is wrong at the start. Later, a wrong file is told, by the log and by
    `problem`, and the policies stay as they were.
    """

    def __init__(self, path: Path | None, *, settings: Settings | None) -> None:
        self._path = path
        self._settings = settings
        self.problem: str | None = None
        """What is wrong with the file as it is now."""
        self._seen = None if path is None else _seen(path)
        self._policies: Policies = {} if path is None else read_policies(path, settings=settings)

    async def current(self) -> Policies:
        """The policies as they are now; the file is read again if it has changed."""
        if self._path is not None:
            await to_thread.run_sync(self._look, self._path)
        return self._policies

    def _look(self, path: Path) -> None:
        if (seen := _seen(path)) == self._seen:
            return
        self._seen = seen
        try:
            policies = read_policies(path, settings=self._settings)
        except InvalidInputError as error:
            self.problem = str(error)
            _log.error("the policies of escalations were not read again; the old ones stay", problem=self.problem)
        else:
            self._policies, self.problem = policies, None
            _log.info("the policies of escalations were read again", file=str(path), policies=sorted(policies))


def _seen(path: Path) -> tuple[int, int, int] | None:
    """What shows that a file has changed; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
