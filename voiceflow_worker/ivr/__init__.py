"""IVR menus as code: they answer an event of a call with a call flow, and need neither a store nor the network."""

from __future__ import annotations

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
