"""Notifications of outcomes to another system: signed (Standard Webhooks), sent over HTTP, and verified."""

from __future__ import annotations

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
