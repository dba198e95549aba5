"""The engine: queue, worker, sending, settling, sweep. It knows ports, never drivers; it runs on asyncio and trio."""
