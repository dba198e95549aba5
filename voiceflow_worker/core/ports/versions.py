"""Records of another version: what cannot be read is left out, and told once."""

from __future__ import annotations

from functools import lru_cache

import structlog

_log = structlog.get_logger("voiceflow.store")


def tell_left_out(what: str, why: Exception) -> None:
    """Tell, once in this process, that `what` was left out because this version cannot read it."""
    _tell(what, str(why))


@lru_cache(maxsize=1024)
def _tell(what: str, why: str) -> None:
    _log.error(
        "a record is left out: a newer version of voiceflow-worker wrote it; upgrade this installation",
        record=what,
        reason=why,
    )
