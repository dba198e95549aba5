"""Runs an ASGI app within this process; what the sandbox, the webhook receiver and the command line share."""
