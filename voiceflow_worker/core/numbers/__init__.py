"""Phone numbers across queues: locks on open calls, the suppression list, and numbers that 8x8 has reported."""
