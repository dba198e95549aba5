"""The file of the policies of escalations, which is read again whenever it changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from voiceflow_worker.service.escalation import Policies, read_policies
from voiceflow_worker.watched_file import WatchedFile

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings


class PolicyFile:
    """The policies of a file, as it last was right. Without a path, there are none.

    Raises InvalidInputError if the file is wrong at the start. Later, a wrong file is told, by the log and by
    `problem`, and the policies stay as they were.
    """

    def __init__(self, path: Path | None, *, settings: Settings | None) -> None:
        self._file: WatchedFile[Policies] | None = None
        if path is not None:
            read = partial(read_policies, path, settings=settings)
            self._file = WatchedFile(path, read, first=read(), every=0.0)

    @property
    def problem(self) -> str | None:
        """What is wrong with the file as it is now."""
        return None if self._file is None else self._file.problem

    async def current(self) -> Policies:
        """The policies as they are now; the file is read again if it has changed."""
        return {} if self._file is None else await to_thread.run_sync(self._file)
