"""The choice of journal files on this machine, by the settings."""

from __future__ import annotations

from voiceflow_worker.backends.witness import JournalFiles, journal_folder
from voiceflow_worker.settings import Settings


def journal_files(settings: Settings) -> JournalFiles | None:
    """The journal files of the store, in which workers record what they send; None if there are none.

    A Redis may restart from an older file by itself, so it always has journal files. A SQLite file goes back only when
    a person replaces it, and is often deleted to start anew, which would look the same: it has journal files only if
    `state_dir` is set. A store in memory ends with its process, and has none.
    """
    scheme = settings.store.partition(":")[0].lower()
    if scheme == "memory" or (scheme in {"sqlite", "file"} and settings.state_dir is None):
        return None
    return JournalFiles(journal_folder(settings.store, settings.state_folder()))
