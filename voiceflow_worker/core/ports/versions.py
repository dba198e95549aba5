"""Reports of stored values that only a newer version can read."""

from __future__ import annotations

from functools import lru_cache

import structlog

_log = structlog.get_logger("voiceflow.store")


def report_unreadable(record: str, error: Exception) -> None:
    """Log, once in this process, that a record was left out because this version cannot read it."""
    _report(record, str(error))


@lru_cache(maxsize=1024)
def _report(record: str, reason: str) -> None:
    _log.error(
        "a record is left out: a newer version of voiceflow-worker wrote it; upgrade this installation",
        record=record,
        reason=reason,
    )
