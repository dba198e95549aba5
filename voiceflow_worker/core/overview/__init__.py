"""The state of queues and calls for people: status, reasons for waiting, the story of a call."""
