"""Read-only pages: queues, calls and batches."""
