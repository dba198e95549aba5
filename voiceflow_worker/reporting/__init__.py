"""The state of queues and calls for people: status, reports, reasons for waiting, stories of calls."""
