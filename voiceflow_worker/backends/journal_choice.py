"""The choice, from the settings, of whether the workers of this machine write journal files."""

from __future__ import annotations

from voiceflow_worker.backends.witness import JournalFiles, journal_folder
from voiceflow_worker.settings import Settings


def journal_files(settings: Settings) -> JournalFiles | None:
    """The journal files of the store, in which workers record the calls that they send; None for no journal files.

    A Redis store always has journal files, because its server may restart by itself from an older state. A SQLite store
    returns to an older state only if a person replaces its file, so it has journal files only if `state_dir` is set.
    Journal files have a disadvantage there: if a person deletes the store to start anew, a worker holds the queue. A
    store in memory has no journal files.
    """
    scheme = settings.store.partition(":")[0].lower()
    if scheme == "memory" or (scheme in {"sqlite", "file"} and settings.state_dir is None):
        return None
    return JournalFiles(journal_folder(settings.store, settings.state_folder()))
