"""The journal files that belong to the store of these settings, on this machine."""

from __future__ import annotations

from voiceflow_worker.backends.witness import JournalFiles, journal_folder
from voiceflow_worker.settings import Settings


def journal_files(settings: Settings) -> JournalFiles | None:
    """Where workers keep what they sent, apart from the store; None where nobody asked for it.

    A Redis may come back from an older file without anybody's doing, so there it is always on. A SQLite file goes back
    only when somebody puts an older copy in its place, and is often deleted to begin anew, which would look the same:
    there it is on where VOICEFLOW_STATE_DIR is set. A store in memory ends with its process.
    """
    scheme = settings.store.partition(":")[0].lower()
    if scheme == "memory" or (scheme in {"sqlite", "file"} and settings.state_dir is None):
        return None
    return JournalFiles(journal_folder(settings.store, settings.state_folder()))
