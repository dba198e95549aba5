"""A rate limit for one process. The rate of a queue, over all its workers, is kept in the store."""

from __future__ import annotations

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
