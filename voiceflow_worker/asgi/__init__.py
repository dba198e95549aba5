"""An ASGI server that runs inside this process. The sandbox, the webhook receiver and metrics use it."""
