"""Calls of task instances: identity, cancellation, failures, the store and the event loop."""
