"""The sandbox: a simulator of 8x8 that calls nobody.

It checks requests as 8x8 does, records calls in a ledger, and simulates the faults that tests order.
"""

from __future__ import annotations

from voiceflow_worker.sandbox.service import Sandbox

__all__ = ["Sandbox"]
