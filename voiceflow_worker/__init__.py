"""Phone people through the 8x8 Voice API, from a queue, at a set rate: never twice, never lost, never late.

The names listed in `__init__.pyi` are public. Each is loaded when it is first used.
"""

from __future__ import annotations

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
