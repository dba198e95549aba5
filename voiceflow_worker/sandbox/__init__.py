"""An 8x8 to run against.

It validates like the service, calls nobody, tells in a ledger whom it would have called, and misbehaves to order.
"""

from __future__ import annotations

from voiceflow_worker.sandbox.service import Sandbox

__all__ = ["Sandbox"]
