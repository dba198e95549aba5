"""An ASGI server within this process, for the sandbox, the webhook receiver and metrics."""
