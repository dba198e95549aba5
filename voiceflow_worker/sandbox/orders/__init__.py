"""Orders to the sandbox: the ends of calls, the delivery of events, and faults."""
