"""Phone numbers across queues: locks for one open call a number, the suppression list, and the numbers' health."""
