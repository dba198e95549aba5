"""A stand-in for 8x8 that calls nobody.

It validates like the service, records the calls in a ledger, and shows faults on order.
"""

from __future__ import annotations

from voiceflow_worker.sandbox.service import Sandbox

__all__ = ["Sandbox"]
