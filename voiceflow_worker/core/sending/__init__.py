"""Sending: leased jobs are journalled and become POSTs, at the rate of the queue."""
