"""Read-only pages for people: where queues stand, the story of a call, what became of a batch."""
