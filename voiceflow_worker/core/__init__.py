"""The engine: it queues, sends and settles calls, on asyncio or trio. It uses stores and 8x8 only through ports."""
