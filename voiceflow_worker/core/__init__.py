"""The engine: queue, worker, submission, settling and sweep, on ports instead of drivers, for asyncio and trio."""
