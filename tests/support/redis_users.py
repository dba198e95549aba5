"""Users of a Redis server with the rights that docs/stores.md gives them, or with others."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.redis_server import RedisServer

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
(RULE,) = re.findall(r"^ACL SETUSER voiceflow on >secret (.+)$", _PAGE, re.MULTILINE)
"""What the page gives a user of a strict store."""
BEST_EFFORT_RULE = RULE.removesuffix(" +config|get +info")
"""What a user of a store with best effort needs."""


def url_of(server: RedisServer, *rules: str) -> str:
    """The URL of a user who has these rights, and no others."""
    words = " ".join(rules).split()
    server.ask("ACL", "SETUSER", "voiceflow", "reset", "on", ">secret", *words)
    return server.url.replace("redis://", "redis://voiceflow:secret@")
