"""The phone calls of task instances: their identity, enqueueing, cancellation and failures."""
