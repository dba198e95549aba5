"""The SQLite store with the older port beside the nine methods."""

from __future__ import annotations

from voiceflow_worker.backends.older import OlderControl, OlderJobs, OlderRecords
from voiceflow_worker.backends.sqlite.store import SqliteStore


class OlderSqliteStore:
    """The store with both ports: the nine methods are those of `domain`."""

    def __init__(self, domain: SqliteStore) -> None:
        self.domain = domain
        self.url, self.clock, self.files = domain.url, domain.clock, domain.files
        self.writer, self.reader = domain.writer, domain.reader
        self.jobs = OlderJobs(domain)
        self.control = OlderControl(domain)
        self.records = OlderRecords(domain)
