"""Phone numbers across queues: locks, the suppression list, and the health of the account's numbers."""
