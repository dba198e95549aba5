"""The engine: queue, worker, submit, settle, sweep. It knows ports, never drivers, and runs on asyncio and on trio."""
