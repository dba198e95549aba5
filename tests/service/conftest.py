from __future__ import annotations

from tests.console.conftest import memory, store, store_url

__all__ = ["memory", "store", "store_url"]
