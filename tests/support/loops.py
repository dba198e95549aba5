"""The event loops of the tests: asyncio, unless a test asks for both because the loop can matter to it."""

from __future__ import annotations

import pytest

either_loop = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
"""For about fifty tests: cancellation, time limits, the transports, the stop of a worker, a store's whole way."""
