"""The sandbox: a simulator of 8x8 that calls nobody.

It checks requests as 8x8 does, records calls in a ledger, and simulates the ends, key presses, events and faults that
tests order.
"""

from __future__ import annotations

import voiceflow_worker.asgi as _  # noqa: F401 - first, because it says what a server needs
from voiceflow_worker.sandbox.orders import KeyPress, Script
from voiceflow_worker.sandbox.service import Sandbox

__all__ = ["KeyPress", "Sandbox", "Script"]
